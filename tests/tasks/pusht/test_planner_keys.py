"""Every setting of the planners is a key, and answers for itself."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from omegaconf import OmegaConf

from ocwm.config import compose, instantiate
from ocwm.errors import BenchError
from ocwm.planning import PlannerConfig


def task(*overrides: str, preset: str = "paper"):
    return instantiate(compose(method="cjepa", task="pusht", preset=preset, overrides=overrides).values.task)


def test_the_defaults_are_the_planners_own() -> None:
    config = compose(method="cjepa", task="pusht", preset="paper").values
    assert {"planner": "cem", **OmegaConf.to_container(config.task.planning)} == asdict(PlannerConfig())
    assert task("task.planning.std=0.5", "task.planner=mppi").planning == PlannerConfig(planner="mppi", std=0.5)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("task.planning.samples=0",), r"task\.planning\.samples is 0\. Choose 1 or more\."),
        (("task.planning.samples=many",), r"task\.planning\.samples must be a whole number, not 'many'"),
        (("task.planning.elites=301",), r"task\.planning\.elites is 301\. There are only 300 samples\."),
        (("task.planning.hozizon=3",), r"unknown key 'task\.planning\.hozizon' .* Did you mean 'horizon'\?"),
        (("task.planning.std=inf",), r"task\.planning\.std is inf\. Choose a finite number\."),
        (("task.planner=cme",), r"task\.planner=cme is not known\. Did you mean 'cem'\?"),
        (("task.planner=mppi", "task.planning.temperature=0"), r"task\.planning\.temperature is 0\.0\."),
        (("task.planning.horizon=4",), r"task\.take=5 blocks are more than a plan of task\.planning\.horizon=4"),
        (("task.planning.horizon=11",), r"a plan of 11 blocks of 5 actions is longer than task\.budget=50"),
    ],
)
def test_a_value_that_cannot_be_is_answered_in_one_line(overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(BenchError, match=said) as caught:
        task(*overrides)
    assert "\n" not in str(caught.value)
