"""What is read off attention while a model runs, against what is written down by hand."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ocwm.attention import between_slots, recorded
from ocwm.types import LatentBatch, LatentSpec
from ocwm_methods.cjepa import CJEPA


def test_weights_are_those_of_torchs_own_attention() -> None:
    torch.manual_seed(0)
    attention, tokens = nn.MultiheadAttention(16, 4, batch_first=True).eval(), torch.randn(2, 6, 16)
    with torch.no_grad():
        plain = attention(tokens, tokens, tokens, need_weights=False)[0]
        wanted = attention(tokens, tokens, tokens, average_attn_weights=False)[1]
        with recorded() as found:
            read = attention(tokens, tokens, tokens, need_weights=False)[0]
    torch.testing.assert_close(read, plain)
    torch.testing.assert_close(found[0], wanted)


def test_masks_and_scales_count_and_torch_is_left_as_it_was() -> None:
    usual = functional.scaled_dot_product_attention
    q = torch.randn(1, 1, 3, 4)
    with recorded() as found:
        functional.scaled_dot_product_attention(q, q, q, is_causal=True)
        functional.scaled_dot_product_attention(q, q, q, attn_mask=torch.ones(3, 3, dtype=torch.bool).tril(), scale=0.5)
        functional.scaled_dot_product_attention(q, q, q, attn_mask=torch.zeros(3, 3), scale=0.5)
    assert functional.scaled_dot_product_attention is usual
    assert (found[0].triu(1) == 0).all()
    torch.testing.assert_close(found[1][..., -1, :], found[2][..., -1, :])
    torch.testing.assert_close(found[2], (q @ q.transpose(-1, -2) * 0.5).softmax(-1))


def test_attention_between_slots_adds_frames_and_averages_heads() -> None:
    def call() -> None:
        q = torch.zeros(1, 2, 4, 2)  # two frames of two slots, all alike
        functional.scaled_dot_product_attention(q, q, q)

    found = between_slots(call, slots=2, tokens=2, queries=1)
    torch.testing.assert_close(found, torch.full((1, 2, 2), 0.5))


def test_cjepa_tells_what_its_predictor_attends_to() -> None:
    torch.manual_seed(0)
    model = CJEPA(LatentSpec(3, 16), history_frames=2, pred_frames=2, depth=2, heads=2, mlp_dim=16, num_masked=1).eval()
    history = torch.randn(2, 2, 3, 16)
    found = model.attention(LatentBatch(history))
    assert found.shape == (2, 3, 3)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 3))
    time = model.predictor.time_pos_embed
    queries = model.predictor.mask_token[:, :, None] + model.predictor.id_projector(history[:, :1]) + time[:, 2:]
    with torch.no_grad():
        maps = model.predictor.transformer.attention(torch.cat([history + time[:, :2], queries], dim=1).flatten(1, 2))
    wanted = torch.stack(maps).mean(0).view(2, 4, 3, 4, 3)[:, -2:].sum(3).mean(1)
    torch.testing.assert_close(found, wanted)
