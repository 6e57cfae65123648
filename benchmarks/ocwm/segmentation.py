"""Where slots and objects lie in the image, compared: overlaps, matching, and figures of how well they agree.

All figures come from one table of pixel counts, which is small whatever the size of the frames.

Shape letters: B videos, T frames, N slots, n objects, H, W height and width of the frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from ocwm.errors import BenchError

FOUND = 0.2  # an object whose slot overlaps it less (IoU) counts as missed

Ints = NDArray[np.int64]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Overlap:
    """Pixels that slots and objects of one video share.

    Attributes:
        table: (T, 1 + N, 1 + n) int64 numbers of pixels; row 0 is what no slot claims, column 0 the background.
    """

    table: Ints

    @property
    def seen(self) -> NDArray[np.bool_]:
        """(T, n) whether a frame shows anything of an object."""
        return np.asarray(self.table[:, :, 1:].sum(axis=1) > 0)

    def iou(self) -> Float64:
        """Intersection over union of slots and objects (N, n), both taken over all frames; 0 for the union of nothing."""
        table = self.table.sum(axis=0)
        shared = table[1:, 1:]
        union = table[1:].sum(axis=1, keepdims=True) + table[:, 1:].sum(axis=0, keepdims=True) - shared
        return np.asarray(shared / np.maximum(union, 1))


@dataclass(frozen=True)
class Matched:
    """Which slot holds each object of a video.

    Attributes:
        slot_of: (n,) int64; an object that no slot shows has one of the slots that are left over.
        iou: (n,) float64 of each object with its slot; nan for an object that the frames do not show.
    """

    slot_of: Ints
    iou: Float64

    @property
    def missed(self) -> NDArray[np.bool_]:
        """(n,) whether an object is to be seen, but not by its slot."""
        return np.asarray(self.iou < FOUND)


def match_objects(overlap: Overlap) -> Matched:
    """Give each object a slot of its own, with the greatest sum of IoU over the objects (Hungarian matching).

    Raises:
        BenchError: more objects than slots.
    """
    iou = overlap.iou()
    slots, objects = iou.shape
    if objects > slots:
        raise BenchError(
            f"a video has {objects} objects, and the encoder has {slots} slots",
            f"Set encoder.num_slots={objects} or more.",
        )
    slot, thing = linear_sum_assignment(iou, maximize=True)
    slot_of = np.empty(objects, dtype=np.int64)
    slot_of[thing] = slot
    shown = overlap.seen.any(axis=0)
    return Matched(slot_of, np.where(shown, iou[slot_of, np.arange(objects)], np.nan))


def count_overlaps(masks_BTNhw: Tensor, truth_BTHW: Tensor, *, objects: int) -> Ints:
    """Count the pixels of `Overlap.table` for B videos: (B, T, 1 + N, 1 + n).

    Args:
        masks_BTNhw: soft masks of the slots, of any size; they are brought to H x W bilinearly. A pixel belongs to the
            slot with the largest value, or to none where what they leave of 1 is larger.
        truth_BTHW: uint8, 0 for the background, o + 1 for object o; on the same device.
        objects: n, at least the largest number of objects.
    """
    batch, frames, slots = masks_BTNhw.shape[:3]
    cells = (1 + slots) * (1 + objects)
    tables = np.empty((batch, frames, cells), dtype=np.int64)
    first = (torch.arange(batch, device=masks_BTNhw.device) * cells)[:, None, None]
    for t in range(frames):  # frame by frame: the enlarged masks of many frames would fill the memory
        claimed = claims(masks_BTNhw[:, t], (truth_BTHW.shape[2], truth_BTHW.shape[3]))
        cell = first + claimed * (1 + objects) + truth_BTHW[:, t].long()
        counts = torch.bincount(cell.flatten(), minlength=batch * cells)
        tables[:, t] = counts.view(batch, cells).cpu().numpy()
    return tables.reshape(batch, frames, 1 + slots, 1 + objects)


def claims(masks_BNhw: Tensor, size: tuple[int, int]) -> Tensor:
    """Which slot each pixel belongs to, counted from 1, 0 for none: (B, H, W) int64; see `count_overlaps`."""
    if tuple(masks_BNhw.shape[-2:]) != size:
        masks_BNhw = functional.interpolate(masks_BNhw, size=size, mode="bilinear", align_corners=False)
    best = 1 - masks_BNhw.sum(dim=1)
    claimed = torch.zeros(best.shape, dtype=torch.long, device=best.device)
    for slot, mask in enumerate(masks_BNhw.unbind(dim=1), start=1):  # argmax over slots is many times slower on a CPU
        wins = mask > best
        best = torch.where(wins, mask, best)
        claimed = torch.where(wins, slot, claimed)
    return claimed


def foreground_ari(table: Ints) -> float | None:
    """Adjusted Rand index over the pixels of objects: do slots part them as the objects do?

    Args:
        table: (1 + N, 1 + n) of one frame, or summed over the frames of a video.

    Returns:
        1 for a perfect partition, 0 for one by chance; None with fewer than two objects, which can't be told apart.
    """
    from sklearn.metrics import adjusted_rand_score

    foreground = table[:, 1:]
    if (foreground.sum(axis=0) > 0).sum() < 2:
        return None
    slot, thing = np.nonzero(foreground)
    pixels = foreground[slot, thing]
    return float(adjusted_rand_score(np.repeat(thing, pixels), np.repeat(slot, pixels)))


def holders(overlap: Overlap) -> list[Ints]:
    """For each object the slot that covers most of it, in the frames in which any slot covers some of it.

    The slots of an object are in the order of the frames.
    """
    covered = overlap.table[:, 1:, 1:]
    best = covered.argmax(axis=1)
    claimed = covered.sum(axis=1) > 0
    return [best[claimed[:, thing], thing] for thing in range(covered.shape[2])]


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of what there is; None where there is nothing."""
    known = [value for value in values if value is not None and not np.isnan(value)]
    return float(np.mean(known)) if known else None
