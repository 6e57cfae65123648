"""How good a rollout is in itself: error of the latents, of the positions, and of the collisions that it brings about.

All figures are given for each video, with weights, so that the caller can average and resample over videos.

Shape letters: V videos, K predicted frames, N slots, D slot dimension, E horizons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ocwm.errors import BenchError
from ocwm_tasks.clevrer.scene import OBSERVED_FRAMES, ROLLOUT_FRAMES, Scene
from ocwm_tasks.clevrer.symbolic.events import Collisions
from ocwm_tasks.clevrer.symbolic.probe import COLUMNS, RidgeProbe, targets_of

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class PerVideo:
    """A figure of each video and its weight in the mean over videos.

    Attributes:
        value: (V,) or (V, E); 0 where the weight is 0.
        weight: of the same shape.
    """

    value: Float64
    weight: Float64

    def mean(self) -> Float64:
        """Weighted mean over the videos, () or (E,); nan where nothing weighs anything."""
        total = self.weight.sum(axis=0)
        mean = (self.value * self.weight).sum(axis=0) / np.where(total > 0, total, 1.0)
        return np.asarray(np.where(total > 0, mean, np.nan))

    def __getitem__(self, videos: NDArray[np.bool_]) -> PerVideo:
        return PerVideo(self.value[videos], self.weight[videos])


def slot_errors(predicted: NDArray[np.float32], truth: NDArray[np.float32], *, horizons: Sequence[int]) -> PerVideo:
    """Mean squared error over the slots and their width, after each of the horizons (V, E).

    Args:
        predicted, truth: (V, K, N, D) the frames after the observed ones.
        horizons: numbers of predicted frames, 1 = the first.

    Raises:
        BenchError: a horizon that the rollout does not reach.
    """
    steps = _steps(horizons, predicted.shape[1])
    # Only the wanted frames are read from memory maps.
    difference = np.asarray(predicted[:, steps], dtype=np.float64) - np.asarray(truth[:, steps], dtype=np.float64)
    value = np.square(difference).mean(axis=(2, 3))
    return PerVideo(value, np.ones_like(value))


def position_errors(
    probe: RidgeProbe,
    predicted: NDArray[np.float32],
    scenes: Sequence[Scene],
    slot_of: NDArray[np.int64],
    *,
    observed: int = OBSERVED_FRAMES,
    horizons: Sequence[int],
) -> PerVideo:
    """Mean distance to the true positions of the objects that are truly in view, after each of the horizons (V, E).

    Positions are read by the probe, also where the prediction shows nothing. Weights are numbers of objects.

    Args:
        probe: latents -> states.
        predicted: (V, K, N, D) the frames after the observed ones.
        scenes: V scenes whose samples reach as far.
        slot_of: (V, n or more) the slot that holds each object.
        observed: number of observed samples.
        horizons: numbers of predicted frames, 1 = the first.

    Raises:
        BenchError: a horizon that the rollout or the truth does not reach.
    """
    steps = _steps(horizons, min(predicted.shape[1], len(scenes[0].frames) - observed))
    truth = targets_of(scenes, slot_of, num_slots=predicted.shape[2])
    visible = truth.visible[:, observed + steps]
    read = probe.read(np.asarray(predicted[:, steps]))[..., COLUMNS["position"]]
    distance = np.linalg.norm(read - truth.positions[:, observed + steps], axis=-1)
    count = visible.sum(axis=2)
    total = np.where(visible, distance, 0.0).sum(axis=2)
    return PerVideo(total / np.maximum(count, 1), count.astype(np.float64))


def collision_f1(
    found: Collisions,
    scenes: Sequence[Scene],
    slot_of: NDArray[np.int64],
    *,
    first: int = OBSERVED_FRAMES,
    end: int = ROLLOUT_FRAMES,
) -> tuple[PerVideo, NDArray[np.bool_]]:
    """F1 of the pairs that touch for the first time in the frames `first` .. `end` - 1.

    Pairs that truly touched before are left out. The weighted mean over videos is the F1 of all pairs together (micro).

    Args:
        found: collisions read from observed frames followed by the rollout.
        scenes: V scenes with their true collisions up to `end`.
        slot_of: (V, n or more) the slot that holds each object.
        first, end: video frames.

    Returns:
        F1 (V,), and (V,) whether a pair truly does so in that video.
    """
    value, weight = np.zeros((2, len(scenes)))
    eventful = np.zeros(len(scenes), dtype=np.bool_)
    for video, scene in enumerate(scenes):
        slots = slot_of[video]
        contacts = [(c.frame, frozenset((int(slots[c.a]), int(slots[c.b])))) for c in scene.collisions]
        earlier = {pair for frame, pair in contacts if frame < first}
        true = {pair for frame, pair in contacts if first <= frame < end} - earlier
        read = {frozenset((a, b)) for frame, a, b in found.of(video) if first <= frame < end} - earlier
        weight[video] = len(true) + len(read)
        value[video] = 2 * len(true & read) / max(weight[video], 1)
        eventful[video] = bool(true)
    return PerVideo(value, weight), eventful


def _steps(horizons: Sequence[int], frames: int) -> NDArray[np.int64]:
    """Rows of the horizons."""
    for horizon in horizons:
        if not 1 <= horizon <= frames:
            raise BenchError(
                f"task.horizons has {horizon}, but there are {frames} predicted frames", f"Choose 1..{frames}."
            )
    return np.array(horizons, dtype=np.int64) - 1
