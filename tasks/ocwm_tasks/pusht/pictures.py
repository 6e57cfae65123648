"""Contact sheets: a few frames of a few episodes in one picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ocwm_tasks.pusht.episodes import Episodes
from ocwm_tasks.pusht.state import AGENT, ARENA

SHOWN, COLUMNS = 4, 8  # episodes, and evenly spaced frames of each
SIDE, GAP = 192, 6  # px
_SCALE = SIDE / ARENA
_TRAIL = (222, 133, 0)  # orange


def contact_sheet(episodes: Episodes, path: Path, *, shown: int = SHOWN, columns: int = COLUMNS) -> None:
    """Write frames of some episodes to a PNG, one row an episode, time from left to right.

    The episodes are spread evenly over the split. The line in a frame is the agent's way since the frame before it.

    Errors: OSError; BenchError for stored frames that can't be read.
    """
    from matplotlib import image

    numbers = np.unique(np.linspace(0, len(episodes) - 1, shown).astype(int))
    rows = [_strip(episodes, int(number), columns) for number in numbers]
    sheet = np.concatenate([part for row in rows for part in (row, np.full((GAP, *row.shape[1:]), 255, np.uint8))][:-1])
    image.imsave(path, sheet)


def _strip(episodes: Episodes, number: int, columns: int) -> NDArray[np.uint8]:
    import cv2

    states = episodes.episode(number).states
    rows = np.linspace(0, len(states) - 1, columns).astype(int)
    parts: list[NDArray[np.uint8]] = []
    before = 0
    for row in rows.tolist():
        frame = episodes.frames(number, row, row + 1, size=SIDE)[0].copy()
        way = (states[before : row + 1, AGENT] * _SCALE).round().astype(np.int32)
        cv2.polylines(frame, [way[:, None]], isClosed=False, color=_TRAIL, thickness=1, lineType=cv2.LINE_AA)
        label = f"{row}"
        cv2.putText(frame, label, (8, SIDE - 10), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (90, 90, 90), 1, cv2.LINE_AA)
        parts += [frame, np.full((SIDE, GAP, 3), 255, dtype=np.uint8)]
        before = row
    return np.concatenate(parts[:-1], axis=1)
