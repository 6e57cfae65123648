"""Every search finds known optima, each problem's from random numbers of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ocwm.errors import BenchError
from ocwm.planning import Bounds, Planner, PlannerConfig

CONFIGS = {
    "cem": PlannerConfig(planner="cem", samples=64, iterations=15, horizon=3, elites=8),
    "icem": PlannerConfig(planner="icem", samples=64, iterations=15, horizon=3, elites=8, noise_beta=0.5),
    "mppi": PlannerConfig(planner="mppi", samples=256, iterations=30, horizon=3, temperature=0.1, std=0.5),
    "gradient": PlannerConfig(planner="gradient", samples=4, iterations=60, horizon=3),
}
ALL = pytest.mark.parametrize("name", CONFIGS)
KEYS = [(0, 7, 0), (0, 8, 0), (0, 9, 1)]
TARGETS = torch.tensor([0.8, -0.6, 0.3, 0.9, -0.2, 0.5]).view(1, 3, 2) * torch.tensor([1.0, -1.0, 0.5]).view(3, 1, 1)


def planner(name: str, *, bounds: Bounds | None = None, **changes: float) -> Planner:
    return Planner(replace(CONFIGS[name], **changes), action_dim=2, bounds=bounds)


def bowl(targets_PHA: Tensor) -> Callable[[Tensor], Tensor]:
    """Squared distance to the targets, in valleys of different steepness."""
    steep = torch.tensor([1.0, 3.0])

    def cost(candidates: Tensor) -> Tensor:
        return ((candidates - targets_PHA[:, None]).square() * steep).sum((2, 3))

    return cost


def two_valleys(candidates: Tensor) -> Tensor:
    """A shallow valley around +1, in which every gradient at the start leads, and the deep one around -1.5."""
    near, far = ((candidates - place).square().sum((2, 3)) for place in (1.0, -1.5))
    return torch.minimum(near + 2.0, 4.0 * far)


@ALL
def test_the_optimum_of_a_bowl_is_found(name: str) -> None:
    plan = planner(name).plan(bowl(TARGETS), keys=KEYS)
    torch.testing.assert_close(plan.actions, TARGETS, atol=0.15, rtol=0)
    assert plan.costs.shape == (3, CONFIGS[name].iterations)
    start = bowl(TARGETS)(torch.zeros(3, 1, 3, 2))
    assert (plan.costs[:, -1:] < 0.1 * start).all()


@pytest.mark.parametrize(("name", "samples"), [("cem", 128), ("icem", 128), ("gradient", 64)])
def test_the_deeper_of_two_valleys_is_found(name: str, samples: int) -> None:
    plan = planner(name, samples=samples, horizon=1, std=1.5).plan(two_valleys, keys=KEYS)
    torch.testing.assert_close(plan.actions, torch.full((3, 1, 2), -1.5), atol=0.2, rtol=0)


def test_a_gradient_alone_ends_in_the_nearest_valley() -> None:
    """The first restart begins at the mean and has no noise, so a search of one sample is plain descent."""
    plan = planner("gradient", samples=1, horizon=1).plan(two_valleys, keys=KEYS, start=torch.full((3, 1, 2), 0.5))
    torch.testing.assert_close(plan.actions, torch.ones(3, 1, 2), atol=0.05, rtol=0)


@ALL
def test_a_plan_does_not_depend_on_what_is_planned_beside_it(name: str) -> None:
    search = planner(name)
    together = search.plan(bowl(TARGETS), keys=KEYS)
    backwards = search.plan(bowl(TARGETS.flip(0)), keys=KEYS[::-1])
    assert torch.equal(backwards.actions.flip(0), together.actions)
    torch.manual_seed(123)  # the global generator is neither read nor moved
    state = torch.get_rng_state()
    for row, key in enumerate(KEYS):
        alone = search.plan(bowl(TARGETS[row, None]), keys=[key])
        assert torch.equal(alone.actions[0], together.actions[row])
        assert torch.equal(alone.costs[0], together.costs[row])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["cem", "icem", "mppi"])
def test_seed_episode_and_replan_each_change_the_draws(name: str) -> None:
    keys = [(0, 7, 0), (1, 7, 0), (0, 8, 0), (0, 7, 1)]
    plan = planner(name, iterations=2).plan(bowl(TARGETS[:1].expand(4, -1, -1)), keys=keys)
    for row in range(1, 4):
        assert not torch.equal(plan.actions[row], plan.actions[0])


@pytest.mark.parametrize("name", ["icem", "gradient"])
def test_bounds_are_kept_by_the_searches_that_have_them(name: str) -> None:
    bounds = Bounds.normalised(
        torch.tensor([-1.0, -1.0]),
        torch.tensor([1.0, 1.0]),
        mean=torch.tensor([0.2, 0.0]),
        std=torch.tensor([2.0, 4.0]),
    )
    torch.testing.assert_close(bounds.low, torch.tensor([-0.6, -0.25]))
    seen: list[Tensor] = []

    def cost(candidates: Tensor) -> Tensor:
        seen.append(candidates.detach())
        return bowl(TARGETS)(candidates)

    plan = planner(name, bounds=bounds).plan(cost, keys=KEYS)
    inside = TARGETS.clamp(*bounds)
    torch.testing.assert_close(plan.actions, inside, atol=0.1, rtol=0)
    late = torch.cat(seen[1:], dim=1)
    assert (late >= bounds.low - 1e-6).all()
    assert (late <= bounds.high + 1e-6).all()


@ALL
def test_a_first_guess_is_where_the_search_starts(name: str) -> None:
    asked: list[Tensor] = []

    def cost(candidates: Tensor) -> Tensor:
        asked.append(candidates.detach().clone())
        return bowl(TARGETS)(candidates)

    planner(name, std=1e-3, iterations=1).plan(cost, keys=KEYS, start=TARGETS[:, :2])
    wanted = torch.cat([TARGETS[:, :2], torch.zeros(3, 1, 2)], dim=1)
    torch.testing.assert_close(asked[0], wanted[:, None].expand_as(asked[0]), atol=0.02, rtol=0)


def test_icem_asks_for_fewer_candidates_and_keeps_the_best() -> None:
    asked: list[Tensor] = []

    def cost(candidates: Tensor) -> Tensor:
        asked.append(candidates)
        return bowl(TARGETS[:1])(candidates)

    plan = planner("icem", decay=1.5, iterations=6).plan(cost, keys=KEYS[:1])
    kept = int(0.3 * 8)
    assert [candidates.shape[1] for candidates in asked] == [64, *(number + kept for number in (42, 28, 18, 16, 16))]
    assert plan.candidates == sum(candidates.shape[1] for candidates in asked)
    for before, after in pairwise(asked):
        best = before[0, bowl(TARGETS[:1])(before)[0].argsort()[:kept]]
        assert torch.equal(after[0, -kept:], best)
    best = min(float(bowl(TARGETS[:1])(candidates).min()) for candidates in asked)
    assert float(bowl(TARGETS[:1])(plan.actions[:, None])) == pytest.approx(best)


def test_icem_colours_the_noise_over_the_steps_of_a_block() -> None:
    asked: list[Tensor] = []

    def cost(candidates: Tensor) -> Tensor:
        asked.append(candidates)
        return candidates.square().sum((2, 3))

    config = PlannerConfig(planner="icem", samples=2000, iterations=1, horizon=4, elites=10, noise_beta=2.0)
    Planner(config, action_dim=6, block=3).plan(cost, keys=[(0, 0, 0)])
    steps_SLC = asked[0][0, 1:].reshape(1999, 12, 2)
    neighbours = (steps_SLC[:, 1:] * steps_SLC[:, :-1]).mean((0, 2))
    assert (neighbours > 0.6).all()  # also across the ends of the blocks
    assert abs((steps_SLC[..., 0] * steps_SLC[..., 1]).mean()) < 0.1
    torch.testing.assert_close(steps_SLC.square().mean(), torch.tensor(1.0), atol=0.1, rtol=0)


def test_cem_and_mppi_do_not_clip() -> None:
    bounds = Bounds(torch.full((2,), -0.1), torch.full((2,), 0.1))
    for name in ("cem", "mppi"):
        plan = planner(name, bounds=bounds).plan(bowl(TARGETS), keys=KEYS)
        torch.testing.assert_close(plan.actions, TARGETS, atol=0.15, rtol=0)


def test_mppi_weighs_all_candidates_whatever_the_unit_of_their_costs() -> None:
    plans = [
        planner("mppi").plan(lambda candidates, k=k: k * bowl(TARGETS)(candidates) + k, keys=KEYS).actions
        for k in (1e-2, 1.0, 1e2)
    ]
    torch.testing.assert_close(plans[0], plans[1], atol=1e-3, rtol=0)
    torch.testing.assert_close(plans[2], plans[1], atol=1e-3, rtol=0)
    flat = planner("mppi").plan(lambda candidates: candidates.new_zeros(candidates.shape[:2]), keys=KEYS)
    assert flat.actions.isfinite().all()


def test_a_cost_that_is_not_finite_is_named() -> None:
    def cost(candidates: Tensor) -> Tensor:
        costs = bowl(TARGETS)(candidates)
        costs[1, :5] = torch.nan
        return costs

    with pytest.raises(BenchError, match=r"cost of 5 of 192 candidates is not a finite number.*task\.planning\.std"):
        planner("cem").plan(cost, keys=KEYS)


@pytest.mark.parametrize("shape", [(2, 1, 2), (3, 4, 2), (3, 1, 3), (3, 2)])
def test_a_start_that_does_not_fit_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(BenchError, match=r"can't start from"):
        planner("cem").plan(bowl(TARGETS), keys=KEYS, start=torch.zeros(shape))


def test_blocks_hold_whole_steps() -> None:
    with pytest.raises(BenchError, match="action blocks of 5 numbers can't hold 2 steps"):
        Planner(CONFIGS["cem"], action_dim=5, block=2)
