"""Muon: momentum whose matrices are made orthogonal before they are applied; everything else gets AdamW.

An update with all singular values alike moves the rare directions of a weight as far as the common ones. On small
transformers, where updates and not data are scarce, the same loss takes clearly fewer updates. torch has an optimiser
of this name; this one gives the same update, but takes matrices of one shape together, which makes it several times
faster on a CPU (benchmarks/speed/optimizers.py), and treats the three projections packed into one attention weight
one by one.

Sources: K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024), also for which weights it
is; a scale of the update that lets both halves share one learning rate: arXiv 2502.16982 (there 0.2, here what small
networks learn fastest with).

Shape letters: n matrices, a and b their sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic Newton-Schulz iteration
ITERATIONS = 5
RMS = 0.6  # root mean square of an update's entries, times the learning rate; for AdamW it is about 0.2


class Muon(torch.optim.AdamW):
    """Muon for matrices, AdamW for the other parameters, at one learning rate.

    Args:
        groups: parameter groups as AdamW takes them.
        matrices: parameters (a, b) that get Muon, and the number of equal parts that each is split into by rows.
        lr, weight_decay: of both.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], matrices: Mapping[nn.Parameter, int], *, lr: float, weight_decay: float
    ) -> None:
        super().__init__(groups, lr=lr, weight_decay=weight_decay, fused=True)
        self._step_supports_amp_scaling = False  # what AdamW does inside its kernel would miss the matrices
        self._parts = dict(matrices)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Make one update from the gradients."""
        if closure is not None:
            raise ValueError("a closure is not supported")
        updates: dict[tuple[int, int], list[Tensor]] = {}
        targets: dict[tuple[int, int], list[tuple[Tensor, float, bool]]] = {}
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter not in self._parts or parameter.grad is None:
                    continue
                gradient, parameter.grad = parameter.grad, None  # AdamW leaves alone what has no gradient
                state = self.state[parameter]
                if not state:
                    # AdamW wants to find a count of steps in every state that it loads.
                    state.update(momentum=torch.zeros_like(parameter), step=torch.zeros(()))
                momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parts = self._parts[parameter]
                ahead = gradient.lerp(momentum, MOMENTUM)  # Nesterov's
                for target, update in zip(parameter.chunk(parts), ahead.chunk(parts), strict=True):
                    flat = update.shape[0] <= update.shape[1]
                    update = update if flat else update.mT
                    shape = (update.shape[0], update.shape[1])
                    updates.setdefault(shape, []).append(update)
                    targets.setdefault(shape, []).append((target, group["lr"] * RMS * max(shape) ** 0.5, flat))
        super().step()
        for shape, found in updates.items():
            orthogonal = orthogonalised(torch.stack(found))
            for (target, rate, flat), update in zip(targets[shape], orthogonal, strict=True):
                target.add_(update if flat else update.mT, alpha=-rate)


def orthogonalised(matrices: Tensor) -> Tensor:
    """Matrices (n, a, b), a <= b, with singular values of about 1 (0.7 to 1.2) and the singular vectors they had."""
    x: Tensor = matrices / matrices.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    first, third, fifth = COEFFICIENTS
    for _ in range(ITERATIONS):
        square = x @ x.mT
        polynomial = torch.baddbmm(square, square, square, beta=third, alpha=fifth)
        x = torch.baddbmm(x, polynomial, x, beta=first)
    return x


def matrices(model: nn.Module) -> dict[nn.Parameter, int]:
    """The weights that Muon is for, and the parts of each: the linear maps in repeated blocks (`nn.ModuleList`).

    None for a model without such blocks: all of it gets AdamW. What leads into the first block and out of the last gets
    AdamW, too, as do embeddings. The packed query, key and value projections of an attention are three matrices.
    """
    found: dict[nn.Parameter, int] = {}
    for blocks in model.modules():
        if not isinstance(blocks, nn.ModuleList):
            continue
        for module in blocks.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.requires_grad and parameter.ndim == 2 and not isinstance(module, nn.Embedding):
                    found[parameter] = 3 if name == "in_proj_weight" else 1
    return found
