"""Frames and configured encoders for the tests of pixel encoders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ocwm.config import compose, instantiate
from ocwm.kept_frames import ClipData
from ocwm.trainer import TrainerConfig, fit
from ocwm.types import Observations

CPU = torch.device("cpu")


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


def disc_frames(count: int = 4, frames: int = 8, *, size: tuple[int, int] = (64, 96)) -> np.ndarray:
    """Two discs that move over a grey slope, (count, frames, 3, *size) uint8."""
    random = np.random.default_rng(1)
    height, width = size
    y, x = np.mgrid[:height, :width]
    made = np.empty((count, frames, 3, height, width), np.uint8)
    for video in range(count):
        where, speed = random.uniform(0.25, 0.75, (2, 2)) * size, random.uniform(-1.5, 1.5, (2, 2))
        for t in range(frames):
            made[video, t] = 140 + y // 4
            for colour, (cy, cx) in zip(((220, 40, 40), (40, 60, 220)), where + t * speed, strict=True):
                made[video, t][:, (y - cy) ** 2 + (x - cx) ** 2 < (height / 8) ** 2] = np.array(colour)[:, None]
    return made


def in_training(name: str, *overrides: str, preset: str = "tiny"):
    """Build an encoder's training as `bench train-encoder` does; also return its trainer settings."""
    config = compose(method=None, task="clevrer", preset=preset, overrides=overrides, trains=name)
    training = instantiate(config.values.training, instantiate(config.values.encoder))
    return training, TrainerConfig(**config.values.trainer)


def fitted(name: str, folder: Path, *overrides: str, frames: np.ndarray | None = None):
    """Train an encoder on discs; return the training and the report."""
    training, settings = in_training(name, *overrides)
    frames = disc_frames() if frames is None else frames
    training.start(frames)
    report = fit(training, ClipData(frames, training.clips), settings, seed=0, folder=folder, device=CPU)
    return training.eval(), report
