"""Latents of the splits: encoded once, kept on disk, read through a memory map.

Shape letters: V videos, T frames, N slots, D slot dimension, n objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ocwm.errors import BenchError
from ocwm.interfaces import Encoder
from ocwm.types import Observations
from ocwm_tasks.clevrer.observe import state_observations
from ocwm_tasks.clevrer.scene import Scene

CHUNK = 64  # videos that are encoded at a time


@dataclass(frozen=True)
class Latents:
    """Encoded videos of one split.

    Attributes:
        index: (V,) int64 video numbers.
        latents: (V, T, N, D) float32 memory map; T covers the real future where it is known.
        slot_of: (V, n) int64 slot of each object, -1 past a video's objects; n = 0 where that is not known.
        visible: (V, T, n) bool, whether each object is in view.
    """

    index: NDArray[np.int64]
    latents: NDArray[np.float32]
    slot_of: NDArray[np.int64]
    visible: NDArray[np.bool_]

    @classmethod
    def load(cls, folder: Path) -> Latents:
        """Open what `encode_scenes` or `copy_slots` wrote."""
        with np.load(folder / "videos.npz") as arrays:
            index, slot_of, visible = arrays["index"], arrays["slot_of"], arrays["visible"]
        return cls(index, np.load(folder / "latents.npy", mmap_mode="r"), slot_of, visible)


def encode_scenes(encoder: Encoder, scenes: Sequence[Scene], folder: Path, *, advance: Callable[[int], object]) -> None:
    """Encode the states of V scenes with equally many frames into a folder.

    Raises:
        BenchError: the encoder needs frames, or does not say which slot holds which object.
    """
    if encoder.reads != "state":
        raise BenchError("only encoders that read states can be used on these scenes", "Set encoder=state.")
    frames = len(scenes[0].frames)
    shape = (len(scenes), frames, encoder.num_slots, encoder.slot_dim)
    out = np.lib.format.open_memmap(folder / "latents.npy", mode="w+", dtype=np.float32, shape=shape)
    slots, visible = [], []
    for low in range(0, len(scenes), CHUNK):
        part = scenes[low : low + CHUNK]
        observations = state_observations(part)
        batch, _ = encoder.encode(observations)
        out[low : low + len(part)] = batch.latents.numpy()
        slot_of = encoder.slot_of(observations.ids)
        if slot_of is None or observations.visible is None:
            raise BenchError("the encoder does not say which slot holds which object", "Set encoder=state.")
        slots.append(slot_of.numpy())
        visible.append(observations.visible.numpy())
        advance(len(part))
    out.flush()
    index = np.array([scene.index for scene in scenes], dtype=np.int64)
    np.savez(folder / "videos.npz", index=index, slot_of=np.concatenate(slots), visible=np.concatenate(visible))


def copy_slots(encoder: Encoder, videos: Sequence[int], folder: Path, *, advance: Callable[[int], object]) -> None:
    """Write the slots that an encoder has of V videos into a folder; no object is known.

    Args:
        encoder: looks slots up by the number of a video.
        videos: numbers.
        folder: empty.
        advance: told how many videos are copied.
    """
    out = None
    for low in range(0, len(videos), CHUNK):
        part = torch.tensor(videos[low : low + CHUNK])
        latents = encoder.encode(Observations(ids=part))[0].latents.numpy()
        if out is None:
            shape = (len(videos), *latents.shape[1:])
            out = np.lib.format.open_memmap(folder / "latents.npy", mode="w+", dtype=np.float32, shape=shape)
        out[low : low + len(part)] = latents
        advance(len(part))
    assert out is not None, "a split has videos"
    out.flush()
    nobody = np.zeros((len(videos), 0), dtype=np.int64)
    visible = np.zeros((len(videos), out.shape[1], 0), dtype=np.bool_)
    np.savez(folder / "videos.npz", index=np.array(videos, dtype=np.int64), slot_of=nobody, visible=visible)


def write_known(
    folder: Path, index: NDArray[np.int64], slot_of: NDArray[np.int64], scenes: Sequence[Scene], *, frames: int
) -> None:
    """Write what is known about the objects of V videos beside latents that lie in the folder already.

    Args:
        folder: of the latents.
        index: (V,) video numbers.
        slot_of: (V, n) slot of each object, -1 past a video's objects.
        scenes: of the videos; none where it is not known which slot holds which object.
        frames: T of the latents.
    """
    visible = np.zeros((len(index), frames, slot_of.shape[1]), dtype=np.bool_)
    for row, scene in enumerate(scenes):
        visible[row, :, : len(scene.objects)] = scene.visible
    np.savez(folder / "videos.npz", index=index, slot_of=slot_of, visible=visible)
