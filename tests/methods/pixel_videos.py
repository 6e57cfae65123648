"""Frames and configured encoders for the tests of pixel encoders."""

from __future__ import annotations

import torch

from ocwm.config import compose, instantiate
from ocwm.types import Observations


def videos(count: int = 2, frames: int = 5, *, size: tuple[int, int] = (20, 30), seed: int = 0) -> Observations:
    """Random frames (count, frames, 3, *size); video i is the same whatever the count."""
    drawn = [
        torch.randint(0, 256, (frames, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed + i))
        for i in range(count)
    ]
    return Observations(ids=torch.arange(count) + 10, pixels=torch.stack(drawn))


def part(observations: Observations, low: int, high: int) -> Observations:
    """Some frames of all videos."""
    assert observations.pixels is not None
    return Observations(ids=observations.ids, pixels=observations.pixels[:, low:high])


def configured(name: str, *overrides: str, preset: str = "tiny"):
    """Build an encoder as a run does, from its YAML."""
    config = compose(method="cjepa", task="clevrer", preset=preset, overrides=[f"encoder={name}", *overrides])
    return instantiate(config.values.encoder)
