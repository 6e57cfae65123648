"""Episodes for reports: what happened, where the goal was, and what was imagined, drawn from what runs kept.

Shape letters: P problems, E problems whose imagination is kept, S steps of the budget, K action blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocwm.evidence import Evidence, Picture, Shown, Strip, most_disputed
from ocwm.markup import grid
from ocwm_tasks.pusht.state import AGENT, ANGLE, ARENA, BLOCK, block_centre, turn_between

BLOCK_PATH = "M-60 0h120v30h-45v90h-30v-90h-45z"  # the T around its own origin, in px
AGENT_RADIUS = 15
HIT = "success.joint.first_hit"

_SIDE = 84  # px of a picture
_REACH = 95.0  # px from the block's centre of gravity to what is drawn furthest from it, and a little more
_FLOORS = ("random", "zero_action", "replay")  # nothing was planned there
_MOST = 10  # frames of a strip


def episodes(runs: Sequence[Shown], *, count: int, block: int) -> list[Evidence]:
    """Return strips of up to `count` problems, those first on which the runs differ most.

    Args:
        runs: on the same problems; those that kept no goals are left out, and so are floors.
        count: of problems.
        block: actions between two frames.
    """
    shown = [run for run in runs if {"states", "goals"} <= run.items.keys() and run.record.method not in _FLOORS]
    kept = min((len(run.items["imagined"]) for run in shown if "imagined" in run.items), default=None)
    hits = [
        dict(zip(run.items[f"{HIT}@item"].tolist()[:kept], run.items[HIT].tolist()[:kept], strict=True))
        for run in shown
    ]
    return [_episode(shown, hits, number, block) for number in most_disputed(hits, count=count)]


def _episode(runs: Sequence[Shown], hits: Sequence[Mapping[int, bool]], number: int, block: int) -> Evidence:
    goal = runs[0].items["goals"][number]
    strips, body = [], []
    for run, hit in zip(runs, hits, strict=True):
        states = run.items["states"][number]
        steps = np.unique(np.linspace(1, (len(states) - 1) // block, _MOST).round().astype(int)) * block
        imagined = run.items["imagined"][number] if "imagined" in run.items else states[:0]
        window = _window(np.concatenate([states, goal[None], imagined]))
        real = [_drawn(states[0], goal, window, "start")]
        real += [_drawn(states[step], goal, window, str(step)) for step in steps.tolist()]
        strips.append(Strip(f"{run.name}, {'reached' if hit[number] else 'not reached'}: real", tuple(real)))
        if len(imagined):
            thought = [_drawn(imagined[step // block - 1], goal, window, str(step)) for step in steps.tolist()]
            strips.append(Strip(f"{run.name}: imagined", (real[0], *thought)))
        body.append([run.name, "yes" if hit[number] else "no", *_left(states[-1], goal)])
    header = ["model", "reached", "agent left, px", "block left, px", "turn left, °"]
    return Evidence(
        title=f"Start and goal {number}",
        texts=(
            "Shaded: the goal. Numbers: actions taken. Imagined: by the world model from the frames that the last plan was "
            "made from, under the actions taken.",
        ),
        strips=tuple(strips),
        table=grid(header, body, words=2),
    )


def _left(state: NDArray[Any], goal: NDArray[Any]) -> list[str]:
    agent, block = (float(np.linalg.norm(state[part] - goal[part])) for part in (AGENT, BLOCK))
    return [f"{agent:.0f}", f"{block:.0f}", f"{np.degrees(turn_between(state[ANGLE], goal[ANGLE])):.0f}"]


def _window(states: NDArray[Any]) -> tuple[float, float, float]:
    """Left, top and side of the square in which everything takes place, within the arena."""
    blocks, agents = block_centre(states.astype(np.float64)), states[:, AGENT]
    low = np.minimum((blocks - _REACH).min(0), (agents - 2 * AGENT_RADIUS).min(0)).clip(0, ARENA)
    high = np.maximum((blocks + _REACH).max(0), (agents + 2 * AGENT_RADIUS).max(0)).clip(0, ARENA)
    side = float((high - low).max())
    left, top = ((low + high - side) / 2).clip(0, ARENA - side).tolist()
    return left, top, side


def _drawn(state: NDArray[Any], goal: NDArray[Any], window: tuple[float, float, float], caption: str) -> Picture:
    left, top, side = window
    shapes = _shapes(goal, "#cdebd0", "#cfe3fb") + _shapes(state, "#5b6b7b", "#2f6fde")
    svg = (
        f'<svg width="{_SIDE}" height="{_SIDE}" viewBox="{left:.0f} {top:.0f} {side:.0f} {side:.0f}" '
        f'xmlns="http://www.w3.org/2000/svg">{shapes}</svg>'
    )
    where = [f"{value:.0f}" for value in (*state[BLOCK], *state[AGENT])]
    words = (
        f"block at {where[0]}, {where[1]} turned by {np.degrees(state[ANGLE]):.0f}°, agent at {where[2]}, {where[3]}"
    )
    return Picture(svg, f"{caption}: {words}", caption)


def _shapes(state: NDArray[Any], block: str, agent: str) -> str:
    x, y = state[BLOCK]
    turn = np.degrees(state[ANGLE])
    return (
        f'<path fill="{block}" transform="translate({x:.1f} {y:.1f})rotate({turn:.1f})" d="{BLOCK_PATH}"/>'
        f'<circle fill="{agent}" cx="{state[AGENT][0]:.1f}" cy="{state[AGENT][1]:.1f}" r="{AGENT_RADIUS}"/>'
    )
