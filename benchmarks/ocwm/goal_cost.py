"""How far the end of a rollout is from a goal, for planners.

Shape letters: B batch (plans), K predicted frames, N slots, D slot dimension, E width of a proprioception embedding.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ocwm.errors import BenchError
from ocwm.matching import Distance, distances, match, reorder
from ocwm.types import LatentBatch


class GoalCost(NamedTuple):
    """The two parts of a plan's cost, (B,) each; `proprio` is 0 where there is none."""

    slots: Tensor
    proprio: Tensor

    @property
    def total(self) -> Tensor:
        """Their sum, weighted alike."""
        return self.slots + self.proprio


def matched_goal_cost(predicted: LatentBatch, goal: LatentBatch, *, distance: Distance = "mse") -> GoalCost:
    """Distance of the last predicted frame to the goal, slots matched to the goal's (arXiv 2602.11389, released code).

    Args:
        predicted: latents (B, K, N, D) and, for a model with proprioception, its predicted embeddings (B, K, E).
        goal: one frame, (B, 1, N, D) and (B, 1, E); its proprioception is embedded by the model as well.
        distance: of slots; the mean over N, and for "mse" over D too. Differentiable in the prediction.

    Raises:
        BenchError: only one of the two has proprioception.
    """
    last, aim = predicted.latents[:, -1], goal.latents[:, -1]
    cost = distances(reorder(last, match(last, aim, distance=distance)), aim, distance=distance).mean(-1)
    if distance == "mse":
        cost = cost / last.shape[-1]
    if predicted.proprio is None and goal.proprio is None:
        return GoalCost(cost, cost.new_zeros(cost.shape))
    if predicted.proprio is None or goal.proprio is None:
        lacking = "rollout" if predicted.proprio is None else "goal"
        raise BenchError(f"the {lacking} has no proprioception to compare")
    return GoalCost(cost, (predicted.proprio[:, -1] - goal.proprio[:, -1]).square().mean(-1))
