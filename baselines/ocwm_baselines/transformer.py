"""Parts that the rival world models share: a pre-norm transformer layer and sine tables of time.

Parameter names are those of `nn.TransformerEncoderLayer`, which the published checkpoints use.

Shape letters: B batch, L tokens, Q queries, C width, H heads.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from ocwm.errors import BenchError


class SelfAttention(nn.Module):
    """Multi-head self-attention over all tokens, no mask, with the parameters and first weights of torch's own.

    Args:
        width: C, a multiple of `heads`.
        heads: attention heads.
        dropout: of the attention weights.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(3 * width, width)))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x_BLC: Tensor, *, last: int | None = None) -> Tensor:
        """Attend from all tokens, or only from the `last` Q ones: (B, L, C) -> (B, L or Q, C)."""
        batch, length, width = x_BLC.shape
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if last is None or last == length:
            packed = functional.linear(x_BLC, weight, bias).view(batch, length, 3, self.heads, -1)
            q, k, v = packed.permute(2, 0, 3, 1, 4)
        else:
            q = functional.linear(x_BLC[:, -last:], weight[:width], bias[:width])
            q = q.view(batch, last, self.heads, -1).transpose(1, 2)
            packed = functional.linear(x_BLC, weight[width:], bias[width:]).view(batch, length, 2, self.heads, -1)
            k, v = packed.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        read = functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        return self.out_proj(read.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class PreNormLayer(nn.Module):
    """x += attention(norm1(x)); x += linear2(relu(linear1(norm2(x)))), dropout after each part and inside the second."""

    def __init__(self, width: int, heads: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = SelfAttention(width, heads, dropout)
        self.linear1 = nn.Linear(width, mlp_dim)
        self.linear2 = nn.Linear(mlp_dim, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BLC: Tensor, *, last: int | None = None) -> Tensor:
        """Map all tokens (B, L, C), or return the `last` Q ones (B, Q, C); all tokens are read either way."""
        read = self.self_attn(self.norm1(x_BLC), last=last)
        kept = x_BLC if last is None else x_BLC[:, -last:]
        return self.feed_forward(kept + self.dropout(read))

    def feed_forward(self, x: Tensor) -> Tensor:
        """Add the second part to the residual stream (..., C)."""
        hidden = self.dropout(functional.relu(self.linear1(self.norm2(x))))
        return x + self.dropout(self.linear2(hidden))  # type: ignore[no-any-return]


class Stack(nn.Module):
    """Layers in sequence without a norm at the end; all start with the same weights, as copies of one prototype."""

    def __init__(self, width: int, depth: int, heads: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        prototype = PreNormLayer(width, heads, mlp_dim, dropout)
        self.layers = nn.ModuleList(copy.deepcopy(prototype) for _ in range(depth))

    def forward(self, x_BLC: Tensor, *, last: int) -> Tensor:
        """Map (B, L, C) to the `last` Q tokens (B, Q, C): the final layer computes no others, which changes nothing."""
        *first, final = self._layers()
        for layer in first:
            x_BLC = layer(x_BLC)
        return final(x_BLC, last=last)  # type: ignore[no-any-return]

    def _layers(self) -> Iterator[PreNormLayer]:
        for layer in self.layers:
            assert isinstance(layer, PreNormLayer)
            yield layer


def check_sizes(*, width: int, heads: int, depth: int) -> None:
    """Refuse sizes that no transformer can have.

    Raises:
        BenchError: naming the key.
    """
    if depth < 1:
        raise BenchError(f"method.depth={depth} is no transformer", "Choose 1 or more.")
    if width % 2:
        raise BenchError(f"method.width={width} is odd", "Half of it holds sines, half cosines: choose an even number.")
    if heads < 1 or width % heads:
        raise BenchError(
            f"method.heads={heads} does not divide method.width={width}", "Choose heads that divide the width."
        )


def phases(positions: Tensor, width: int) -> Tensor:
    """Angles (L, C / 2) of sine tables: position times 10000^(-2 i / C), in radians."""
    frequencies = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-torch.log(torch.tensor(1e4)) / width))
    return positions.float()[:, None] * frequencies
