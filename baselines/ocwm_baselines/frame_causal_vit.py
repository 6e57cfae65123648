"""The predictor of DINO-WM (arXiv 2411.04983): a ViT that attends within a frame and to earlier frames.

Parameter names are those of the published checkpoints.

Shape letters: B batch, T frames, P tokens of a frame, L tokens of a window (T * P), D token width, H heads, E width of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class CausalAttention(nn.Module):
    """Pre-norm attention under a mask; the width of a head is free of the token width."""

    def __init__(self, dim: int, heads: int, head_dim: int, dropout: float) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads = heads
        self.dropout = dropout
        self.norm = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, 3 * inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, dim), nn.Dropout(dropout))

    def forward(self, x_BLD: Tensor, mask_LL: Tensor | None) -> Tensor:
        """What attention reads (B, L, D), without the residual; the mask is True where a query may see a key."""
        packed = self.to_qkv(self.norm(x_BLD)).view(*x_BLD.shape[:2], 3, self.heads, -1)
        q, k, v = packed.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        read = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask_LL, dropout_p=dropout)
        return self.to_out(read.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """Pre-norm MLP with exact GELU."""

    def __init__(self, dim: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, mlp_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(mlp_dim, dim),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., D), without the residual."""
        return self.net(x)  # type: ignore[no-any-return]


class Block(nn.ModuleList):
    """x += attention(x); x += feed_forward(x): `[attention, feed_forward]`."""

    def __init__(self, dim: int, heads: int, head_dim: int, mlp_dim: int, dropout: float) -> None:
        super().__init__([CausalAttention(dim, heads, head_dim, dropout), FeedForward(dim, mlp_dim, dropout)])

    def forward(self, x_BLD: Tensor, mask_LL: Tensor | None) -> Tensor:
        """Map (B, L, D) to (B, L, D)."""
        attention, feed_forward = self
        x_BLD = x_BLD + attention(x_BLD, mask_LL)
        return x_BLD + feed_forward(x_BLD)  # type: ignore[no-any-return]


class CausalTransformer(nn.Module):
    """Blocks, closed by a layer norm: whatever comes out is normalised."""

    def __init__(self, dim: int, depth: int, heads: int, head_dim: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.layers = nn.ModuleList(Block(dim, heads, head_dim, mlp_dim, dropout) for _ in range(depth))

    def forward(self, x_BLD: Tensor, mask_LL: Tensor | None) -> Tensor:
        """Map (B, L, D) to (B, L, D)."""
        for block in self.layers:
            x_BLD = block(x_BLD, mask_LL)
        return self.norm(x_BLD)  # type: ignore[no-any-return]


class FrameCausalViT(nn.Module):
    """Maps every frame of a window to a prediction of the frame after it.

    Args:
        tokens: tokens P of a frame.
        frames: most frames T of a window.
        dim: token width D; there is no projection in or out.
        depth, heads, head_dim, mlp_dim, dropout: transformer sizes.
    """

    mask: Tensor

    def __init__(
        self,
        *,
        tokens: int,
        frames: int,
        dim: int,
        depth: int,
        heads: int,
        head_dim: int,
        mlp_dim: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.frames = frames
        self.pos_embedding = nn.Parameter(torch.randn(1, frames * tokens, dim))
        self.transformer = CausalTransformer(dim, depth, heads, head_dim, mlp_dim, dropout)
        frame_of = torch.arange(frames * tokens) // tokens
        self.register_buffer("mask", frame_of[:, None] >= frame_of, persistent=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Map frame-major tokens (B, T * P, D) of 1..`frames` frames; a frame's output depends on no later frame."""
        length = x_BLD.shape[1]
        if length > self.pos_embedding.shape[1]:
            raise ValueError(f"{length} tokens are more than {self.frames} frames of {self.tokens}")
        mask = None if length <= self.tokens else self.mask[:length, :length]  # inside one frame all is visible
        return self.transformer(x_BLD + self.pos_embedding[:, :length], mask)  # type: ignore[no-any-return]

    def predict(self, window_BTPD: Tensor) -> Tensor:
        """`forward` on frames (B, T, P, D)."""
        return self(window_BTPD.flatten(1, 2)).view_as(window_BTPD)  # type: ignore[no-any-return]
