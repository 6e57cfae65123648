"""Matching of slots, and the cost of ending away from a goal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from ocwm import matching
from ocwm.errors import BenchError
from ocwm.goal_cost import Objective
from ocwm.matching import match, reorder
from ocwm.types import LatentBatch


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("slots", [1, 3, 4, 6, 7])
@pytest.mark.parametrize("distance", ["mse", "cosine"])
def test_shuffled_slots_are_found_again(slots: int, distance: str) -> None:
    reference = drawn(6, 2, slots, 8)
    order = torch.stack([torch.randperm(slots, generator=torch.Generator().manual_seed(i)) for i in range(12)])
    order = order.view(6, 2, slots)
    shuffled = reorder(reference, order) + 0.01 * drawn(6, 2, slots, 8, seed=1)
    found = match(shuffled, reference, distance=distance)
    torch.testing.assert_close(reorder(shuffled, found), reference, atol=0.1, rtol=0)
    assert torch.equal(found.gather(-1, order), torch.arange(slots).expand(6, 2, slots))


@pytest.mark.parametrize("slots", [4, 6, 7])
def test_the_sum_counts_and_not_the_nearest_slot(slots: int) -> None:
    reference = torch.zeros(1, slots, 1)
    reference[0, :, 0] = torch.arange(slots) * 10.0
    slots_1ND = reference.clone()
    slots_1ND[0, 0], slots_1ND[0, 1] = 11.0, 29.0  # greedily, slot 0 is the reference at 10 as well
    order = match(slots_1ND, reference)[0].tolist()
    assert sorted(order) == list(range(slots))
    assert order[1] == 0 or order[0] == 0
    costs = (slots_1ND[0, :, None, 0] - reference[0, None, :, 0]).square()
    assert sum(costs[i, j] for j, i in enumerate(order)) <= costs.diagonal().sum()


@pytest.mark.parametrize("slots", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("values", [None, 3, 1])  # costs of any size, of three values, all alike
def test_no_assignment_costs_less(slots: int, values: int | None) -> None:
    """What scipy finds."""
    batch, rng = 200, np.random.default_rng(slots)
    if values is None:
        slots_BND, reference_BND = (torch.from_numpy(rng.standard_normal((batch, slots, 5))).float() for _ in range(2))
    else:  # whole numbers, whose sums are exact: ties are ties
        slots_BND, reference_BND = (
            torch.from_numpy(rng.integers(0, values, (batch, slots, 2))).float() for _ in range(2)
        )
    order = match(slots_BND, reference_BND)
    assert torch.equal(order.sort(dim=-1).values, torch.arange(slots).expand(batch, slots))
    found = (reorder(slots_BND, order) - reference_BND).square().sum((-1, -2)).numpy()
    costs = (slots_BND[:, :, None] - reference_BND[:, None]).square().sum(-1).numpy()
    for cost, chosen, total in zip(costs, order.numpy(), found, strict=True):
        rows, columns = linear_sum_assignment(cost)
        assert total == pytest.approx(cost[rows, columns].sum(), rel=1e-5, abs=1e-5)
        if values is None:
            assert (chosen[columns] == rows).all()


@pytest.mark.parametrize(("slots", "calls"), [(4, 0), (6, 0), (7, 12), (9, 12)])
def test_a_solver_is_called_where_there_are_many_orders(
    slots: int, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[int, ...]] = []
    monkeypatch.setattr(
        matching, "linear_sum_assignment", lambda cost: made.append(cost.shape) or linear_sum_assignment(cost)
    )
    match(drawn(3, 4, slots, 8), drawn(3, 4, slots, 8, seed=1))
    assert made == [(slots, slots)] * calls


def test_matching_is_the_same_in_parts_and_under_autocast() -> None:
    slots, reference = drawn(50, 4, 8), drawn(50, 4, 8, seed=1)
    whole = match(slots, reference)
    assert torch.equal(
        torch.cat([match(*pair) for pair in zip(slots.split(7), reference.split(7), strict=True)]), whole
    )
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(match(slots, reference), whole)


def test_a_goal_is_reached_in_any_order_of_slots() -> None:
    goal = LatentBatch(drawn(3, 1, 4, 8), proprio=drawn(3, 1, 6))
    there = LatentBatch(
        torch.cat([drawn(3, 2, 4, 8, seed=1), goal.latents[:, :, [2, 0, 3, 1]]], dim=1),
        proprio=torch.cat([drawn(3, 2, 6, seed=2), goal.proprio], dim=1),
    )
    assert Objective()(there, goal).total.tolist() == [0.0, 0.0, 0.0]
    off = LatentBatch(there.latents + 2.0, proprio=there.proprio - 3.0)
    cost = Objective()(off, goal)
    assert (cost.slots <= 4.0 + 1e-4).all()
    torch.testing.assert_close(cost.proprio, torch.full((3,), 9.0))
    assert torch.equal(cost.total, cost.slots + cost.proprio)


def test_proprioception_on_one_side_only_is_named() -> None:
    latents = drawn(2, 1, 4, 8)
    with pytest.raises(BenchError, match="the goal has no proprioception"):
        Objective()(LatentBatch(latents, proprio=drawn(2, 1, 6)), LatentBatch(latents))
    assert Objective()(LatentBatch(latents), LatentBatch(latents)).total.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"matching": "hungaria"}, "unknown objective matching 'hungaria'. Did you mean 'hungarian'"),
        ({"distance": "l1"}, "unknown objective distance 'l1'"),
        ({"frames": "lats"}, "unknown objective frames 'lats'. Did you mean 'last'"),
        ({"alpha": -0.5}, "the objective's alpha is -0.5"),
        ({"alpha": float("nan")}, "the objective's alpha is nan"),
        ({"base": 0.0}, "the objective's base is 0.0"),
    ],
)
def test_objectives_that_cannot_be_are_named(wrong: dict, said: str) -> None:
    with pytest.raises(BenchError, match=said) as caught:
        Objective(**wrong)
    assert "\n" not in str(caught.value)
