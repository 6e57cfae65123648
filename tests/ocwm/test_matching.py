"""Matching of slots, and the cost of ending away from a goal."""

from __future__ import annotations

import pytest
import torch

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
