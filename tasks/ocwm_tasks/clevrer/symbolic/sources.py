"""Where the videos without an object come from: a model's removal rollout, the observation, or the true one.

Shape letters: V videos, T frames, N slots, D slot dimension, R removals, B removals at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from ocwm.interfaces import RolloutReference, WorldModel
from ocwm_tasks.clevrer.symbolic.counterfactual import Imagined, Removals, imagine, read_state
from ocwm_tasks.clevrer.symbolic.probe import RidgeProbe
from ocwm_tasks.clevrer.symbolic.tracks import Float32, Ints


class RemovalSource(Protocol):
    """Says what happens without an object."""

    def __call__(
        self, latents: Float32, removals: Removals, *, probe: RidgeProbe, shape: Ints, touch: Sequence[float]
    ) -> Imagined:
        """The R videos without the objects; arguments as those of `imagine`."""


@dataclass(frozen=True)
class ModelRemoval:
    """Removals as a model imagines them; see `imagine`."""

    model: WorldModel | RolloutReference
    free_running: bool = False
    frames_per_call: int | None = None
    device: torch.device | str = "cpu"
    batch: int = 128
    keep_latents: bool = False
    advance: Callable[[int], object] | None = None

    def __call__(
        self, latents: Float32, removals: Removals, *, probe: RidgeProbe, shape: Ints, touch: Sequence[float]
    ) -> Imagined:
        """Roll out all removals."""
        return imagine(
            self.model,
            latents,
            removals,
            probe=probe,
            shape=shape,
            touch=touch,
            free_running=self.free_running,
            frames_per_call=self.frames_per_call,
            device=self.device,
            batch=self.batch,
            keep_latents=self.keep_latents,
            advance=self.advance,
        )


@dataclass(frozen=True)
class ObservedRemoval:
    """Removals without any model: what the removed object's events touch is not known of any more from then on."""

    def __call__(
        self, latents: Float32, removals: Removals, *, probe: RidgeProbe, shape: Ints, touch: Sequence[float]
    ) -> Imagined:
        """Follow the observation of every object until it is touched."""
        parts = [np.zeros((0, *latents.shape[1:3], 3), dtype=np.float32)]
        frames = np.arange(latents.shape[1])[:, None]
        for video, slot, release in zip(removals.video, removals.slot, removals.release, strict=True):
            state = read_state(probe, np.asarray(latents[video]))
            state[frames >= release] = 0.0
            state[:, slot] = 0.0
            parts.append(state[None])
        state = np.concatenate(parts)
        return Imagined(state, np.zeros(state.shape[:3], dtype=np.bool_), calls=0)


@dataclass(frozen=True)
class TrueRemoval:
    """Removals as they truly go.

    Attributes:
        encode: rows of videos (B,) and removed slots (B,) -> latents (B, T, N, D) of the simulation without the object.
        batch: removals at a time.
    """

    encode: Callable[[Ints, Ints], Float32]
    batch: int = 64

    def __call__(
        self, latents: Float32, removals: Removals, *, probe: RidgeProbe, shape: Ints, touch: Sequence[float]
    ) -> Imagined:
        """Read the states of all removals; nothing is imagined."""
        parts = [np.zeros((0, *latents.shape[1:3], 3), dtype=np.float32)]
        for low in range(0, len(removals), self.batch):
            video, slot = (column[low : low + self.batch] for column in (removals.video, removals.slot))
            state = read_state(probe, self.encode(video, slot))
            state[np.arange(len(video)), :, slot] = 0.0
            parts.append(state)
        state = np.concatenate(parts)
        return Imagined(state, np.zeros(state.shape[:3], dtype=np.bool_), calls=0)
