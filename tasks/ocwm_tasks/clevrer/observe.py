"""What an encoder gets to see of a CLEVRER video: object states or frames.

Shape letters: B videos, T frames, n objects, F state features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ocwm.types import Observations
from ocwm_tasks.clevrer.scene import COLORS, MATERIALS, MAX_OBJECTS, SHAPES, Coordinates, Scene

GROUPS = (
    ("position", 2),
    ("visible", 1),
    ("color", len(COLORS)),
    ("material", len(MATERIALS)),
    ("shape", len(SHAPES)),
)

# Origin and unit that bring both coordinate systems to about -3..3. They are fixed, not fitted, so that no statistic
# of any split enters a latent. A run reads one system only.
FRAME_OF: dict[Coordinates, tuple[tuple[float, float], float]] = {
    "world": ((0.0, 0.0), 1.0),
    "image": ((50.0, 75.0), 25.0),
}


def state_observations(scenes: Sequence[Scene]) -> Observations:
    """States of B videos with equally many frames: (B, T, 6, F), padded with objects that are never visible."""
    frames = len(scenes[0].frames)
    width = sum(count for _, count in GROUPS)
    state = np.zeros((len(scenes), frames, MAX_OBJECTS, width), dtype=np.float32)
    visible = np.zeros((len(scenes), frames, MAX_OBJECTS), dtype=np.bool_)
    for row, scene in enumerate(scenes):
        origin, unit = FRAME_OF[scene.coordinates]
        n = len(scene.objects)
        visible[row, :, :n] = scene.visible & np.isfinite(scene.positions).all(axis=-1)
        state[row, :, :n, :2] = np.nan_to_num((scene.positions - np.array(origin, dtype=np.float32)) / unit)
        state[row, :, :n, 2] = 1.0
        for i, thing in enumerate(scene.objects):
            state[row, :, i, 3:] = _attributes(thing.color, thing.material, thing.shape)
    return Observations(
        ids=torch.tensor([scene.index for scene in scenes]),
        state=torch.from_numpy(state),
        visible=torch.from_numpy(visible),
        groups=GROUPS,
    )


def drawn_states(videos: int, frames: int) -> Observations:
    """States in the form of `state_observations` that no simulation stands behind: objects on straight lines."""
    rng = np.random.default_rng(0)
    shape = (videos, 1, MAX_OBJECTS)
    paths = [rng.uniform(-2, 2, (*shape, 2)) + rng.normal(0, 0.1, (*shape, 2)) * np.arange(frames)[:, None, None]]
    for name, width in GROUPS[1:]:
        values = np.ones(shape, dtype=np.int64) if name == "visible" else rng.integers(width, size=shape)
        hot = np.eye(width)[values] if width > 1 else values[..., None]
        paths.append(np.broadcast_to(hot, (videos, frames, MAX_OBJECTS, width)))
    enters, leaves = rng.integers(0, frames // 2 + 1, shape), rng.integers(frames // 2 + 1, frames + 2, shape)
    clock = np.arange(frames)[:, None]
    return Observations(
        ids=torch.arange(videos),
        state=torch.from_numpy(np.concatenate(paths, axis=-1).astype(np.float32)),
        visible=torch.from_numpy((enters <= clock) & (clock < leaves)),
        groups=GROUPS,
    )


def pixel_observations(index: int, frames: NDArray[np.uint8]) -> Observations:
    """Frames (T, H, W, 3) of one video."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))[None]
    return Observations(ids=torch.tensor([index]), pixels=pixels)


def _attributes(color: str, material: str, shape: str) -> NDArray[np.float32]:
    hot = np.zeros(len(COLORS) + len(MATERIALS) + len(SHAPES), dtype=np.float32)
    hot[COLORS.index(color)] = 1.0
    hot[len(COLORS) + MATERIALS.index(material)] = 1.0
    hot[len(COLORS) + len(MATERIALS) + SHAPES.index(shape)] = 1.0
    return hot
