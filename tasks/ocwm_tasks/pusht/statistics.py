"""What Push-T episodes look like in figures, beside the published ones.

Shape letters: F rows of all episodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from ocwm_tasks.pusht.episodes import Episodes
from ocwm_tasks.pusht.state import AGENT, ANGLE, BLOCK, VELOCITY, turn_between

OFFSET = 25  # steps: what planning tasks lie apart
_STEP_MOVE, _STEP_TURN = 1.0, np.pi / 180  # px, radians: less is standing still
_FAR_MOVE, _FAR_TURN = 20.0, np.pi / 9  # px, radians: the tolerances of success

# Of pusht_noise, as DINO-WM's code states them (arXiv 2411.04983).
PUBLISHED: Mapping[str, list[float]] = {
    "action_mean": [-0.0087, 0.0068],
    "action_std": [0.2019, 0.2002],
    "agent_velocity_std": [74.85, 74.14],
    "agent_std": [101.12, 87.01],
    "block_std": [52.71, 57.50],
}
_LABELS = {
    "episodes": "episodes",
    "rows": "rows",
    "shortest": "rows of the shortest episode",
    "median": "rows of the median episode",
    "longest": "rows of the longest episode",
    "action_mean": "action mean x, y (100 px)",
    "action_std": "action std x, y (100 px)",
    "agent_velocity_std": "agent velocity std x, y (px/s)",
    "agent_std": "agent position std x, y (px)",
    "block_std": "block position std x, y (px)",
    "step_moved": "steps in which the block moves > 1 px",
    "step_turned": "steps in which the block turns > 1 degree",
    "far_moved": f"{OFFSET} steps: moved > 20 px",
    "far_turned": f"{OFFSET} steps: turned > 20 degrees",
    "far_either": f"{OFFSET} steps: either",
    "unmoved": f"{OFFSET} steps: neither 1 px nor 1 degree",
}
_SHARES = {"step_moved", "step_turned", "far_moved", "far_turned", "far_either", "unmoved"}


def describe(episodes: Episodes) -> dict[str, Any]:
    """Return the figures of one split as JSON values: see `_LABELS`; shares are 0..1, None where no episode is so long."""
    states, lengths = np.asarray(episodes.states), episodes.lengths
    used = np.ones(episodes.rows, dtype=np.bool_)
    used[episodes.offsets[1:] - 1] = False  # the last row's action is no part of the episode
    actions = np.asarray(episodes.actions[used], dtype=np.float64)
    step_moved, step_turned = _changes(states, episodes.offsets, 1)
    far_moved, far_turned = _changes(states, episodes.offsets, OFFSET)
    return {
        "episodes": len(episodes),
        "rows": episodes.rows,
        "shortest": int(lengths.min()),
        "median": float(np.median(lengths)),
        "longest": int(lengths.max()),
        "action_mean": np.nanmean(actions, axis=0).tolist(),
        "action_std": np.nanstd(actions, axis=0).tolist(),
        "agent_velocity_std": states[:, VELOCITY].std(axis=0).tolist(),
        "agent_std": states[:, AGENT].std(axis=0).tolist(),
        "block_std": states[:, BLOCK].std(axis=0).tolist(),
        "step_moved": _share(step_moved > _STEP_MOVE),
        "step_turned": _share(step_turned > _STEP_TURN),
        "far_moved": _share(far_moved > _FAR_MOVE),
        "far_turned": _share(far_turned > _FAR_TURN),
        "far_either": _share((far_moved > _FAR_MOVE) | (far_turned > _FAR_TURN)),
        "unmoved": _share((far_moved <= _STEP_MOVE) & (far_turned <= _STEP_TURN)),
    }


def render(splits: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the figures of some splits (name -> `describe`) beside the published ones, as a table for people."""
    columns = {**splits, "published": PUBLISHED}
    rows = [[label, *(_text(name, facts.get(name)) for facts in columns.values())] for name, label in _LABELS.items()]
    return str(tabulate(rows, headers=["", *columns], tablefmt="plain", disable_numparse=True))


def _changes(
    states: NDArray[np.float64], offsets: NDArray[np.int64], steps: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far the block moves (px) and turns (radians) over all stretches of so many steps within an episode."""
    rows = np.arange(max(len(states) - steps, 0))
    number = np.searchsorted(offsets, rows, side="right")
    rows = rows[rows + steps < offsets[number]]
    moved = np.linalg.norm(states[rows + steps, BLOCK] - states[rows, BLOCK], axis=1)
    return moved, turn_between(states[rows + steps, ANGLE], states[rows, ANGLE])


def _share(hits: NDArray[np.bool_]) -> float | None:
    return float(hits.mean()) if len(hits) else None


def _text(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name in _SHARES:
        return f"{100 * value:.1f} %"
    if isinstance(value, list):
        return ", ".join(f"{part:.3f}" if name.startswith("action") else f"{part:.1f}" for part in value)
    return f"{value:,.0f}"
