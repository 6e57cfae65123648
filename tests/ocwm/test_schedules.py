"""Learning-rate schedules."""

import math

import pytest

from ocwm.errors import BenchError
from ocwm.schedules import learning_rate


def rates(schedule: str, *, total: int = 10, ratio: float = 0.01, warmup: float = 0.0) -> list[float]:
    return [
        learning_rate(step, total=total, lr=1.0, schedule=schedule, min_lr_ratio=ratio, warmup=warmup)
        for step in range(total + 1)
    ]


def test_constant_never_changes() -> None:
    assert rates("constant", warmup=3.0) == [1.0] * 11


def test_cosine_goes_down_from_the_first_update() -> None:
    values = rates("cosine", warmup=3.0)
    assert values[0] == 1.0
    assert values[5] == pytest.approx(0.505)
    assert values[10] == pytest.approx(0.01)
    assert values == sorted(values, reverse=True)


def test_warmup_rises_in_a_line_over_a_fractional_number_of_updates() -> None:
    values = rates("warmup_cosine", ratio=0.1, warmup=2.5)
    assert values[:3] == pytest.approx([0.1, 0.1 + 0.9 * 1 / 2.5, 0.1 + 0.9 * 2 / 2.5])
    assert values[3] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 0.5 / 7.5)))
    assert values[10] == pytest.approx(0.1)


def test_warmup_over_the_whole_training_ends_at_the_top() -> None:
    assert rates("warmup_cosine", warmup=10.0)[:10] == pytest.approx([0.01 + 0.99 * i / 10 for i in range(10)])
    assert all(math.isfinite(value) for value in rates("warmup_cosine", warmup=10.0))


def test_exponential_decay_follows_a_warmup_from_zero() -> None:
    values = rates("warmup_exponential", ratio=0.5, warmup=2.0)
    assert values[:3] == pytest.approx([0.0, 0.5, 1.0])
    assert values[6] == pytest.approx(0.5**0.5)
    assert values[10] == pytest.approx(0.5)


def test_unknown_schedule_gets_a_hint() -> None:
    with pytest.raises(BenchError, match="Did you mean 'warmup_cosine'"):
        learning_rate(0, total=1, lr=1.0, schedule="warmup_cosin")
