"""The muon optimiser: torch's own update, matrices found and split as said."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ocwm.muon import Muon, matrices, orthogonalised


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))


def descend(model: nn.Module, step: Callable[[], object]) -> None:
    torch.manual_seed(2)
    for _ in range(20):
        inputs, targets = torch.randn(32, 8), torch.randn(32, 4)
        model.zero_grad()
        (model(inputs) - targets).square().mean().backward()
        step()


def test_the_update_is_that_of_torch() -> None:
    ours, theirs = network(), network()
    optimizer = Muon([{"params": list(ours.parameters())}], matrices(ours), lr=0.01, weight_decay=0.1)
    descend(ours, optimizer.step)
    by_rank: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter in theirs.parameters():
        by_rank[parameter.ndim == 2].append(parameter)
    pair = (
        torch.optim.Muon(by_rank[True], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(by_rank[False], lr=0.01, weight_decay=0.1),
    )
    descend(theirs, lambda: [optimizer.step() for optimizer in pair])
    start = network()
    for one, other, before in zip(ours.parameters(), theirs.parameters(), start.parameters(), strict=True):
        assert (one - before).abs().max() > 0.02
        torch.testing.assert_close(one, other, atol=2e-3, rtol=0)  # torch iterates in bfloat16


def test_orthogonal_updates_have_singular_values_near_one() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalised(torch.randn(5, 12, 40)))
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert torch.isfinite(orthogonalised(torch.zeros(1, 3, 4))).all()


def test_matrices_are_linear_maps_and_packed_projections_are_three() -> None:
    model = nn.ModuleDict(
        {"words": nn.Embedding(5, 8), "attention": nn.MultiheadAttention(8, 2), "out": nn.Linear(8, 1)}
    )
    attention = model["attention"]
    assert matrices(model) == {attention.in_proj_weight: 3, attention.out_proj.weight: 1}


def test_each_packed_projection_is_made_orthogonal_by_itself() -> None:
    torch.manual_seed(0)
    packed = nn.Parameter(torch.zeros(24, 8))
    packed.grad = torch.randn(24, 8) * torch.tensor([1.0, 100.0, 1e-3]).repeat_interleave(8)[:, None]
    Muon([{"params": [packed]}], {packed: 3}, lr=1.0, weight_decay=0.0).step()
    sizes = [part.norm().item() for part in packed.chunk(3)]
    assert max(sizes) < 1.2 * min(sizes)
