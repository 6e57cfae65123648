"""Training clips: latent frames with the actions between them and the agent's proprioception.

Shape letters: E episodes, F rows of all episodes, B batch, L clip frames, N slots, D slot dimension, A action width of a
block (frame skip * 2), P proprioception width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ocwm.errors import BenchError
from ocwm.types import ClipSpec, LatentBatch
from ocwm_tasks.pusht.normalisation import Normalisation, clip_statistics, column_statistics

__all__ = ["ClipSet", "Normalisation", "action_blocks", "clip_statistics", "column_statistics"]


class ClipSet:
    """Every clip of every episode: starts 0 .. rows - stride * length, in the order of the episodes, starts ascending.

    A clip takes the frames start, start + stride, ..., and with each frame the `stride` raw actions that lead on from it,
    in a row: step by step, x before y. The last frame's actions lead out of the clip, but not out of the episode's rows.

    Args:
        latents: (F, N, D), the rows of all episodes one after the other; an array or a read-only memory map.
        actions: (F, 2) raw relative actions.
        proprio: (F, P).
        offsets: (E + 1,) first row of each episode, and F.
        clip: history, future and stride (the frame skip).
        action_normalisation: of blocks (A,), or of single actions (2,), then every action of a block gets the same.
        proprio_normalisation: (P,).
        nan_to_zero: values that are not known become 0 after normalisation, as published; else they stay NaN.

    Raises:
        BenchError: no episode is as long as a clip.
    """

    def __init__(
        self,
        latents: NDArray[Any],
        actions: NDArray[np.float32],
        proprio: NDArray[np.float32],
        offsets: NDArray[np.int64],
        clip: ClipSpec,
        *,
        action_normalisation: Normalisation,
        proprio_normalisation: Normalisation,
        nan_to_zero: bool = True,
    ) -> None:
        rows = int(offsets[-1])
        if not len(latents) == len(actions) == len(proprio) == rows:
            raise ValueError(
                f"{len(latents)} latents, {len(actions)} actions and {len(proprio)} proprio for {rows} rows"
            )
        if len(action_normalisation.mean) == actions.shape[1]:
            action_normalisation = action_normalisation.repeated(clip.stride)
        self.latents, self.actions, self.proprio, self.clip = latents, actions, proprio, clip
        self._of_actions, self._of_proprio = action_normalisation, proprio_normalisation
        self._nan_to_zero = nan_to_zero
        counts = np.maximum(np.diff(offsets) - clip.span + 1, 0)
        if not counts.any():
            raise BenchError(
                f"no episode holds a clip of {clip.span} rows (the longest has {int(np.diff(offsets).max(initial=0))})",
                "Lower the model's frame skip or its number of frames, or use longer episodes.",
            )
        self.episodes = np.repeat(np.arange(len(counts)), counts)
        self.starts = np.arange(len(self.episodes)) - np.repeat(np.cumsum(counts) - counts, counts)
        self._rows = offsets[self.episodes] + self.starts

    def __len__(self) -> int:
        return len(self.starts)

    def batch(self, indices: NDArray[np.int64], generator: np.random.Generator) -> LatentBatch:
        """Clips (B, L, N, D) of the given indices with actions (B, L, A) and proprio (B, L, P); nothing is drawn."""
        frames = self._rows[indices, None] + self.clip.stride * np.arange(self.clip.length)
        blocks = self.actions[frames[..., None] + np.arange(self.clip.stride)].reshape(*frames.shape, -1)
        return LatentBatch(
            torch.from_numpy(np.ascontiguousarray(self.latents[frames], dtype=np.float32)),
            actions=self._tensor(self._of_actions.apply(blocks)),
            proprio=self._tensor(self._of_proprio.apply(self.proprio[frames])),
        )

    def _tensor(self, values: NDArray[np.float32]) -> Tensor:
        known = np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf) if self._nan_to_zero else values
        return torch.from_numpy(np.ascontiguousarray(known, dtype=np.float32))


def action_blocks(actions: Tensor, *, stride: int) -> Tensor:
    """Turn raw actions (..., T, 2) into blocks (..., T / stride, stride * 2), step by step, x before y."""
    *batch, steps, width = actions.shape
    if steps % stride:
        raise ValueError(f"{steps} actions are no whole number of blocks of {stride}")
    return actions.reshape(*batch, steps // stride, stride * width)
