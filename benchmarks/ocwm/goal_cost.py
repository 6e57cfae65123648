"""How far a rollout is from a goal, for planners.

Shape letters: B batch (plans), K predicted frames, N slots, D slot dimension, E width of a proprioception embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from ocwm.errors import BenchError, suggest
from ocwm.matching import Distance, distances, match, reorder
from ocwm.types import LatentBatch

SlotMatching = Literal["hungarian", "none"]
Frames = Literal["last", "all"]


class GoalCost(NamedTuple):
    """The two parts of a plan's cost, (B,) each; `proprio` is 0 where there is none, and counts `alpha` times."""

    slots: Tensor
    proprio: Tensor
    alpha: float = 1.0

    @property
    def total(self) -> Tensor:
        """Their weighted sum."""
        return self.slots + self.alpha * self.proprio


@dataclass(frozen=True)
class Objective:
    """Distance of predicted frames to a goal frame; differentiable in the prediction.

    Defaults are those of C-JEPA's released code (arXiv 2602.11389); without matching it is DINO-WM's (arXiv 2411.04983).

    Attributes:
        matching: "hungarian" assigns the slots of every frame to the goal's, "none" compares slot by slot (patches).
        distance: of slots; the mean over N, and for "mse" over D too.
        alpha: weight of proprioception's mean square error.
        frames: the last predicted frame, or "all": frame t weighs base^t, and as published the weighted mean is divided
            by their number once more.
        base: growth of the weights under "all".

    Raises:
        BenchError: a setting that can't be.
    """

    matching: SlotMatching = "hungarian"
    distance: Distance = "mse"
    alpha: float = 1.0
    frames: Frames = "last"
    base: float = 2.0

    def __post_init__(self) -> None:
        for key, known in (("matching", SlotMatching), ("distance", Distance), ("frames", Frames)):
            if (value := getattr(self, key)) not in get_args(known):
                raise BenchError(f"unknown objective {key} '{value}'", suggest(str(value), get_args(known)))
        if not self.alpha >= 0:
            raise BenchError(f"the objective's alpha is {self.alpha}", "Choose 0 (slots alone) or more.")
        if not self.base > 0:
            raise BenchError(f"the objective's base is {self.base}", "Choose more than 0; 1 weighs all frames alike.")

    def __call__(self, predicted: LatentBatch, goal: LatentBatch) -> GoalCost:
        """Cost of every plan.

        Args:
            predicted: latents (B, K, N, D) and, for a model with proprioception, its predicted embeddings (B, K, E).
            goal: one frame, (B, 1, N, D) and (B, 1, E); its proprioception is embedded by the model as well.

        Raises:
            BenchError: only one of the two has proprioception.
        """
        first = 0 if self.frames == "all" else -1
        slots = predicted.latents[:, first:]
        aim = goal.latents[:, -1:].expand_as(slots)
        if self.matching == "hungarian":
            slots = reorder(slots, match(slots, aim, distance=self.distance))
        cost = distances(slots, aim, distance=self.distance).mean(-1)
        if self.distance == "mse":
            cost = cost / slots.shape[-1]
        cost = self._over_frames(cost)
        if predicted.proprio is None and goal.proprio is None:
            return GoalCost(cost, cost.new_zeros(cost.shape), self.alpha)
        if predicted.proprio is None or goal.proprio is None:
            lacking = "rollout" if predicted.proprio is None else "goal"
            raise BenchError(f"the {lacking} has no proprioception to compare")
        error = (predicted.proprio[:, first:] - goal.proprio[:, -1:]).square().mean(-1)
        return GoalCost(cost, self._over_frames(error), self.alpha)

    def _over_frames(self, cost_BK: Tensor) -> Tensor:
        """Costs (B,) of plans from those of their frames."""
        if self.frames == "last":
            return cost_BK[:, -1]
        weights = self.base ** torch.arange(cost_BK.shape[1], dtype=torch.float32, device=cost_BK.device)
        return (cost_BK * (weights / weights.sum())).mean(-1)
