"""What a hidden token reads from: last-layer attention of a C-JEPA predictor (paper appendix on probing).

Shape letters: T time, N slots, D slot dimension, L = T * N tokens (time-major), Q queried tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ocwm_methods.predictor import MaskedSlotPredictor


def probing_tokens(predictor: MaskedSlotPredictor, slots: Tensor, visible: Tensor) -> Tensor:
    """Tokens of one window in which any cell may be hidden, future ones too.

    Args:
        predictor: a trained predictor whose time table has T rows.
        slots: (1, T, N, D).
        visible: (N, T) bool; frame 0 must be visible.

    Returns:
        (1, L, D).
    """
    time = predictor.time_pos_embed[:, : slots.shape[1]]
    return predictor.tokens(slots, ~visible.T, time).flatten(1, 2)


def read_attention(predictor: MaskedSlotPredictor, tokens: Tensor, queries: list[tuple[int, int]]) -> Tensor:
    """Last-layer, head-averaged attention of the queried (slot, frame) tokens: (Q, T, N)."""
    num_slots = tokens.shape[1] // predictor.time_pos_embed.shape[1]
    attention = predictor.transformer.attention(tokens)[-1][0]
    rows = torch.tensor([frame * num_slots + slot for slot, frame in queries])
    return attention[rows].reshape(len(queries), -1, num_slots)


def normalize_attention(attention: Tensor, visible: Tensor, *, slots: list[int]) -> Tensor:
    """Scale each map by the range over the visible tokens of the other slots; hidden cells become 0.5.

    Args:
        attention: (Q, T, N).
        visible: (N, T) bool.
        slots: the slot that each query belongs to.

    Returns:
        (Q, T, N); a map without range is -1 everywhere.
    """
    scaled = []
    for row, slot in zip(attention, slots, strict=True):
        others = visible.T.clone()
        others[:, slot] = False
        low, high = row[others].min(), row[others].max()
        if high <= low:
            scaled.append(torch.full_like(row, -1.0))
            continue
        scaled.append(torch.where(visible.T, (row - low) / (high - low), torch.full_like(row, 0.5)))
    return torch.stack(scaled)
