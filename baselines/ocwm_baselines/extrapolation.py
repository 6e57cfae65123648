"""References that need no training: repeat the last frame, or extrapolate it linearly.

Shape letters: B batch, T time, K predicted frames, N slots, D slot dimension.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ocwm.interfaces import Privilege, RolloutReference
from ocwm.types import ClipSpec, LatentBatch, LatentSpec


class CopyLast(RolloutReference):
    """Repeats the last observed latents: a floor, since nothing ever moves."""

    version: ClassVar[int] = 1
    privileged: ClassVar[Privilege] = "none"

    @property
    def clip(self) -> ClipSpec:
        """One frame of history."""
        return ClipSpec(history=1, future=0)

    def rollout(self, history: LatentBatch, *, steps: int, truth: Tensor | None = None) -> LatentBatch:
        """Predict (B, K, N, D): K copies of the last frame."""
        last = history.latents[:, -1:]
        return LatentBatch(last.expand(-1, steps, -1, -1).clone(), present=history.present)


class ConstantVelocity(RolloutReference):
    """Extrapolates the latents linearly: a strong baseline until objects slow down or touch.

    Args:
        spec: what the encoder produces.
        history_frames: observed frames that the velocity is averaged over.
    """

    version: ClassVar[int] = 1
    privileged: ClassVar[Privilege] = "none"

    def __init__(self, spec: LatentSpec, *, history_frames: int = 4) -> None:
        super().__init__(spec)
        self.history_frames = history_frames

    @property
    def clip(self) -> ClipSpec:
        """The frames that the velocity is averaged over."""
        return ClipSpec(history=self.history_frames, future=0)

    def rollout(self, history: LatentBatch, *, steps: int, truth: Tensor | None = None) -> LatentBatch:
        """Predict (B, K, N, D) along the straight line through the first and the last frame of the history."""
        window = history.latents[:, -self.history_frames :]
        intervals = max(window.shape[1] - 1, 1)
        velocity = (window[:, -1:] - window[:, :1]) / intervals
        ahead = torch.arange(1, steps + 1, device=window.device, dtype=window.dtype)[None, :, None, None]
        return LatentBatch(window[:, -1:] + ahead * velocity, present=history.present)
