"""Training clips out of latent videos, and the rollout past the end of a video.

Shape letters: V videos, B batch, T video frames, L clip frames, H history frames, N slots, D slot dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ocwm.interfaces import RolloutReference, WorldModel
from ocwm.types import ClipSpec, LatentBatch
from ocwm_tasks.clevrer.clips import entry_frames, passes_filter


class ClipSet:
    """Every clip of every video: starts 0 .. T - stride * length, in video order, starts ascending.

    The published clip set counts `stride * length` video frames for a clip although its last latent frame comes
    `stride - 1` frames earlier.

    Args:
        latents: (V, T, N, D) float32, an array or a read-only memory map.
        clip: history, future and stride.
        visible: (V, T, n) bool, whether each object is in view. Given, clips in which an object enters after the first
            history frames are left out: nobody can predict an object that has not been seen (the filter that was
            published with SlotFormer; the released C-JEPA trains on all clips).
        images: (V, T, 3, h, w), the frames as the encoder's decoder gives them, for methods that want them.
    """

    def __init__(
        self,
        latents: NDArray[np.float32],
        clip: ClipSpec,
        *,
        visible: NDArray[np.bool_] | None = None,
        images: NDArray[np.float16] | None = None,
    ) -> None:
        self.latents = latents
        self.images = images
        starts = latents.shape[1] - clip.span + 1
        if starts < 1:
            raise ValueError(f"videos of {latents.shape[1]} frames hold no clip of {clip.span} frames")
        self.offsets = clip.stride * np.arange(clip.length)
        allowed = np.ones((latents.shape[0], starts), dtype=np.bool_)
        for video in range(latents.shape[0]) if visible is not None else ():
            assert visible is not None
            allowed[video] = passes_filter(
                np.arange(starts),
                length=clip.length,
                stride=clip.stride,
                history=clip.history,
                entries=entry_frames(visible[video]),
            )
        self.videos, self.starts = np.nonzero(allowed)

    def __len__(self) -> int:
        return len(self.videos)

    def batch(self, indices: NDArray[np.int64], generator: np.random.Generator) -> LatentBatch:
        """Clips (B, L, N, D) of the given indices; nothing is drawn."""
        videos, frames = self.videos[indices, None], self.starts[indices, None] + self.offsets
        clips = _gather(self.latents, videos, frames)
        return LatentBatch(clips, images=None if self.images is None else _gather(self.images, videos, frames))


def _gather(values: NDArray[Any], videos: NDArray[np.int64], frames: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values[videos, frames], dtype=np.float32))


@torch.no_grad()
def extend(
    model: WorldModel | RolloutReference,
    latents: Tensor,
    *,
    steps: int,
    stride: int | None = None,
    truth: Tensor | None = None,
) -> Tensor:
    """Roll videos on by `steps` frames: one independent rollout for each residue of the stride, interleaved.

    All residues go through the model together, so that 128 -> 160 frames at stride 2 with 10 predictions a call
    takes two calls.

    Args:
        model: in evaluation mode.
        latents: (B, T, N, D) observed frames.
        steps: number of latent frames to add.
        stride: latent frames between two frames of the model, where the data dictates it; default: the model's own.
        truth: (B, steps, N, D) the encoder's latents of the real future, for references that may read it.

    Returns:
        (B, steps, N, D).
    """
    clip = model.clip if stride is None else replace(model.clip, stride=stride)
    total = latents.shape[1]
    if total < clip.history * clip.stride:
        raise ValueError(f"{total} frames are fewer than a history of {clip.history} at stride {clip.stride}")
    residues = torch.arange(clip.stride)
    first = total - clip.history * clip.stride + residues
    frames = first[:, None] + clip.stride * torch.arange(clip.history)
    history = latents[:, frames].flatten(0, 1)
    per_residue = -(-steps // clip.stride)
    if isinstance(model, RolloutReference):
        predicted = model.rollout(LatentBatch(history), steps=per_residue, truth=truth)
    else:
        predicted = model.rollout(LatentBatch(history), steps=per_residue)
    by_residue = predicted.latents.reshape(latents.shape[0], clip.stride, *predicted.latents.shape[1:])
    return by_residue.transpose(1, 2).flatten(1, 2)[:, :steps]


def extend_all(
    model: WorldModel | RolloutReference,
    latents: NDArray[np.float32],
    *,
    steps: int,
    device: torch.device,
    stride: int | None = None,
    truth: NDArray[np.float32] | None = None,
    batch: int = 64,
    advance: Callable[[int], object] | None = None,
) -> NDArray[np.float32]:
    """`extend` for a whole data set, `batch` videos at a time: (V, steps, N, D)."""
    if isinstance(model, WorldModel):
        model.eval()
    out = np.empty((latents.shape[0], steps, *latents.shape[2:]), dtype=np.float32)
    for low in range(0, latents.shape[0], batch):
        part = torch.from_numpy(np.array(latents[low : low + batch])).to(device)
        real = None if truth is None else torch.from_numpy(np.array(truth[low : low + batch])).to(device)
        out[low : low + batch] = extend(model, part, steps=steps, stride=stride, truth=real).cpu().numpy()
        if advance is not None:
            advance(part.shape[0])
    return out
