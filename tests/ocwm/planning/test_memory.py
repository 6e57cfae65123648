"""What a piece of work holds at most is counted, the same in every run."""

from __future__ import annotations

import torch
from torch import nn

from ocwm.planning.memory import free_bytes, peak_bytes

CPU = torch.device("cpu")
KIB = 1024


def test_what_lives_at_the_same_time_is_counted() -> None:
    before = torch.zeros(8, 256)  # 8 KiB that were there

    def work() -> None:
        first = before + 1  # 8
        second = first * 2  # 16
        del first  # 8
        third = torch.cat([second, second])  # 24
        del second, third
        _ = before - 1  # 8

    assert peak_bytes(work, CPU) == 24 * KIB
    assert peak_bytes(work, CPU) == 24 * KIB


def test_views_and_work_in_place_take_nothing() -> None:
    before = torch.zeros(8, 256)

    def work() -> None:
        kept = before.view(256, 8).T[:3]
        kept.add_(1)
        _ = before[:, :5].expand(3, 8, 5)

    assert peak_bytes(work, CPU) == 0


def test_what_is_kept_for_gradients_is_counted() -> None:
    layers = nn.Sequential(*(nn.Tanh() for _ in range(8)))
    x = torch.zeros(8, 256)

    def plain() -> None:
        with torch.no_grad():
            layers(x)

    def taped() -> None:
        layers(x.requires_grad_()).sum()

    assert peak_bytes(plain, CPU) == 2 * 8 * KIB  # a layer's input and output
    assert 8 * 8 * KIB <= peak_bytes(taped, CPU) <= 9 * 8 * KIB


def test_there_is_free_memory() -> None:
    assert free_bytes(CPU) > 2**20
