"""References that belong to Push-T: floors and ceilings of control.

Shape letters: P problems, n actions until the next plan.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ocwm.interfaces import Privilege, Reference
from ocwm_tasks.pusht.control import Controller, View
from ocwm_tasks.pusht.normalisation import Normalisation
from ocwm_tasks.pusht.state import ACTION_DIM


@dataclass(frozen=True)
class Setting:
    """What every controller of a run has in common.

    Attributes:
        seed: of the evaluation.
        block: actions between two latent frames.
        steps: actions from one plan to the next.
        actions: statistics of the training actions (2,).
    """

    seed: int
    block: int
    steps: int
    actions: Normalisation


class ControlReference(Reference):
    """A floor or ceiling of control."""

    @abstractmethod
    def controller(self, setting: Setting) -> Controller:
        """Return what acts."""


class Random(ControlReference):
    """Actions drawn one by one from a Gaussian with the training actions' mean and deviation, as a planner's first guess."""

    version: ClassVar[int] = 1

    def controller(self, setting: Setting) -> Controller:
        """Random numbers are drawn by problem, whatever runs beside it."""
        return _Drawn(setting)


class ZeroAction(ControlReference):
    """No action at all: the agent stands still."""

    version: ClassVar[int] = 1

    def controller(self, setting: Setting) -> Controller:
        """Zeros."""
        return _Still(setting)


class Replay(ControlReference):
    """The recorded actions, then none: whether goals can be reached from the starts that are set."""

    version: ClassVar[int] = 1
    privileged: ClassVar[Privilege] = "recorded_actions"

    def controller(self, setting: Setting) -> Controller:
        """What was recorded."""
        return _Recorded(setting)


class SimulatorModel(Reference):
    """The task's planner with the simulator in place of a world model: what planning itself can reach."""

    version: ClassVar[int] = 1
    privileged: ClassVar[Privilege] = "simulator"


@dataclass(frozen=True)
class _Drawn(Controller):
    setting: Setting

    def act(self, views: Sequence[View]) -> NDArray[np.float64]:
        shape = (self.setting.steps, ACTION_DIM)
        keys = [(self.setting.seed, view.problem.number, view.replan) for view in views]
        drawn = np.stack([np.random.default_rng(key).standard_normal(shape) for key in keys])
        return np.asarray(self.setting.actions.invert(drawn), dtype=np.float64)


@dataclass(frozen=True)
class _Still(Controller):
    setting: Setting

    def act(self, views: Sequence[View]) -> NDArray[np.float64]:
        return np.zeros((len(views), self.setting.steps, ACTION_DIM))


@dataclass(frozen=True)
class _Recorded(Controller):
    setting: Setting

    def act(self, views: Sequence[View]) -> NDArray[np.float64]:
        chosen = np.zeros((len(views), self.setting.steps, ACTION_DIM))
        for row, view in enumerate(views):
            left = view.problem.recorded[view.step : view.step + self.setting.steps]
            chosen[row, : len(left)] = left
        return chosen
