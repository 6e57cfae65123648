"""The few data types that encoders, world models and tasks exchange.

Shape letters: B batch, T time (frames), N slots, D slot dimension, F state features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LatentSpec:
    """What an encoder produces: everything that a world model must know to be built.

    Attributes:
        num_slots, slot_dim: N and D.
        action_dim, proprio_dim: widths A and P, 0 where there are none.
        decoder: gives the encoder's frozen decoder of slots to images, a module with `decode(slots (B, T, N, D)) ->
            images (B, T, 3, h, w)`; None where the encoder has none.
    """

    num_slots: int
    slot_dim: int
    action_dim: int = 0
    proprio_dim: int = 0
    decoder: Callable[[], nn.Module] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class ClipSpec:
    """The clips that a world model trains on: `history` then `future` frames, `stride` video frames apart."""

    history: int
    future: int
    stride: int = 1

    @property
    def length(self) -> int:
        """Number of latent frames in a clip."""
        return self.history + self.future

    @property
    def span(self) -> int:
        """Number of video frames that a clip covers in the published clip sets (stride * length)."""
        return self.stride * self.length


@dataclass(frozen=True)
class LatentBatch:
    """Latent tokens of a batch of clips or videos.

    Attributes:
        latents: (B, T, N, D) float.
        present: (B, N) bool, False for padding slots and absent objects; None means all present.
        frames: (B, T) int64, video frame of each latent frame, where it matters.
        actions: (B, T, A) float, for action-conditioned tasks.
        proprio: (B, T, P) float, for tasks with proprioception.
        images: (B, T, 3, h, w) float, for methods with an image loss: the frames as the encoder's decoder gives them.
    """

    latents: Tensor
    present: Tensor | None = None
    frames: Tensor | None = None
    actions: Tensor | None = None
    proprio: Tensor | None = None
    images: Tensor | None = None

    def to(self, device: torch.device | str) -> LatentBatch:
        """Return the batch with every tensor on `device`."""
        moved: dict[str, Any] = {
            f.name: value.to(device, non_blocking=True)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, **moved)

    def __len__(self) -> int:
        return self.latents.shape[0]


@dataclass(frozen=True)
class Observations:
    """What an encoder reads: pixels, simulator state, or both.

    Attributes:
        ids: (B,) int64, a stable number for each video; per-video randomness is drawn from it.
        pixels: (B, T, 3, H, W) uint8 RGB, or None.
        state: (B, T, n, F) float32, one row of features for each object, or None.
        visible: (B, T, n) bool, whether an object can be seen, or None.
        groups: name and width of the runs of columns that make up F, in order.
    """

    ids: Tensor
    pixels: Tensor | None = None
    state: Tensor | None = None
    visible: Tensor | None = None
    groups: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Metric:
    """A declared metric. Key form: `reasoner.type.unit`, e.g. `aloe.predictive.per_option`."""

    name: str
    unit: str
    higher_is_better: bool
    description: str = ""


@dataclass(frozen=True)
class MetricValue:
    """A measured metric with its item-level interval.

    Attributes:
        value: the figure, in the metric's unit.
        n: the number of items behind it.
        low, high: 95 % interval, None where none can be given.
        interval: how the interval was made, e.g. "bootstrap over videos".
    """

    value: float
    n: int
    low: float | None = None
    high: float | None = None
    interval: str = ""
