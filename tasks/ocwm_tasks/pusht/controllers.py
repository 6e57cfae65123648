"""Controllers that plan: with a world model, or with the simulator in its place.

Shape letters: P problems, S candidates, H horizon (action blocks), A numbers of a block, h observed frames, k actions of a
block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ocwm.interfaces import WorldModel
from ocwm.planning import ModelCost, Objective, Planner, PlanTimes
from ocwm.types import LatentBatch
from ocwm_tasks.pusht.control import Controller, View
from ocwm_tasks.pusht.observer import Observer
from ocwm_tasks.pusht.simulator import Simulator


@dataclass
class ModelController(Controller):
    """Plans in the imagination of a world model; it sees observations only.

    Attributes:
        model: trained, in evaluation mode.
        observer: encodes.
        planner, objective: what is searched, and for what.
        seed: of the evaluation; random numbers are drawn by (seed, problem, replan).
        take: action blocks of a plan that are carried out before the next.
    """

    model: WorldModel
    observer: Observer
    planner: Planner
    objective: Objective
    seed: int
    take: int
    times: PlanTimes = field(default_factory=PlanTimes)
    _left: dict[int, Tensor] = field(default_factory=dict)

    def act(self, views: Sequence[View]) -> NDArray[np.float64]:
        """Plan for all problems together; those with equally many frames share a batch."""
        chosen: dict[int, NDArray[np.float64]] = {}
        for frames in sorted({len(view.states) for view in views}):
            same = [row for row, view in enumerate(views) if len(view.states) == frames]
            chosen.update(zip(same, self._plan([views[row] for row in same]), strict=True))
        return np.stack([chosen[row] for row in range(len(views))])

    def _plan(self, views: Sequence[View]) -> NDArray[np.float64]:
        with self.times.time("encode"):
            history, goal = self.observer.look(views)
        cost = ModelCost(self.model, history, goal, self.objective, device=self.observer.device, times=self.times)
        with self.times.rest("search"):
            plan = self.planner.plan(cost, keys=keys_of(views, self.seed), start=_warm(self._left, views))
        _keep(self._left, views, plan.actions, self.take)
        return self.observer.unnormalised(plan.actions[:, : self.take])


@dataclass
class SimulatorController(Controller):
    """Plans in the simulator itself, set to the true state: the ceiling of a planner and its budget.

    The goal's distance is the one that learned models get: that of latents and proprioception.

    Attributes: see `ModelController`.
    """

    observer: Observer
    planner: Planner
    objective: Objective
    seed: int
    take: int
    _left: dict[int, Tensor] = field(default_factory=dict)

    def act(self, views: Sequence[View]) -> NDArray[np.float64]:
        """Plan for one problem after the other."""
        return np.concatenate([self._plan(view) for view in views])

    def _plan(self, view: View) -> NDArray[np.float64]:
        _, goal = self.observer.look([view])
        simulator = Simulator()

        def cost(candidates_1SHA: Tensor) -> Tensor:
            actions = self.observer.unnormalised(candidates_1SHA[0])
            ends = np.empty((len(actions), 1, len(view.states[-1])))
            for row, sequence in enumerate(actions):
                state = simulator.reset(view.states[-1])
                for action in sequence:
                    state = simulator.step(action)
                ends[row, 0] = state
            return self._distance(view, ends, goal)[None]

        plan = self.planner.plan(cost, keys=keys_of([view], self.seed), start=_warm(self._left, [view]))
        _keep(self._left, [view], plan.actions, self.take)
        return self.observer.unnormalised(plan.actions[:, : self.take])

    def _distance(self, view: View, ends: NDArray[np.float64], goal: LatentBatch) -> Tensor:
        """What is left from the ends (S, 1, 7) of S candidates to the goal, (S,)."""
        reached = self.observer.encode(ends, np.full(len(ends), view.problem.episode))
        assert goal.proprio is not None
        same = LatentBatch(goal.latents.expand(len(ends), -1, -1, -1), proprio=goal.proprio.expand(len(ends), -1, -1))
        return self.objective(reached, same).total


def keys_of(views: Sequence[View], seed: int) -> list[tuple[int, int, int]]:
    """What each problem's random numbers are drawn by."""
    return [(seed, view.problem.number, view.replan) for view in views]


def _warm(left: dict[int, Tensor], views: Sequence[View]) -> Tensor | None:
    """What is left of the last plans (P, n, A); None where this is the first, or nothing is left."""
    if any(view.problem.number not in left for view in views):
        return None
    kept = torch.stack([left[view.problem.number] for view in views])
    return kept if kept.shape[1] else None


def _keep(left: dict[int, Tensor], views: Sequence[View], plans_PHA: Tensor, take: int) -> None:
    for view, plan in zip(views, plans_PHA[:, take:], strict=True):
        left[view.problem.number] = plan
