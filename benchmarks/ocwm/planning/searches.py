"""The planners' rules, for one problem each: ask for candidates, tell their costs.

Shape letters: S candidates, H action blocks, A numbers of a block.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ocwm.planning.config import PlannerConfig
from ocwm.planning.draws import Draw, coloured


class Bounds(NamedTuple):
    """Lowest and highest values (A,) of a block, in the units in which plans are made."""

    low: Tensor
    high: Tensor

    @classmethod
    def normalised(cls, low: Tensor, high: Tensor, *, mean: Tensor, std: Tensor) -> Bounds:
        """Bounds of real actions, for plans of normalised ones; all are (A,)."""
        return cls((low - mean) / std, (high - mean) / std)


class Search(ABC):
    """State of one problem's search.

    Args:
        config: settings.
        draw: the problem's random numbers.
        mean: (H, A), what is known of a good plan.
        block: steps of the environment in a block.
        bounds: of actions; without them nothing is clipped.
    """

    wants_gradient: ClassVar[bool] = False

    def __init__(
        self, config: PlannerConfig, draw: Draw, mean: Tensor, *, block: int = 1, bounds: Bounds | None = None
    ) -> None:
        self.config = config
        self.draw = draw
        self.mean = mean
        self.std = torch.full_like(mean, config.std)
        self.block = block
        self.bounds = bounds

    @property
    def actions(self) -> Tensor:
        """The plan so far (H, A)."""
        return self.mean

    @abstractmethod
    def ask(self) -> Tensor:
        """Candidates (S, H, A) of the next iteration."""

    @abstractmethod
    def tell(self, candidates: Tensor, costs: Tensor, gradient: Tensor | None) -> None:
        """Learn from what was asked: costs (S,) and, if wanted, their gradient (S, H, A)."""

    def _sample(self) -> Tensor:
        """Candidates around the mean, of which the first is the mean itself, as published."""
        noise = self.draw((self.config.samples, *self.mean.shape))
        candidates = noise * self.std + self.mean
        candidates[0] = self.mean
        return candidates


class CEM(Search):
    """Cross-entropy method as published: no momentum, no floor of the deviation, no clipping; the plan is the mean."""

    elites: Tensor  # indices of the last iteration's best, best first

    def ask(self) -> Tensor:
        """Draw around the mean."""
        return self._sample()

    def tell(self, candidates: Tensor, costs: Tensor, gradient: Tensor | None) -> None:
        """Fit mean and (unbiased) standard deviation to the elites."""
        self.elites = costs.argsort(stable=True)[: self.config.elites]
        chosen = candidates[self.elites]
        self.mean, self.std = chosen.mean(0), chosen.std(0)


class ICEM(Search):
    """Improved CEM (arXiv 2008.06389): coloured noise, fewer candidates each time, kept elites, the best one is the plan."""

    def __init__(
        self, config: PlannerConfig, draw: Draw, mean: Tensor, *, block: int = 1, bounds: Bounds | None = None
    ) -> None:
        super().__init__(config, draw, mean, block=block, bounds=bounds)
        self.iteration = 0
        self.kept = mean[:0, None].expand(0, *mean.shape)
        self.best, self.best_cost = mean, float("inf")

    @property
    def actions(self) -> Tensor:
        """The cheapest candidate so far."""
        return self.best

    def ask(self) -> Tensor:
        """Draw around the mean with noise that is coloured over the environment's steps; the last time the mean too."""
        config, shape = self.config, self.mean.shape
        samples = max(int(config.samples * config.decay**-self.iteration), min(2 * config.elites, config.samples))
        white = self.draw((samples, *shape)).view(samples, shape[0] * self.block, -1)
        candidates = coloured(white, config.noise_beta).reshape(samples, *shape) * self.std + self.mean
        self.iteration += 1
        if self.iteration == config.iterations:
            candidates[0] = self.mean
        if self.bounds is not None:
            candidates = candidates.clamp(*self.bounds)
        return torch.cat([candidates, self.kept])

    def tell(self, candidates: Tensor, costs: Tensor, gradient: Tensor | None) -> None:
        """Move mean and standard deviation towards those of the elites, and keep some of them."""
        chosen = candidates[costs.argsort(stable=True)[: self.config.elites]]
        if (lowest := float(costs.min())) < self.best_cost:
            self.best, self.best_cost = chosen[0], lowest
        self.kept = chosen[: int(self.config.keep_elites * self.config.elites)]
        self.mean = torch.lerp(chosen.mean(0), self.mean, self.config.momentum)
        self.std = torch.lerp(chosen.std(0), self.std, self.config.momentum)


class MPPI(Search):
    """Model-predictive path integral: a mean over all candidates, weighted by exp(-cost); the deviation stays."""

    def ask(self) -> Tensor:
        """Draw around the mean."""
        return self._sample()

    def tell(self, candidates: Tensor, costs: Tensor, gradient: Tensor | None) -> None:
        """Average; costs are compared in units of their spread, so that one temperature suits all encoders."""
        spread = costs.std(correction=0).clamp(min=torch.finfo(costs.dtype).tiny)
        weights = (-(costs - costs.min()) / (spread * self.config.temperature)).softmax(0)
        self.mean = (weights[:, None, None] * candidates).sum(0)


class Gradient(Search):
    """Adam on the actions, from several starts at once; the cheapest candidate that was seen is the plan."""

    wants_gradient = True

    def __init__(
        self, config: PlannerConfig, draw: Draw, mean: Tensor, *, block: int = 1, bounds: Bounds | None = None
    ) -> None:
        super().__init__(config, draw, mean, block=block, bounds=bounds)
        self.points = self._sample()
        self.optimizer = torch.optim.Adam([self.points], lr=config.lr)
        self.best, self.best_cost = mean, float("inf")

    @property
    def actions(self) -> Tensor:
        """The cheapest candidate so far."""
        return self.best

    def ask(self) -> Tensor:
        """Where the restarts are; the first began at the mean."""
        return self.points.clone()

    def tell(self, candidates: Tensor, costs: Tensor, gradient: Tensor | None) -> None:
        """Make one update."""
        assert gradient is not None
        lowest = int(costs.argmin())
        if float(costs[lowest]) < self.best_cost:
            self.best, self.best_cost = candidates[lowest], float(costs[lowest])
        self.points.grad = gradient
        self.optimizer.step()
        if self.bounds is not None:
            self.points.clamp_(*self.bounds)


SEARCHES: dict[str, type[Search]] = {"cem": CEM, "icem": ICEM, "mppi": MPPI, "gradient": Gradient}
