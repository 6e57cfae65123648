"""Encodes videos with a frozen pixel encoder, a batch of videos and a piece of time after the other.

Which videos share a batch depends on the videos alone, not on the device or on where an earlier process stopped.

Shape letters: V videos, B videos of a batch, T frames, N slots, D slot dimension, n objects, H, W height and width.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ocwm.errors import BenchError
from ocwm.interfaces import Encoder
from ocwm.progress import Progress
from ocwm.segmentation import Overlap, count_overlaps
from ocwm.types import Observations
from ocwm.videos import Videos

BATCH_VIDEOS = 32
BATCH_BYTES = 2**29  # of decoded frames; the next batch is read while one is encoded
PIECE_FRAMES = 32  # of each video that go to the device at a time


@dataclass(frozen=True)
class Encoded:
    """A batch of encoded videos.

    Attributes:
        rows: which videos of the split, ascending.
        latents: (B, T, N, D) float32.
        overlaps: how slots and objects lie in the observed frames, one for each video; None where that is not known.
        frames: (B, T, H, W, 3) uint8 what was encoded.
        seconds: that it took, waiting for the frames included.
    """

    rows: range
    latents: NDArray[np.float32]
    overlaps: list[Overlap] | None
    frames: NDArray[np.uint8]
    seconds: float


@dataclass(frozen=True)
class _Read:
    """Frames and masks of a batch of videos, and the number of objects of each."""

    frames: NDArray[np.uint8]
    masks: NDArray[np.uint8] | None
    objects: tuple[int, ...]


def batches(videos: Videos, *, count: int | None = None) -> list[range]:
    """Cut the first `count` videos (default: all) into batches."""
    total = len(videos) if count is None else min(count, len(videos))
    height, width = videos.size
    size = min(BATCH_VIDEOS, max(1, BATCH_BYTES // (videos.length * height * width * 3)))
    return [range(low, min(low + size, total)) for low in range(0, total, size)]


@torch.no_grad()
def encode_videos(
    encoder: Encoder,
    videos: Videos,
    parts: Sequence[range],
    *,
    device: torch.device,
    readers: int = 1,
    stop: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Encoded]:
    """Encode batches of videos; where masks are known and the encoder `segments`, say what its slots overlap.

    Args:
        encoder: reads pixels.
        videos: of one split.
        parts: some of `batches(videos)`.
        device: to encode on.
        readers: threads that decode the next batch.
        stop: number of frames to encode, default all.
        progress: told how many frames are done.

    Raises:
        BenchError: the encoder reads no pixels, or a video can't be read.
    """
    if encoder.reads != "pixels":
        raise BenchError("an encoder that reads states encodes no videos", "Choose one that reads pixels (bench list).")
    length = videos.length if stop is None else stop
    with ThreadPoolExecutor(max_workers=max(1, readers)) as pool:
        try:
            waiting = _read(pool, videos, parts[0], length, encoder.segments) if parts else None
            for number, rows in enumerate(parts):
                started = time.perf_counter()
                assert waiting is not None
                read = _gather(waiting)
                after = number + 1 < len(parts)
                waiting = _read(pool, videos, parts[number + 1], length, encoder.segments) if after else None
                latents, overlaps = _encode(encoder, videos, rows, read, device, progress)
                yield Encoded(rows, latents, overlaps, read.frames, time.perf_counter() - started)
        finally:
            pool.shutdown(cancel_futures=True)


_Pending = list[Future[tuple[NDArray[np.uint8], NDArray[np.uint8] | None, int]]]


def _read(pool: ThreadPoolExecutor, videos: Videos, rows: range, length: int, segments: bool) -> _Pending:
    observed = min(length, videos.observed)

    def one(row: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None, int]:
        frames = videos.frames(row, 0, length)
        known = videos.objects(row) if segments else None
        masks = None if known is None else videos.masks(row, 0, observed)
        return frames, masks, 0 if known is None else known.positions.shape[1]

    return [pool.submit(one, row) for row in rows]


def _gather(waiting: _Pending) -> _Read:
    frames, masks, objects = zip(*(future.result() for future in waiting), strict=True)
    known = [mask for mask in masks if mask is not None]
    return _Read(np.stack(frames), np.stack(known) if len(known) == len(masks) else None, tuple(objects))


def _encode(
    encoder: Encoder, videos: Videos, rows: range, read: _Read, device: torch.device, progress: Progress | None
) -> tuple[NDArray[np.float32], list[Overlap] | None]:
    ids = torch.from_numpy(np.asarray(videos.ids[rows.start : rows.stop]))
    batch, length = read.frames.shape[:2]
    observed = 0 if read.masks is None else read.masks.shape[1]
    latents = np.empty((batch, length, encoder.num_slots, encoder.slot_dim), dtype=np.float32)
    tables: list[NDArray[np.int64]] = []
    carry: Any = None
    for low, high in _pieces(length, observed):
        pixels = torch.from_numpy(read.frames[:, low:high]).to(device).permute(0, 1, 4, 2, 3).contiguous()
        seen = Observations(ids=ids, pixels=pixels)
        if read.masks is not None and high <= observed:
            encoded, masks, carry = encoder.segment(seen, carry)
            truth = torch.from_numpy(read.masks[:, low:high]).to(device)
            tables.append(count_overlaps(masks, truth, objects=max(read.objects)))
        else:
            encoded, carry = encoder.encode(seen, carry)
        latents[:, low:high] = encoded.latents.cpu().numpy()
        if progress is not None:
            progress.update(batch * (high - low))
    if not tables:
        return latents, None
    table = np.concatenate(tables, axis=1)
    return latents, [Overlap(table[i, :, :, : 1 + n]) for i, n in enumerate(read.objects)]


def _pieces(length: int, border: int) -> Iterator[tuple[int, int]]:
    """Pieces of time, none of which reaches over the border."""
    low = 0
    while low < length:
        high = min(low + PIECE_FRAMES, length)
        high = border if low < border < high else high
        yield low, high
        low = high
