"""Settings of the planners: the keys of `task.planning`."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from ocwm.errors import BenchError, suggest

PLANNING_VERSION = 1  # goes up whenever a planner chooses other actions

PlannerName = Literal["cem", "icem", "mppi", "gradient"]


@dataclass(frozen=True)
class PlannerConfig:
    """How actions are searched; the defaults are the published CEM (arXiv 2411.04983, 2602.11389).

    Attributes:
        planner: "cem", "icem", "mppi" or "gradient".
        samples: candidates S of an iteration; for "gradient" the number of restarts.
        iterations: how often candidates are evaluated; for "gradient" the number of updates.
        horizon: action blocks H of a plan.
        std: standard deviation of the first candidates, in the (normalised) units of the actions.
        elites: best candidates that the next distribution is fitted to ("cem", "icem").
        keep_elites: share of the elites that take part in the next iteration again ("icem").
        noise_beta: exponent of the noise's spectrum over time: 0 white, 2 Brownian ("icem").
        momentum: share of the old mean and standard deviation in the new ones ("icem").
        decay: factor by which the number of candidates shrinks from iteration to iteration, down to two for each elite
            ("icem").
        temperature: of the weights exp(-cost / temperature), in standard deviations of the candidates' costs ("mppi").
        lr: step size of Adam ("gradient").

    Raises:
        BenchError: a setting that can't be, by its key.
    """

    planner: PlannerName = "cem"
    samples: int = 300
    iterations: int = 30
    horizon: int = 5
    std: float = 1.0
    elites: int = 30
    keep_elites: float = 0.3
    noise_beta: float = 2.0
    momentum: float = 0.1
    decay: float = 1.25
    temperature: float = 0.3
    lr: float = 0.1

    def __post_init__(self) -> None:
        if self.planner not in get_args(PlannerName):
            raise BenchError(
                f"task.planning.planner is '{self.planner}'", suggest(str(self.planner), get_args(PlannerName))
            )
        for key, value in asdict(self).items():
            self._require(key, isinstance(value, str) or math.isfinite(value), "Choose a finite number.")
        for key in ("samples", "iterations", "horizon"):
            self._require(key, getattr(self, key) >= 1, "Choose 1 or more.")
        self._require("std", self.std > 0, "Choose more than 0.")
        if self.planner in ("cem", "icem"):
            self._require("elites", self.elites >= 2, "Choose 2 or more: their spread is the next standard deviation.")
            self._require("elites", self.elites <= self.samples, f"There are only {self.samples} samples.")
        if self.planner == "icem":
            self._require("keep_elites", 0 <= self.keep_elites <= 1, "Choose a share, 0 to 1.")
            self._require("noise_beta", self.noise_beta >= 0, "Choose 0 (white noise) or more.")
            self._require("momentum", 0 <= self.momentum < 1, "Choose 0 (none) or more, below 1.")
            self._require("decay", self.decay >= 1, "Choose 1 (none) or more.")
        if self.planner == "mppi":
            self._require("temperature", self.temperature > 0, "Choose more than 0.")
        if self.planner == "gradient":
            self._require("lr", self.lr > 0, "Choose more than 0.")

    def _require(self, key: str, holds: bool, hint: str) -> None:
        if not holds:
            raise BenchError(f"task.planning.{key} is {getattr(self, key)}", hint)
