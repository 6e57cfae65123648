"""Settings of planners that can't be are answered in one line, from Python and from the command line."""

from __future__ import annotations

import math

import pytest

from ocwm.errors import BenchError
from ocwm.planning import PlannerConfig


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"planner": "cme"}, r"task.planning.planner is 'cme'. Did you mean 'cem'\?"),
        ({"samples": 0}, "task.planning.samples is 0. Choose 1 or more."),
        ({"iterations": 0}, "task.planning.iterations is 0. Choose 1 or more."),
        ({"horizon": -1}, "task.planning.horizon is -1. Choose 1 or more."),
        ({"std": 0.0}, "task.planning.std is 0.0"),
        ({"std": math.nan}, "task.planning.std is nan"),
        ({"std": math.inf}, "task.planning.std is inf. Choose a finite number."),
        ({"planner": "icem", "noise_beta": math.inf}, "task.planning.noise_beta is inf"),
        ({"elites": 1}, "task.planning.elites is 1. Choose 2 or more"),
        ({"elites": 301}, "task.planning.elites is 301. There are only 300 samples."),
        ({"planner": "icem", "keep_elites": 1.5}, "task.planning.keep_elites is 1.5"),
        ({"planner": "icem", "noise_beta": -1.0}, "task.planning.noise_beta is -1.0"),
        ({"planner": "icem", "momentum": 1.0}, "task.planning.momentum is 1.0"),
        ({"planner": "icem", "decay": 0.5}, "task.planning.decay is 0.5"),
        ({"planner": "mppi", "temperature": 0.0}, "task.planning.temperature is 0.0"),
        ({"planner": "gradient", "lr": math.nan}, "task.planning.lr is nan"),
    ],
)
def test_settings_that_cannot_be_are_named(wrong: dict, said: str) -> None:
    with pytest.raises(BenchError, match=said) as caught:
        PlannerConfig(**wrong)
    assert "\n" not in str(caught.value)


def test_settings_of_other_planners_do_not_matter() -> None:
    assert PlannerConfig(planner="mppi", samples=4, elites=30).samples == 4
    assert PlannerConfig(planner="cem", temperature=-1.0, lr=0.0).planner == "cem"
