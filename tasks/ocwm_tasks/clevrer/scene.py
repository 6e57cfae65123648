"""What is known about one CLEVRER video: objects, motion and collisions.

Shape letters: T sampled frames, n objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

COLORS = ("blue", "brown", "cyan", "gray", "green", "purple", "red", "yellow")
MATERIALS = ("metal", "rubber")
SHAPES = ("cube", "cylinder", "sphere")

OBSERVED_FRAMES = 128  # frames of a video, all that a model may see
ROLLOUT_FRAMES = 160  # a rollout ends here; predictive and counterfactual truth too
MAX_OBJECTS = 6

Coordinates = Literal["world", "image"]


@dataclass(frozen=True)
class ObjectProperty:
    """Colour, material and shape: together unique within a video."""

    color: str
    material: str
    shape: str


@dataclass(frozen=True)
class Collision:
    """First contact of an episode of contact between two objects, `a < b`."""

    frame: int
    a: int
    b: int


@dataclass(frozen=True)
class Scene:
    """State of a video at the sampled frames.

    Attributes:
        index: number of the video in the data set.
        objects: n objects.
        frames: (T,) int64 video frames that the rows below belong to (0..127, or 0, 5, ..., 125).
        positions: (T, n, 2) float32; NaN where unknown. World units, or image-plane units.
        visible: (T, n) bool, inside the camera view.
        collisions: sorted by frame.
        coordinates: which of the two systems `positions` is in; they are never mixed.
        velocities: (T, n, 2) float32 per second where the file gives them.
    """

    index: int
    objects: tuple[ObjectProperty, ...]
    frames: NDArray[np.int64]
    positions: NDArray[np.float32]
    visible: NDArray[np.bool_]
    collisions: tuple[Collision, ...]
    coordinates: Coordinates
    velocities: NDArray[np.float32] | None = None
