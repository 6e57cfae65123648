"""The predictors OCVP-Seq and OCVP-Par (arXiv 2302.11850): attention over objects and over time, kept apart.

Parameter names are those of the published checkpoints, the attention of OCVP-Par that is never used included.

Shape letters: B batch, L frames of a window, M frames of a full buffer, K predicted frames, N slots, D slot dimension,
C transformer width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ocwm_baselines.transformer import PreNormLayer, SelfAttention, phases


class SequentialLayer(nn.Module):
    """A transformer layer over the objects of each frame, then one over the frames of each object."""

    def __init__(self, width: int, heads: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        self.object_encoder_block = PreNormLayer(width, heads, mlp_dim, dropout)
        self.time_encoder_block = PreNormLayer(width, heads, mlp_dim, dropout)

    def forward(self, x_BLNC: Tensor, *, newest: bool = False) -> Tensor:
        """Map (B, L, N, C) to the same shape, or to the newest frame (B, 1, N, C)."""
        x_BLNC = self.object_encoder_block(x_BLNC.flatten(0, 1)).view(x_BLNC.shape)
        by_slot = x_BLNC.transpose(1, 2)
        frames = self.time_encoder_block(by_slot.flatten(0, 1), last=1 if newest else None)
        return frames.view(*by_slot.shape[:2], -1, by_slot.shape[-1]).transpose(1, 2)  # type: ignore[no-any-return]


class ParallelLayer(nn.Module):
    """One layer whose attention is the sum of attention over objects and attention over time."""

    def __init__(self, width: int, heads: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        # In every published checkpoint and never used: frozen, kept so that the checkpoints load strictly.
        self.self_attn = SelfAttention(width, heads, dropout).requires_grad_(requires_grad=False)
        self.self_attn_obj = SelfAttention(width, heads, dropout)
        self.self_attn_time = SelfAttention(width, heads, dropout)
        self.linear1 = nn.Linear(width, mlp_dim)
        self.linear2 = nn.Linear(mlp_dim, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BLNC: Tensor, *, newest: bool = False) -> Tensor:
        """Map (B, L, N, C) to the same shape, or to the newest frame (B, 1, N, C)."""
        normed = self.norm1(x_BLNC)
        by_slot = normed.transpose(1, 2)
        frames = self.self_attn_time(by_slot.flatten(0, 1), last=1 if newest else None)
        over_time = frames.view(*by_slot.shape[:2], -1, by_slot.shape[-1]).transpose(1, 2)
        x, kept = (x_BLNC[:, -1:], normed[:, -1:]) if newest else (x_BLNC, normed)
        over_objects = self.self_attn_obj(kept.flatten(0, 1)).view(kept.shape)
        x = x + self.dropout(over_objects + over_time)
        hidden = self.dropout(functional.relu(self.linear1(self.norm2(x))))
        return x + self.dropout(self.linear2(hidden))  # type: ignore[no-any-return]


class OCVPPredictor(nn.Module):
    """Predicts the next frame of slots from a window of them; attention inside the window is not causal.

    Args:
        slot_dim: width D of a slot.
        layer: `SequentialLayer` (OCVP-Seq) or `ParallelLayer` (OCVP-Par).
        buffer_frames: frames M of a full window.
        width, depth, heads, mlp_dim, dropout: transformer sizes.
        residual: add the window to what the transformer gives, so that it predicts changes.
    """

    time_table: Tensor

    def __init__(
        self,
        slot_dim: int,
        *,
        layer: type[SequentialLayer] | type[ParallelLayer],
        buffer_frames: int,
        width: int,
        depth: int,
        heads: int,
        mlp_dim: int,
        dropout: float,
        residual: bool,
    ) -> None:
        super().__init__()
        self.buffer_frames = buffer_frames
        self.residual = residual
        self.mlp_in = nn.Linear(slot_dim, width)
        self.mlp_out = nn.Linear(width, slot_dim)
        self.transformer_encoders = nn.ModuleList(layer(width, heads, mlp_dim, dropout) for _ in range(depth))
        self.dropout = nn.Dropout(dropout)
        angles = phases(torch.arange(buffer_frames), width)
        table = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)  # (M, C), sine and cosine in turn
        self.register_buffer("time_table", table, persistent=False)

    def forward(self, window_BLND: Tensor) -> Tensor:
        """Map every frame of a window (B, L, N, D), L at most M; only the newest one is a prediction."""
        x = self._tokens(self.mlp_in(window_BLND))
        for layer in self.transformer_encoders:
            x = layer(x)
        read: Tensor = self.mlp_out(x)
        return read + window_BLND if self.residual else read

    def unroll(self, context_BLND: Tensor, *, steps: int, truth: Tensor | None = None) -> Tensor:
        """Predict `steps` frames (B, K, N, D), each from the newest M frames.

        Args:
            context_BLND: observed frames, L at most M; the buffer grows to M and then slides.
            steps: number of frames K.
            truth: (B, K, N, D) frames that are fed back in place of the predictions (teacher forcing).
        """
        # Positions count from the oldest frame of the window, so only this projection survives a step.
        buffer_BLNC = self.mlp_in(context_BLND)
        newest = context_BLND[:, -1:]
        predicted = []
        for step in range(steps):
            predicted.append(self._next(buffer_BLNC, newest))
            newest = predicted[-1] if truth is None else truth[:, step : step + 1]
            buffer_BLNC = torch.cat([buffer_BLNC, self.mlp_in(newest)], dim=1)[:, -self.buffer_frames :]
        return torch.cat(predicted, dim=1)

    def _next(self, projected_BLNC: Tensor, newest: Tensor) -> Tensor:
        """The last frame of `forward`, the only one that the final layer computes: (B, 1, N, D)."""
        x = self._tokens(projected_BLNC)
        for layer in self.transformer_encoders[:-1]:
            x = layer(x)
        read: Tensor = self.mlp_out(self.transformer_encoders[-1](x, newest=True))
        return read + newest if self.residual else read

    def _tokens(self, projected_BLNC: Tensor) -> Tensor:
        return self.dropout(projected_BLNC + self.time_table[: projected_BLNC.shape[1], None])  # type: ignore[no-any-return]
