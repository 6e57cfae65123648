"""Slots of all videos of a split, on disk: extracted once, going on where a stopped process left off.

    work/latents.0-of-1.npy      rows of the batches that are done; more bytes may follow, of a batch that is not
    work/batch.000000.json       what else is known of a batch; it is written when its rows are on the disk
    out/latents.npy              (V, T, N, D) float32
    out/matches.npz              `slot_of` (V, n) int64 and `iou` (V, n) float32

Shape letters: V videos, T frames, N slots, D slot dimension, n objects.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ocwm.distributed import alone, team
from ocwm.encoding import Encoded, batches, encode_videos
from ocwm.errors import BenchError
from ocwm.interfaces import Encoder
from ocwm.progress import Progress
from ocwm.row_files import header, join_rows
from ocwm.segmentation import FOUND, match_objects
from ocwm.videos import Videos

EXTRACTION_VERSION = 1  # goes up whenever latents or matches change

LATENTS, MATCHES = "latents.npy", "matches.npz"


@dataclass(frozen=True)
class Extracted:
    """What an extraction did, over all of its processes.

    Attributes:
        slot_of: (V, n) int64 slot of each object, -1 past a video's objects; n = 0 where nothing is known of them.
        iou: (V, n) float32 of each object with its slot; nan past a video's objects and for those never to be seen.
        frames: that were encoded.
        seconds: that it took.
    """

    slot_of: NDArray[np.int64]
    iou: NDArray[np.float32]
    frames: int
    seconds: float

    @property
    def frames_per_second(self) -> float:
        """Throughput, with reading the videos."""
        return self.frames / self.seconds if self.seconds else 0.0

    @property
    def missed(self) -> float | None:
        """Share of the objects to be seen that their slot does not show; None where no object is known."""
        shown = ~np.isnan(self.iou)
        return float((self.iou[shown] < FOUND).mean()) if shown.any() else None


def extract_all(
    encoder: Encoder,
    videos: Videos,
    work: Path,
    out: Path,
    *,
    device: torch.device,
    readers: int = 1,
    progress: Progress | None = None,
) -> Extracted | None:
    """Extract the slots of all videos; where several processes share the run, each takes a shard.

    Returns:
        What was found; None in all processes but the first, and nothing in their `out`.

    Errors and the other arguments: see `extract`.
    """
    processes = team()
    shard = (processes.rank, processes.size)
    with processes.together(), alone():
        extract(encoder, videos, work, device=device, readers=readers, shard=shard, progress=progress)
    return merge(videos, work, out, shards=processes.size) if processes.first else None


def extract(
    encoder: Encoder,
    videos: Videos,
    work: Path,
    *,
    device: torch.device,
    readers: int = 1,
    shard: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
) -> None:
    """Extract the slots of one shard into a work folder; batches that are done already are left alone.

    Shards may run at the same time, on devices of their own; `merge` puts them together.

    Args:
        encoder: reads pixels.
        videos: of one split.
        work: folder that survives an interruption, for this extraction alone.
        device: to encode on.
        readers: threads that decode videos.
        shard: (i, n): the i-th of n equal runs of batches, i from 0.
        progress: told of every frame, and at once of those done before.

    Raises:
        BenchError: a video that can't be read, or has more objects than there are slots.
    """
    parts = batches(videos)
    numbers = _numbers(len(parts), shard)
    if not numbers:
        return
    shape = (_videos(parts, numbers), videos.length, encoder.num_slots, encoder.slot_dim)
    start = header(shape)
    row = 4 * int(np.prod(shape[1:]))
    path = _rows_file(work, shard)
    with path.open("r+b" if path.exists() else "w+b") as file:
        size = file.seek(0, os.SEEK_END)
        done = 0
        for number in numbers:
            reached = len(start) + row * _videos(parts, numbers[: done + 1])
            if not _about(work, number).is_file() or size < reached:
                break
            done += 1
        for number in numbers[done:]:  # of latents that are gone
            _about(work, number).unlink(missing_ok=True)
        rows_done = _videos(parts, numbers[:done])
        file.seek(0)
        file.write(start)
        file.truncate(len(start) + row * rows_done)  # what a stopped process wrote of an unfinished batch
        file.seek(0, os.SEEK_END)
        if progress is not None and rows_done:
            progress.update(rows_done * videos.length)
        left = [parts[number] for number in numbers[done:]]
        encoded = encode_videos(encoder, videos, left, device=device, readers=readers, progress=progress)
        for number, batch in zip(numbers[done:], encoded, strict=True):
            _append(file, batch)
            _write_about(_about(work, number), batch)


def merge(videos: Videos, work: Path, out: Path, *, shards: int = 1) -> Extracted:
    """Put the shards of a finished extraction together: moves the latents out of the work folder.

    Raises:
        BenchError: a shard is not finished.
    """
    parts = batches(videos)
    missing = [number for number in range(len(parts)) if not _about(work, number).is_file()]
    if missing:
        raise BenchError(
            f"{len(missing)} of {len(parts)} batches are not extracted, the first is number {missing[0]}",
            "Run all shards to their end first.",
        )
    files = [_rows_file(work, (i, shards)) for i in range(shards) if _numbers(len(parts), (i, shards))]
    join_rows(files, out / LATENTS)
    about = [json.loads(_about(work, number).read_text(encoding="utf-8")) for number in range(len(parts))]
    slot_of = _padded([one for batch in about for one in batch["slot_of"]], -1, np.int64)
    iou = _padded([one for batch in about for one in batch["iou"]], np.nan, np.float32)
    np.savez(out / MATCHES, slot_of=slot_of, iou=iou)
    seconds = float(sum(batch["seconds"] for batch in about))
    return Extracted(slot_of, iou, len(videos) * videos.length, seconds)


def _numbers(batch_count: int, shard: tuple[int, int]) -> range:
    """Numbers of the batches of a shard."""
    i, n = shard
    if not 0 <= i < n:
        raise ValueError(f"shard {i} of {n}")
    return range(batch_count * i // n, batch_count * (i + 1) // n)


def _videos(parts: list[range], numbers: range) -> int:
    return sum(len(parts[number]) for number in numbers)


def _rows_file(work: Path, shard: tuple[int, int]) -> Path:
    return work / f"latents.{shard[0]}-of-{shard[1]}.npy"


def _about(work: Path, number: int) -> Path:
    return work / f"batch.{number:06d}.json"


def _append(file: IO[bytes], batch: Encoded) -> None:
    # Written, not mapped: a full disk is an error here, where a memory map would crash.
    file.write(batch.latents.astype("<f4", copy=False).tobytes())
    file.flush()
    os.fsync(file.fileno())


def _write_about(path: Path, batch: Encoded) -> None:
    matched = [match_objects(overlap) for overlap in batch.overlaps or ()]
    about: Mapping[str, Any] = {
        "slot_of": [one.slot_of.tolist() for one in matched] or [[]] * len(batch.rows),
        "iou": [one.iou.tolist() for one in matched] or [[]] * len(batch.rows),
        "seconds": batch.seconds,
    }
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(about), encoding="utf-8")
    partial.replace(path)


def _padded(rows: list[list[float]], filler: float, kind: Any) -> NDArray[Any]:
    table = np.full((len(rows), max(map(len, rows), default=0)), filler, dtype=kind)
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    return table
