"""Which frames training and validation clips start at, with SlotFormer's filter against entering objects.

Source: SlotFormer (arXiv 2210.05861) and its released data loader.

Shape letters: T video frames, n objects, C clips.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

KEPT_HISTORY = 3  # history frames that an object must be seen in before anything about it is predicted


def entry_frames(visible: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the frames at which some object comes into view, ascending; those in view at frame 0 don't count.

    Args:
        visible: (T, n) bool.
    """
    entering = ~visible[:-1] & visible[1:]
    return np.flatnonzero(entering.any(axis=1)) + 1


def clip_starts(
    split: str,
    *,
    video_length: int,
    length: int,
    stride: int,
    history: int,
    entries: ArrayLike | None = None,
) -> NDArray[np.int64]:
    """Return the start frames (C,) of the clips of one video, ascending.

    A clip has `length` frames, `stride` video frames apart. Training takes every start that fits. Validation takes
    each frame once: blocks of length * stride frames, all residues of the stride; with the filter it takes
    the first start that passes in each block of (length - 1) * stride // 2 starts.

    Args:
        split: "train" or "val".
        video_length: frames T of the video.
        length: frames of a clip.
        stride: video frames between two frames of a clip.
        history: frames of a clip that are observed.
        entries: frames at which objects enter. Clips in which one enters after the third-last history frame are left
            out. None = no filter.

    Raises:
        ValueError: another split.
    """
    if split not in ("train", "val"):
        raise ValueError(f"split '{split}' is neither 'train' nor 'val'")
    reach = (length - 1) * stride
    starts = np.arange(max(video_length - reach, 0))
    if entries is None:
        if split == "train":
            return starts
        block = length * stride
        first = np.arange(0, video_length - block + 1, block)
        return (first[:, None] + np.arange(stride)).reshape(-1)
    starts = starts[passes_filter(starts, length=length, stride=stride, history=history, entries=entries)]
    if split == "train" or len(starts) == 0:
        return starts
    blocks = starts // max(reach // 2, 1)
    return starts[np.unique(blocks, return_index=True)[1]]


def passes_filter(
    starts: NDArray[np.int64], *, length: int, stride: int, history: int, entries: ArrayLike
) -> NDArray[np.bool_]:
    """(C,) whether no object enters a clip so late that it must be predicted unseen; see `clip_starts`."""
    frames = np.asarray(entries, dtype=np.int64).reshape(1, -1)
    after = starts[:, None] + (history - KEPT_HISTORY) * stride
    until = starts[:, None] + (length - 1) * stride
    late = (after < frames) & (frames <= until)
    return np.asarray(~late.any(axis=1))
