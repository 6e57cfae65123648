"""Drawn videos of squares with exact masks, and an encoder whose slots are known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ocwm.errors import BenchError
from ocwm.interfaces import Encoder
from ocwm.types import LatentBatch, Observations
from ocwm.videos import ObjectTruth, Videos

SIDE = 24
STEP = 40  # the red of object o is (o + 1) * STEP


class DrawnVideos(Videos):
    """Squares of 6 pixels that move right by a pixel every other frame, each in a row of its own."""

    def __init__(
        self, count: int = 3, *, objects: int = 2, length: int = 12, observed: int = 8, first: int = 0
    ) -> None:
        self.ids = np.arange(first, first + count)
        self.length, self.observed = length, observed
        self.size = (SIDE, SIDE)
        self.manifest = f"{count} {objects} {length} {observed} {first}"
        self.count = objects
        self.reads: list[int] = []

    def place(self, video: int, t: int, thing: int) -> tuple[int, int]:
        """Row and column of a square."""
        return 1 + 8 * thing, (int(self.ids[video]) + 3 * thing + t // 2) % (SIDE - 6)

    def masks(self, video: int, start: int = 0, stop: int | None = None) -> NDArray[np.uint8] | None:
        return self.draw(video, start, stop)

    def draw(self, video: int, start: int, stop: int | None) -> NDArray[np.uint8]:
        frames = np.arange(self.length)[start:stop]
        masks = np.zeros((len(frames), SIDE, SIDE), np.uint8)
        for i, t in enumerate(frames):
            for thing in range(self.count):
                y, x = self.place(video, int(t), thing)
                masks[i, y : y + 6, x : x + 6] = thing + 1
        return masks

    def frames(self, video: int, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        self.reads.append(video)
        red = self.draw(video, start, stop) * STEP
        return np.stack([red, np.zeros_like(red), np.full_like(red, self.ids[video])], axis=-1)

    def objects(self, video: int) -> ObjectTruth:
        times = range(self.length)
        positions = [[self.place(video, t, thing)[::-1] for thing in range(self.count)] for t in times]
        visible = np.ones((self.length, self.count), np.bool_)
        return ObjectTruth(np.array(positions, np.float32), visible, {"color": np.arange(self.count)})


class WithoutMasks(DrawnVideos):
    def masks(self, video: int, start: int = 0, stop: int | None = None) -> None:
        return None


@dataclass
class DrawnEncoder(Encoder):
    """Slot `order(t)[o]` shows object o at frame t; slots that no object has show nothing.

    A slot's latent is its square's column and row, its colour in two numbers that are there together, and a number that
    counts frames through the carry.
    """

    slots: int = 3
    order: Callable[[int], Mapping[int, int]] = lambda t: {0: 2, 1: 0}
    has_masks: bool = True
    stop_after: int | None = None  # calls
    reads = "pixels"
    calls: int = 0

    @property
    def num_slots(self) -> int:
        return self.slots

    @property
    def slot_dim(self) -> int:
        return 5

    @property
    def segments(self) -> bool:
        return self.has_masks

    def encode(self, observations: Observations, carry: Any = None) -> tuple[LatentBatch, Any]:
        latents, _, after = self.segment(observations, carry)
        return latents, after

    def segment(self, observations: Observations, carry: Any = None) -> tuple[LatentBatch, Tensor, Any]:
        if self.stop_after is not None and self.calls >= self.stop_after:
            raise KeyboardInterrupt
        self.calls += 1
        assert observations.pixels is not None
        red = observations.pixels[:, :, 0].float()
        first = 0 if carry is None else carry
        batch, frames = red.shape[:2]
        masks = torch.zeros(batch, frames, self.slots, SIDE, SIDE)
        latents = torch.zeros(batch, frames, self.slots, 5)
        grid = torch.arange(SIDE).float()
        for t in range(frames):
            for thing, slot in self.order(first + t).items():
                mask = (red[:, t] == (thing + 1) * STEP).float()
                masks[:, t, slot] += mask
                area = mask.sum(dim=(1, 2)).clamp(min=1)
                latents[:, t, slot, 0] = (mask * grid).sum(dim=(1, 2)) / area
                latents[:, t, slot, 1] = (mask * grid[:, None]).sum(dim=(1, 2)) / area
                latents[:, t, slot, 2 + thing] = 1
        latents[..., 4] = (first + torch.arange(frames).float())[None, :, None] + 0.1 * observations.ids[:, None, None]
        return LatentBatch(latents), masks, first + frames


class DecodingEncoder(DrawnEncoder):
    """Decodes every slot to mid-grey."""

    @property
    def decodes(self) -> bool:
        return True

    def target_images(self, pixels: Tensor) -> Tensor:
        return pixels[..., :2, :2].float() * 0 + 1

    def decoder(self) -> nn.Module:
        return _Grey()


class _Grey(nn.Module):
    def decode(self, slots: Tensor) -> Tensor:
        return torch.full((*slots.shape[:2], 3, 2, 2), 0.5)


class Broken(DrawnVideos):
    def frames(self, video: int, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        raise BenchError("video 1 breaks off", "Copy it again.")
