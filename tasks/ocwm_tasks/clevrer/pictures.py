"""Contact sheets: a few frames of a few videos in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import image
from numpy.typing import NDArray

COLUMNS = 6  # frames of each video, evenly spaced
GAP = 4  # pixels


def contact_sheet(videos: Sequence[NDArray[np.uint8]], path: Path, *, least_width: int = 192) -> None:
    """Write frames of videos (T, H, W, 3), one row a video, to a PNG; small frames are enlarged without smoothing."""
    rows = []
    for video in videos:
        frames = video[np.linspace(0, len(video) - 1, COLUMNS).astype(int)]
        zoom = -(-least_width // frames.shape[2])
        frames = frames.repeat(zoom, axis=1).repeat(zoom, axis=2)
        framed = [np.pad(frame, ((GAP, 0), (GAP, 0), (0, 0)), constant_values=255) for frame in frames]
        rows.append(np.concatenate(framed, axis=1))
    image.imsave(path, np.concatenate(rows, axis=0))
