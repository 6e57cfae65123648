"""What a transformer's tokens attend to, read off while it runs.

Shape letters: B batch, H heads, Q queries, L keys, N slots, M tokens of a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional


@contextmanager
def recorded() -> Iterator[list[Tensor]]:
    """Collect the weights (B, H, Q, L) of every scaled dot-product attention in the block, in their order."""
    found: list[Tensor] = []
    usual, fast = functional.scaled_dot_product_attention, torch.backends.mha.get_fastpath_enabled()

    def watched(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        logits = (query @ key.transpose(-1, -2)).float() * (query.shape[-1] ** -0.5 if scale is None else scale)
        mask = torch.ones(logits.shape[-2:], dtype=torch.bool).tril().to(logits.device) if is_causal else attn_mask
        if mask is not None:
            logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
        found.append(logits.softmax(-1))
        return usual(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)

    torch.backends.mha.set_fastpath_enabled(False)
    functional.scaled_dot_product_attention = watched
    try:
        yield found
    finally:
        functional.scaled_dot_product_attention = usual
        torch.backends.mha.set_fastpath_enabled(fast)


def between_slots(
    run: Callable[[], object],
    *,
    slots: int,
    tokens: int,
    queries: int,
    choose: Callable[[Sequence[Tensor]], Sequence[Tensor]] = lambda maps: maps,
) -> Tensor:
    """Return how much the prediction of a slot attends to each slot, averaged over layers, heads and predicted frames.

    Args:
        run: one call of the model for B samples.
        slots: N.
        tokens: M of a frame, of which the first N are its slots; tokens are time-major.
        queries: how many of the last frames are predictions.
        choose: which of the recorded maps count, as (B, H, Q, L).

    Returns:
        (B, N, N), [predicted slot, attended slot]; attention is summed over the frames of the attended slot.
    """
    with torch.no_grad(), recorded() as maps:
        run()
    layers = []
    for weights in choose(maps):
        batch, heads, rows, columns = weights.shape
        by_frame = weights.view(batch, heads, rows // tokens, tokens, columns // tokens, tokens)
        layers.append(by_frame[:, :, -queries:, :slots, :, :slots].sum(-2).mean((1, 2)))
    return torch.stack(layers).mean(0)
