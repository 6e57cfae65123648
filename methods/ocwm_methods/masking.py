"""Which history cells are hidden in training: whole objects, single tokens or tubes.

A mask is bool (H, N): history frames by slots. Frame 0 may be true in a mask; its tokens stay visible anyway
(the identity anchor), yet under the published loss they count. Drawing follows the published code, so that the
same numpy seed gives the same cells.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def object_mask(rng: np.random.RandomState, frames: int, slots: int, *, count: int) -> Mask:
    """Hide `count` whole slots."""
    mask = np.zeros((frames, slots), dtype=bool)
    if count:
        mask[:, rng.choice(slots, count, replace=False)] = True
    return mask


def token_mask(rng: np.random.RandomState, frames: int, slots: int, *, ratio: float) -> Mask:
    """Hide single cells: one drawn from each of `int(cells * ratio)` equal stretches of the flattened grid."""
    cells = frames * slots
    count = int(cells * ratio)
    mask = np.zeros(cells, dtype=bool)
    for i in range(count):
        stretch = cells / count
        low = int(i * stretch)
        mask[rng.randint(low, max(low + 1, int((i + 1) * stretch)))] = True
    return mask.reshape(frames, slots)


def tube_mask(
    rng: np.random.RandomState, frames: int, slots: int, *, ratio: float, tubes: int, narrower: bool = False
) -> Mask:
    """Hide `tubes` rectangles of frames by slots; they may overlap, so the hidden share is at most `ratio`.

    `narrower` takes one slot off each, as the published code does where there are nodes besides the slots.
    """
    area = int(int(frames * slots * ratio) / tubes)
    height = min(max(1, int(np.sqrt(area))), frames)
    width = min(max(1, int(area / height) - narrower), slots)
    mask = np.zeros((frames, slots), dtype=bool)
    for _ in range(tubes):
        frame = rng.randint(0, frames - height + 1)
        slot = rng.randint(0, slots - width + 1)
        mask[frame : frame + height, slot : slot + width] = True
    return mask
