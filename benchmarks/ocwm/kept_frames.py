"""Frames for the training of encoders: resized once, kept as uint8 on disk, read through a memory map.

Shape letters: V videos, B clips, T frames, h, w height and width of the kept frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ocwm.context import Workspace
from ocwm.encoder_training import Clips, EncoderTraining, VideoClips
from ocwm.errors import BenchError
from ocwm.videos import Videos

KEPT_VERSION = 1
_FILE = "frames.npy"


def kept_frames(
    workspace: Workspace, videos: Videos, training: EncoderTraining, *, split: str
) -> npt.NDArray[np.uint8]:
    """Return the observed frames of all videos as the training wants them, (V, T, 3, h, w), mapped from disk.

    They are made where they are missing, one video after the other.

    Raises:
        BenchError: a video can't be read, is too short, or the disk is full.
    """
    if not len(videos):
        raise BenchError(f"there are no {split} videos", "Choose another preset, or data with videos.")
    if videos.observed < training.clips.span:
        raise BenchError(
            f"the {split} videos have {videos.observed} frames, fewer than a clip of {training.clips.span}",
            "Lower training.frames or training.strides.",
        )
    key = {
        "videos": videos.manifest,
        "frames": videos.observed,
        "kept": dict(training.kept),
        "version": KEPT_VERSION,
    }

    def build(folder: Path) -> None:
        with (folder / _FILE).open("wb") as file, workspace.progress(f"{split} frames", len(videos)) as bar:
            for video in range(len(videos)):
                pixels = np.ascontiguousarray(videos.frames(video, 0, videos.observed).transpose(0, 3, 1, 2))
                kept = training.keep(torch.from_numpy(pixels)).contiguous().numpy()
                if video == 0:
                    header = {"descr": "|u1", "fortran_order": False, "shape": (len(videos), *kept.shape)}
                    np.lib.format.write_array_header_1_0(file, header)
                file.write(kept.tobytes())  # a full disk is an error here; it would be a crash in a memory map
                bar.update(1)

    frames: npt.NDArray[np.uint8] = np.load(workspace.stage(f"kept_frames.{split}", key, build) / _FILE, mmap_mode="r")
    return frames


@dataclass(frozen=True)
class ClipData:
    """Clips of kept frames (V, T, 3, h, w), for the training loop."""

    frames: npt.NDArray[np.uint8]
    clips: Clips

    def __len__(self) -> int:
        videos, length = int(self.frames.shape[0]), int(self.frames.shape[1])
        return videos * (length - self.clips.span + 1) if self.clips.pick == "every" else videos

    def batch(self, indices: npt.NDArray[np.int64], generator: np.random.Generator) -> VideoClips:
        """Return the clips of some items (B,): (B, T, 3, h, w)."""
        return self.part(indices, generator, slice(None))

    def part(self, indices: npt.NDArray[np.int64], generator: np.random.Generator, rows: slice) -> VideoClips:
        """Return some of the clips of a batch, as they are in the whole of it."""
        length, clips = self.frames.shape[1], self.clips
        strides = generator.choice(clips.strides, len(indices))
        lasts = length - (clips.frames - 1) * strides  # one more than the last possible start
        if clips.pick == "every":
            videos, starts = np.divmod(indices, length - clips.span + 1)
        elif clips.pick == "chunk":
            whole = clips.frames * strides  # a chunk's frames and those that it steps over
            videos = indices
            starts = whole * generator.integers(0, (length + strides - 1) // whole)
        else:
            videos, starts = indices, generator.integers(0, lasts)
        assert bool((starts < lasts).all()), (starts, lasts)
        times = starts[:, None] + strides[:, None] * np.arange(clips.frames)
        picked = self.frames[videos[rows, None], times[rows]]
        flipped = (generator.random(len(indices)) < clips.flip)[rows]
        picked[flipped] = picked[flipped][..., ::-1]
        return VideoClips(torch.from_numpy(picked))

    def fixed(self, *, batch_size: int) -> list[VideoClips]:
        """Return the clips for validation: spread evenly over the items, the same at every call."""
        count = min(self.clips.validation, len(self))
        items = np.linspace(0, len(self) - 1, count).round().astype(np.int64)
        generator = np.random.default_rng(0)
        return [self.batch(items[low : low + batch_size], generator) for low in range(0, count, batch_size)]
