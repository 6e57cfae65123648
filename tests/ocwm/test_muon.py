"""The muon optimiser: torch's own update, matrices found and split as said."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ocwm.muon import RMS, Muon, matrices, orthogonalised


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.blocks = nn.ModuleList([nn.Linear(16, 24), nn.Linear(24, 16)])
        self.last = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = block(torch.relu(x))
        return self.last(x)


def network() -> Network:
    torch.manual_seed(1)
    return Network()


def descend(model: nn.Module, step: Callable[[], object]) -> None:
    torch.manual_seed(2)
    for _ in range(20):
        inputs, targets = torch.randn(32, 8), torch.randn(32, 4)
        model.zero_grad()
        (model(inputs) - targets).square().mean().backward()
        step()


def test_the_update_is_that_of_torch() -> None:
    ours, theirs = network(), network()
    optimizer = Muon([{"params": list(ours.parameters())}], matrices(ours), lr=0.002, weight_decay=0.1)
    descend(ours, optimizer.step)
    hidden = [block.weight for block in theirs.blocks]
    others = [p for p in theirs.parameters() if not any(p is q for q in hidden)]
    times = RMS / 0.2
    pair = (
        torch.optim.Muon(hidden, lr=times * 0.002, weight_decay=0.1 / times, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=0.002, weight_decay=0.1),
    )
    descend(theirs, lambda: [optimizer.step() for optimizer in pair])
    start = network()
    for one, other, before in zip(ours.parameters(), theirs.parameters(), start.parameters(), strict=True):
        assert (one - before).abs().max() > 0.01
        torch.testing.assert_close(one, other, atol=5e-3, rtol=0)  # torch iterates in bfloat16


def test_orthogonal_updates_have_singular_values_near_one() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalised(torch.randn(5, 12, 40)))
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert torch.isfinite(orthogonalised(torch.zeros(1, 3, 4))).all()


def test_matrices_are_linear_maps_of_blocks_and_packed_projections_are_three() -> None:
    attention = nn.MultiheadAttention(8, 2)
    blocks = nn.ModuleList([nn.ModuleList([attention, nn.LayerNorm(8)]), nn.Embedding(5, 8)])
    model = nn.ModuleDict({"words": nn.Embedding(5, 8), "blocks": blocks, "out": nn.Linear(8, 1)})
    assert matrices(model) == {attention.in_proj_weight: 3, attention.out_proj.weight: 1}


def test_each_packed_projection_is_made_orthogonal_by_itself() -> None:
    torch.manual_seed(0)
    packed = nn.Parameter(torch.zeros(24, 8))
    packed.grad = torch.randn(24, 8) * torch.tensor([1.0, 100.0, 1e-3]).repeat_interleave(8)[:, None]
    Muon([{"params": [packed]}], {packed: 3}, lr=1.0, weight_decay=0.0).step()
    sizes = [part.norm().item() for part in packed.chunk(3)]
    assert max(sizes) < 1.2 * min(sizes)
