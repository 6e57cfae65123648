"""Planning of several problems at once.

Shape letters: P problems, S candidates, H action blocks, A numbers of a block, I iterations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ocwm.errors import BenchError
from ocwm.planning.config import PlannerConfig
from ocwm.planning.draws import Draw, Key, keyed_draw
from ocwm.planning.searches import SEARCHES, Bounds

CostFunction = Callable[[Tensor], Tensor]  # candidates (P, S, H, A) -> costs (P, S), lower is better


@dataclass(frozen=True)
class Plan:
    """What planning gives.

    Attributes:
        actions: (P, H, A) to carry out: the final mean for "cem" (as published) and "mppi", the cheapest candidate for
            "icem" and "gradient".
        std: (P, H, A), the final standard deviation of the candidates.
        costs: (P, I), the cheapest candidate of each iteration.
        candidates: number of candidates that were evaluated for each problem.
    """

    actions: Tensor
    std: Tensor
    costs: Tensor
    candidates: int


class Planner:
    """Searches the actions of P problems in step, so that their candidates are evaluated together.

    The searches share nothing but the calls of the cost function: as far as that treats every problem by itself, a
    problem's plan is the same bit for bit whatever is planned beside it. Searching takes place on the CPU.

    Args:
        config: settings.
        action_dim: numbers A of an action block.
        block: steps of the environment in a block, in which order the A numbers come; colours the noise of "icem".
        bounds: "icem" and "gradient" stay within; "cem" and "mppi" never clip, as published.

    Raises:
        BenchError: A is no multiple of `block`.
    """

    def __init__(self, config: PlannerConfig, *, action_dim: int, block: int = 1, bounds: Bounds | None = None) -> None:
        if block < 1 or action_dim % block:
            raise BenchError(
                f"action blocks of {action_dim} numbers can't hold {block} steps", "The width is steps times actions."
            )
        self.config = config
        self.action_dim = action_dim
        self.block = block
        self.bounds = bounds
        self.search = SEARCHES[config.planner]

    def plan(self, cost: CostFunction, *, keys: Sequence[Key], start: Tensor | None = None) -> Plan:
        """Plan for as many problems as there are keys.

        Args:
            cost: costs (P, S) on any device of candidates (P, S, H, A) on the CPU; for "gradient" differentiable.
            keys: of each problem, e.g. (seed, episode, replan): all of its random numbers come from there.
            start: (P, h, A), a first guess of the first h blocks; the others start at 0, all with deviation `std`.

        Raises:
            BenchError: `start` does not fit, or a cost is not finite.
        """
        return self.solve(cost, [keyed_draw(key) for key in keys], start=start)

    def solve(self, cost: CostFunction, draws: Sequence[Draw], *, start: Tensor | None = None) -> Plan:
        """Like `plan`, with given random numbers of each problem."""
        searches = [
            self.search(self.config, draw, mean, block=self.block, bounds=self.bounds)
            for draw, mean in zip(draws, self._means(len(draws), start), strict=True)
        ]
        cheapest, evaluated = [], 0
        for _ in range(self.config.iterations):
            candidates = torch.stack([search.ask() for search in searches])
            costs, gradients = self._evaluate(cost, candidates)
            for search, *told in zip(searches, candidates, costs, gradients, strict=True):
                search.tell(*told)
            cheapest.append(costs.amin(1))
            evaluated += candidates.shape[1]
        return Plan(
            actions=torch.stack([search.actions for search in searches]),
            std=torch.stack([search.std for search in searches]),
            costs=torch.stack(cheapest, dim=1),
            candidates=evaluated,
        )

    def _means(self, problems: int, start: Tensor | None) -> Tensor:
        """Where the searches start, (P, H, A)."""
        means = torch.zeros(problems, self.config.horizon, self.action_dim)
        if start is None:
            return means
        known = start.shape[1] if start.ndim == 3 else 0
        if start.shape != (problems, known, self.action_dim) or known > self.config.horizon:
            raise BenchError(
                f"a plan of {tuple(means.shape)} (problems, blocks, numbers) can't start from {tuple(start.shape)}",
                "A start has as many problems and numbers, and as many blocks or fewer.",
            )
        means[:, :known] = start
        return means

    def _evaluate(self, cost: CostFunction, candidates: Tensor) -> tuple[Tensor, Sequence[Tensor | None]]:
        """Costs (P, S) and, for searches that want them, their gradients, (S, H, A) each."""
        gradients: Sequence[Tensor | None] = [None] * len(candidates)
        if self.search.wants_gradient:
            with torch.enable_grad():
                leaves = candidates.detach().requires_grad_()
                costs = cost(leaves)
                gradients = list(torch.autograd.grad(costs.sum(), leaves)[0])
        else:
            with torch.no_grad():
                costs = cost(candidates)
        costs = costs.detach().float().cpu()
        if costs.shape != candidates.shape[:2]:
            raise ValueError(f"costs of shape {tuple(costs.shape)} for candidates of {tuple(candidates.shape)}")
        if not costs.isfinite().all():
            bad = int((~costs.isfinite()).sum())
            raise BenchError(
                f"the cost of {bad} of {costs.numel()} candidates is not a finite number",
                "The world model's rollout diverges: train it longer, or set task.planning.std lower.",
            )
        return costs, gradients
