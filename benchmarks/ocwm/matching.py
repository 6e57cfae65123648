"""Matching of slots between frames: which predicted slot is which reference slot.

Shape letters: B batch, T time, N slots, D slot dimension.
"""

from __future__ import annotations

import functools
from itertools import permutations
from typing import Literal

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

Distance = Literal["mse", "cosine"]
_FEW = 6  # up to here all N! assignments at once are no slower than one solver call for each, and stay on the device


def distances(slots: Tensor, reference: Tensor, *, distance: Distance = "mse") -> Tensor:
    """Distance of slots (..., N, D) that belong together: squared and summed over D, or 1 - cosine: (..., N)."""
    if distance == "cosine":
        return 1 - functional.cosine_similarity(slots, reference, dim=-1)
    return (slots - reference).square().sum(-1)


@torch.no_grad()
def match(slots: Tensor, reference: Tensor, *, distance: Distance = "mse") -> Tensor:
    """Assign slots to reference slots, one to one, with the least sum of distances.

    Args:
        slots: (..., N, D).
        reference: (..., N, D).
        distance: see `distances`.

    Returns:
        (..., N) int64: entry j is the slot that is reference slot j.
    """
    costs = distances(slots[..., :, None, :], reference[..., None, :, :], distance=distance)
    return _assign(costs)


def reorder(slots: Tensor, order: Tensor) -> Tensor:
    """Put slots (..., N, D) into the order (..., N) that `match` gave."""
    return slots.gather(-2, order[..., None].expand(*order.shape, slots.shape[-1]))


def _assign(costs: Tensor) -> Tensor:
    """Least-cost assignment of costs (..., i, j): (..., N), entry j is the i that j got."""
    number = costs.shape[-1]
    if number <= _FEW:
        orders, chosen = _orders(number, costs.device)
        # A matrix product sums every assignment at once, several times faster than gathering their terms. Autocast would
        # round the costs to bfloat16.
        with torch.autocast(costs.device.type, enabled=False):
            sums = costs.float().flatten(-2) @ chosen
        return orders[sums.argmin(-1)]
    flat = costs.reshape(-1, number, number).transpose(1, 2).float().cpu().numpy()
    order = np.array([linear_sum_assignment(cost)[1] for cost in flat], dtype=np.int64)
    return torch.from_numpy(order).to(costs.device).view(*costs.shape[:-2], number)


@functools.cache
def _orders(number: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """All orders (N!, N), and which of the costs (N * N, N!) each of them adds up, as 0 and 1."""
    orders = torch.tensor(list(permutations(range(number))))
    chosen = functional.one_hot(orders, number).transpose(1, 2).flatten(1).T.float()
    return orders.to(device), chosen.contiguous().to(device)
