"""Measures the quality gates of a pixel encoder; `EncoderQuality` defines each figure.

Shape letters: V videos, B videos of a batch, T frames, N slots, D slot dimension, n objects, R rows, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ocwm.encoding import Encoded, batches, encode_videos
from ocwm.interfaces import Encoder
from ocwm.progress import Progress
from ocwm.quality import EncoderQuality
from ocwm.segmentation import Matched, Overlap, foreground_ari, holders, match_objects, mean
from ocwm.videos import ObjectTruth, Videos

QUALITY_VERSION = 1  # goes up whenever a figure changes

PROBE_EVERY = 4  # frames: neighbours tell the same
RIDGE = 1e-3  # of the variance of the standardised inputs
_DECODED_AT_ONCE = 16  # frames

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class ProbeRows:
    """Slots that hold a visible object, and the truth about it.

    Attributes:
        slots: (R, D).
        position: (R, 2).
        labels: for each attribute (R,) its class.
    """

    slots: Float64
    position: Float64
    labels: Mapping[str, NDArray[np.int64]]


def measure_quality(
    encoder: Encoder,
    train: Videos,
    held_out: Videos,
    *,
    videos: int,
    device: torch.device,
    readers: int = 1,
    progress: Progress | None = None,
) -> EncoderQuality:
    """Measure an encoder on held-out videos.

    Args:
        encoder: reads pixels.
        train: videos that the linear probe is fitted on.
        held_out: videos to measure on; never those of a test split.
        videos: the first so many of either.
        device: to encode on.
        readers: threads that decode videos.
        progress: told how many frames are done, of `frames_to_encode`.

    Raises:
        BenchError: a video can't be read, or has more objects than there are slots.
    """
    overlaps: list[Overlap] = []
    matched: list[Matched] = []
    rows: list[ProbeRows] = []
    squared, values = 0.0, 0
    seconds = 0.0
    count = 0
    for batch in _encoded(encoder, held_out, videos, device, readers, progress):
        count += len(batch.rows)
        seconds += batch.seconds
        if encoder.decodes:
            error = _squared_error(encoder, batch, device)
            squared, values = squared + error[0], values + error[1]
        if batch.overlaps is not None:
            found = [match_objects(overlap) for overlap in batch.overlaps]
            overlaps += batch.overlaps
            matched += found
            rows += _rows(held_out, batch, found, all_objects=True)
    probed: dict[str, float | None] = {}
    if matched:
        fitted: list[ProbeRows] = []
        for batch in _encoded(encoder, train, videos, device, readers, progress):
            if batch.overlaps is not None:
                found = [match_objects(overlap) for overlap in batch.overlaps]
                fitted += _rows(train, batch, found, all_objects=False)
        if any(len(one.slots) for one in fitted) and any(len(one.slots) for one in rows):
            probed = probe_figures(_joined(fitted), _joined(rows))
    return EncoderQuality(
        videos=count,
        frames=held_out.observed,
        **segmentation_figures(overlaps, matched),
        position_r2=probed.pop("position_r2", None),
        position_rmse=probed.pop("position_rmse", None),
        attributes=probed,
        reconstruction=squared / values if values else None,
        frames_per_second=count * held_out.observed / seconds if seconds else 0.0,
        device=str(device),
    )


def frames_to_encode(encoder: Encoder, train: Videos, held_out: Videos, *, videos: int) -> int:
    """Number of frames that `measure_quality` encodes, at most."""
    probed = min(videos, len(train)) * train.observed if encoder.segments else 0
    return min(videos, len(held_out)) * held_out.observed + probed


def segmentation_figures(overlaps: Sequence[Overlap], matched: Sequence[Matched]) -> dict[str, float | None]:
    """The figures that only need masks, of some videos; see `EncoderQuality`."""
    iou, best, switches, modal = [], [], [], []
    for overlap, match in zip(overlaps, matched, strict=True):
        shown = ~np.isnan(match.iou)
        iou += match.iou[shown].tolist()
        best += overlap.iou().max(axis=0)[shown].tolist()
        for thing, slots in enumerate(holders(overlap)):
            if shown[thing] and not match.missed[thing]:
                switches.append(float((slots[1:] != slots[:-1]).sum()))
                modal.append(float(np.unique_counts(slots).counts.max() / len(slots)))
    return {
        "fg_ari_video": mean([foreground_ari(overlap.table.sum(axis=0)) for overlap in overlaps]),
        "fg_ari_frame": mean([foreground_ari(table) for overlap in overlaps for table in overlap.table]),
        "miou": mean(iou),
        "mbo": mean(best),
        "missed": mean([float(one) for match in matched for one in match.missed[~np.isnan(match.iou)]]),
        "switches": mean(switches),
        "modal_share": mean(modal),
    }


def probe_figures(train: ProbeRows, held_out: ProbeRows) -> dict[str, float | None]:
    """Position R2 and RMSE, and the accuracy of each attribute, of linear probes."""
    read = _Linear.fit(train.slots, train.position)(held_out.slots)
    squared = np.square(read - held_out.position).sum(axis=1)
    spread = np.square(held_out.position - held_out.position.mean(axis=0)).sum()
    figures: dict[str, float | None] = {
        "position_r2": float(1 - squared.sum() / spread) if spread > 0 else None,
        "position_rmse": float(np.sqrt(squared.mean())),
    }
    for name, labels in train.labels.items():
        classes = np.eye(int(max(labels.max(), held_out.labels[name].max())) + 1)
        scores = _Linear.fit(train.slots, classes[labels])(held_out.slots)
        figures[name] = float((scores.argmax(axis=1) == held_out.labels[name]).mean())
    return figures


@dataclass(frozen=True)
class _Linear:
    """A linear map of inputs (R, D) to targets (R, K)."""

    weights: Float64
    intercept: Float64

    @classmethod
    def fit(cls, inputs: Float64, targets: Float64) -> _Linear:
        """Ridge regression on standardised inputs, in closed form."""
        center, middle = inputs.mean(axis=0), targets.mean(axis=0)
        deviation = inputs.std(axis=0)
        scale = np.where(deviation > 1e-6 * max(deviation.max(), 1e-6), deviation, np.inf)
        x = (inputs - center) / scale
        moments = x.T @ x / len(x) + RIDGE * np.eye(x.shape[1])
        weights = np.linalg.solve(moments, x.T @ (targets - middle) / len(x)) / scale[:, None]
        return cls(weights, middle - center @ weights)

    def __call__(self, inputs: Float64) -> Float64:
        return np.asarray(inputs @ self.weights + self.intercept)


def _encoded(
    encoder: Encoder, videos: Videos, count: int, device: torch.device, readers: int, progress: Progress | None
) -> Iterator[Encoded]:
    parts = batches(videos, count=count)
    return encode_videos(
        encoder, videos, parts, device=device, readers=readers, stop=videos.observed, progress=progress
    )


def _rows(videos: Videos, batch: Encoded, matched: Sequence[Matched], *, all_objects: bool) -> list[ProbeRows]:
    found = []
    for place, (row, match) in enumerate(zip(batch.rows, matched, strict=True)):
        truth = videos.objects(row)
        assert truth is not None, "masks belong to objects"
        found.append(_rows_of(batch.latents[place], truth, match, all_objects=all_objects))
    return found


def _rows_of(latents_TND: NDArray[np.float32], truth: ObjectTruth, match: Matched, *, all_objects: bool) -> ProbeRows:
    times = np.arange(0, len(latents_TND), PROBE_EVERY)
    counted = ~np.isnan(match.iou) if all_objects else ~np.isnan(match.iou) & ~match.missed
    t, thing = np.nonzero(truth.visible[times] & counted)
    return ProbeRows(
        latents_TND[times[t], match.slot_of[thing]].astype(np.float64),
        truth.positions[times[t], thing].astype(np.float64),
        {name: labels[thing] for name, labels in truth.labels.items()},
    )


def _joined(rows: Sequence[ProbeRows]) -> ProbeRows:
    return ProbeRows(
        np.concatenate([one.slots for one in rows]),
        np.concatenate([one.position for one in rows]),
        {name: np.concatenate([one.labels[name] for one in rows]) for name in rows[0].labels},
    )


@torch.no_grad()
def _squared_error(encoder: Encoder, batch: Encoded, device: torch.device) -> tuple[float, int]:
    """Squared error of the decoded slots of a batch, summed, and the number of values."""
    decoder = encoder.decoder().to(device)
    total, values = 0.0, 0
    for frames, slots in zip(batch.frames, batch.latents, strict=True):
        for low in range(0, len(frames), _DECODED_AT_ONCE):
            part = slice(low, low + _DECODED_AT_ONCE)
            pixels = torch.from_numpy(frames[None, part]).to(device).permute(0, 1, 4, 2, 3).contiguous()
            wanted = encoder.target_images(pixels)
            decoded = decoder.decode(torch.from_numpy(slots[None, part]).to(device))  # type: ignore[operator]
            total += float((decoded - wanted).square().sum())
            values += wanted.numel()
    return total, values
