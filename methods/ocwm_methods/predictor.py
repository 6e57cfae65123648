"""The masked slot predictor of C-JEPA (arXiv 2602.11389, section 3): queries, transformer, inference.

Parameter names are those of the published checkpoints, so that a bare state dict loads strictly.

Shape letters: B batch, T time, H history frames, K predicted frames, N slots (nodes), D slot dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Block(nn.ModuleList):
    """Attention on the raw residual stream, then a pre-norm feed-forward: `[attention, feed_forward]`.

    There is no layer norm before the attention; that is how the released weights were trained.
    """

    def __init__(self, dim: int, heads: int, mlp_dim: int, dropout: float) -> None:
        attention = nn.MultiheadAttention(dim, heads, dropout=dropout, batch_first=True)
        feed_forward = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, mlp_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(mlp_dim, dim),
            nn.Dropout(dropout),
        )
        super().__init__([attention, feed_forward])

    def forward(self, x: Tensor, *, weights: bool = False, last: int | None = None) -> tuple[Tensor, Tensor | None]:
        """Map (B, L, D) to all tokens, or only to the `last` Q ones: (B, Q, D), all of them read.

        With the head-averaged attention (B, L or Q, L) where asked for.
        """
        attention, feed_forward = self
        queries = x if last is None else x[:, -last:]
        read, attended = attention(queries, x, x, need_weights=weights)
        kept = queries + read
        return kept + feed_forward(kept), attended


class Transformer(nn.Module):
    """Bidirectional transformer over all tokens of a window, closed by a layer norm."""

    def __init__(self, dim: int, depth: int, heads: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.layers = nn.ModuleList(Block(dim, heads, mlp_dim, dropout) for _ in range(depth))

    def forward(self, x: Tensor, *, last: int | None = None) -> Tensor:
        """Map (B, L, D) to (B, L, D), or to the `last` Q tokens: the final block computes no others."""
        *first, final = self.layers
        for block in first:
            x, _ = block(x)
        x, _ = final(x, last=last)
        return self.norm(x)  # type: ignore[no-any-return]

    def attention(self, x: Tensor) -> list[Tensor]:
        """Head-averaged attention (B, L, L) of every layer; a row is a query."""
        maps = []
        for block in self.layers:
            x, attended = block(x, weights=True)
            maps.append(attended)
        return maps


class MaskedSlotPredictor(nn.Module):
    """Predicts masked slots of a window from the visible ones.

    Args:
        slot_dim: width D of a slot.
        history_frames: observed frames H of a training clip.
        pred_frames: frames K that one call predicts.
        depth, heads, mlp_dim, dropout: the transformer's sizes. The head dimension is D / heads.
        extra_mask_token: add one learned vector to every query besides its time embedding and its identity
            anchor (True is the published code; the paper's wording has a single embedding).
    """

    def __init__(
        self,
        slot_dim: int,
        *,
        history_frames: int,
        pred_frames: int,
        depth: int = 6,
        heads: int = 16,
        mlp_dim: int = 2048,
        dropout: float = 0.1,
        extra_mask_token: bool = True,
    ) -> None:
        super().__init__()
        if slot_dim % heads:
            raise ValueError(f"slot_dim {slot_dim} is not a multiple of heads {heads}")
        self.history_frames = history_frames
        self.pred_frames = pred_frames
        self.mask_token: Tensor
        if extra_mask_token:
            self.mask_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, slot_dim), std=0.02))
        else:
            self.register_buffer("mask_token", torch.zeros(1, 1, slot_dim), persistent=False)
        self.time_pos_embed = nn.Parameter(torch.randn(1, history_frames + pred_frames, 1, slot_dim))
        self.id_projector = nn.Linear(slot_dim, slot_dim)
        self.transformer = Transformer(slot_dim, depth, heads, mlp_dim, dropout)
        self.to_out = nn.Linear(slot_dim, slot_dim)

    def tokens(self, slots_BTND: Tensor, hidden: Tensor, time: Tensor) -> Tensor:
        """Place slots and queries: hidden cells become mask token + time embedding + projected first frame.

        Args:
            slots_BTND: (B, T, N, D); the content of hidden cells is never read.
            hidden: bool, broadcastable to (B, T, N); frame 0, the identity anchor, must be visible.
            time: (1, T, 1, D) time embeddings.

        Returns:
            (B, T, N, D).
        """
        anchor = self.id_projector(slots_BTND[:, :1])
        content = torch.where(hidden[..., None], self.mask_token[:, :, None] + anchor, slots_BTND)
        return content + time

    def decode(self, tokens_BTND: Tensor, *, frames: int | None = None) -> Tensor:
        """Run the transformer over the flattened window (time-major, slot-minor) and project: (B, T, N, D).

        With `frames` F only the last ones, (B, F, N, D).
        """
        nodes = tokens_BTND.shape[2]
        encoded = self.transformer(tokens_BTND.flatten(1, 2), last=None if frames is None else frames * nodes)
        return self.to_out(encoded).unflatten(1, (-1, nodes))  # type: ignore[no-any-return]

    def training_tokens(self, history: Tensor, mask: Tensor) -> Tensor:
        """Tokens of a training window.

        Args:
            history: (B, H, N, D).
            mask: bool (H, N) or (B, H, N); its first frame is ignored: the anchor stays visible.

        Returns:
            (B, H + K, N, D): every future cell is a query.
        """
        batch, frames, nodes, _ = history.shape
        if frames != self.history_frames:
            raise ValueError(f"training wants {self.history_frames} history frames, got {frames}")
        hidden = torch.ones(batch, frames + self.pred_frames, nodes, dtype=torch.bool, device=history.device)
        hidden[:, :frames] = mask
        hidden[:, 0] = False
        padded = torch.cat([history, history.new_zeros(batch, self.pred_frames, *history.shape[2:])], dim=1)
        return self.tokens(padded, hidden, self.time_pos_embed)

    def forward(self, history: Tensor, mask: Tensor) -> Tensor:
        """Predict the whole window (B, H + K, N, D) from a masked history (B, H, N, D)."""
        return self.decode(self.training_tokens(history, mask))

    def infer(self, history: Tensor) -> Tensor:
        """Predict the next K frames (B, K, N, D) from visible frames (B, H', N, D), H' at most H.

        A shorter history is right-aligned: it takes the last H' + K time embeddings. The anchor is the first
        frame of whatever history is given.
        """
        frames = history.shape[1]
        if frames > self.history_frames:
            raise ValueError(f"history of {frames} frames is longer than the trained {self.history_frames}")
        time = self.time_pos_embed[:, -frames - self.pred_frames :]
        queries = self.mask_token[:, :, None] + self.id_projector(history[:, :1]) + time[:, frames:]
        return self.decode(torch.cat([history + time[:, :frames], queries], dim=1), frames=self.pred_frames)
