"""Latents of the simulation without an object: the truth about counterfactual questions.

Shape letters: B removals, T frames, N slots, D slot dimension.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ocwm_tasks.clevrer.observe import state_observations
from ocwm_tasks.clevrer.pipeline import Float32, Pipeline


class Resimulated:
    """Encodes the re-simulated videos of a split.

    Args:
        pipeline: with data that holds the truth about removals.
        name: of the split.
    """

    def __init__(self, pipeline: Pipeline, name: str) -> None:
        split = pipeline.splits[name]
        self.scenes = split.scenes
        self.removals = split.removals
        self.slot_of = pipeline.latents(name).slot_of
        self.encoder = pipeline.context.encoder

    def __call__(self, video: NDArray[np.int64], slot: NDArray[np.int64]) -> Float32:
        """Rows of videos (B,) and removed slots (B,) -> latents (B, T, N, D)."""
        scenes = []
        for row, held in zip(video.tolist(), slot.tolist(), strict=True):
            thing = int(np.flatnonzero(self.slot_of[row] == held)[0])
            truth = self.removals[row]
            scene = self.scenes[row]
            scenes.append(replace(scene, positions=truth.positions[thing], visible=truth.visible[thing]))
        return self.encoder.encode(state_observations(scenes))[0].latents.numpy()
