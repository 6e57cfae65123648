"""The columns of stable-worldmodel's Push-T sets (`pusht_expert_train`, `_val`), whichever file they come from.

Shape letters: F rows of all episodes, E episodes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocwm.errors import BenchError
from ocwm_tasks.pusht.episodes import Episodes, FrameSource
from ocwm_tasks.pusht.readers.data_set import VAL_IDS
from ocwm_tasks.pusht.state import ACTION_DIM, ANGLE, STATE_DIM, wrap

COLUMNS = {"state": STATE_DIM, "action": ACTION_DIM}


def check_width(where: str, name: str, shape: tuple[int, ...]) -> None:
    """Refuse a column that has not the width of a Push-T state or action. Errors: BenchError."""
    if len(shape) != 2 or shape[1] != COLUMNS[name]:
        raise BenchError(
            f"{where}: column '{name}' has shape {shape}, expected (rows, {COLUMNS[name]})", "Is it a Push-T data set?"
        )


def episode_ids(count: int, origin: str) -> NDArray[np.int64]:
    """Return the ids (E,) of a split's episodes."""
    return np.arange(count) + (VAL_IDS if origin == "val" else 0)


def build_episodes(
    states: NDArray[Any],
    actions: NDArray[Any],
    lengths: NDArray[np.int64],
    *,
    kind: str,
    origin: str,
    source: FrameSource | None,
) -> Episodes:
    """Return episodes of rows in order: states (F, 7), actions (F, 2) in units of 100 px, lengths (E,)."""
    wrapped = np.asarray(states, dtype=np.float64).copy()
    wrapped[:, ANGLE] = wrap(wrapped[:, ANGLE])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = np.asarray(actions, dtype=np.float32).copy()
    last = offsets[1:] - 1
    values[last[~np.isfinite(values[last]).all(axis=1)]] = 0.0  # recorders write NaN where no action follows
    return Episodes(
        wrapped,
        values,
        offsets,
        episode_ids(len(lengths), origin),
        source=source,
        about={"kind": kind, "split": origin, "velocities": "recorded", "exact_replay": False},
    )
