"""OCVP: the buffer, the residual, teacher forcing, and the two ways to attend."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ocwm.errors import BenchError
from ocwm.types import LatentBatch, LatentSpec
from ocwm_baselines.ocvp import OCVP
from ocwm_baselines.ocvp_predictor import ParallelLayer

SIZES = {"history_frames": 4, "pred_frames": 5, "buffer_frames": 4, "width": 16, "depth": 2, "heads": 2, "mlp_dim": 32}
ATTENTION = ("sequential", "parallel")


def build(**other) -> OCVP:
    torch.manual_seed(0)
    return OCVP(LatentSpec(num_slots=5, slot_dim=8), **{**SIZES, **other}).eval()


def clip() -> LatentBatch:
    return LatentBatch(torch.randn(3, 9, 5, 8, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize(
    ("attention", "depth", "parameters"),
    [("sequential", 2, 562_944), ("sequential", 4, 1_092_864), ("parallel", 2, 562_176)],
)
def test_the_published_sizes(attention: str, depth: int, parameters: int) -> None:
    with torch.device("meta"):
        model = OCVP(LatentSpec(num_slots=7, slot_dim=128), attention=attention, depth=depth)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("attention", ATTENTION)
def test_a_step_is_the_newest_frame_of_the_whole_window(attention: str) -> None:
    model, history = build(attention=attention, buffer_frames=6), clip().latents[:, :4]
    buffer, expected = history, []
    for _ in range(5):
        expected.append(model.predictor(buffer)[:, -1:])
        buffer = torch.cat([buffer, expected[-1]], dim=1)[:, -6:]
    rolled = model.rollout(LatentBatch(history), steps=5).latents
    torch.testing.assert_close(rolled, torch.cat(expected, dim=1), atol=1e-5, rtol=1e-4)


def test_the_buffer_grows_and_then_slides(monkeypatch: pytest.MonkeyPatch) -> None:
    model, lengths = build(buffer_frames=6), []
    tokens = model.predictor._tokens
    monkeypatch.setattr(model.predictor, "_tokens", lambda window: lengths.append(window.shape[1]) or tokens(window))
    model.rollout(LatentBatch(clip().latents[:, :4]), steps=5)
    assert lengths == [4, 5, 6, 6, 6]
    lengths.clear()
    model.skip_first_frame = True
    model.rollout(LatentBatch(clip().latents[:, :4]), steps=2)
    model.rollout(LatentBatch(clip().latents[:, :1]), steps=1)
    assert lengths == [3, 4, 1]


@pytest.mark.parametrize("attention", ATTENTION)
def test_a_silent_transformer_repeats_the_last_frame(attention: str) -> None:
    model = build(attention=attention)
    for parameter in model.predictor.mlp_out.parameters():
        nn.init.zeros_(parameter)
    history = clip().latents[:, :4]
    rolled = model.rollout(LatentBatch(history), steps=3).latents
    assert torch.equal(rolled, history[:, -1:].expand(-1, 3, -1, -1))
    without = build(attention=attention, residual=False)
    without.load_state_dict(model.state_dict())
    assert not without.rollout(LatentBatch(history), steps=3).latents.any()


def test_teacher_forcing_feeds_true_frames_back_and_shows_none_too_early() -> None:
    model, batch = build(), clip()
    history, future = batch.latents[:, :4], batch.latents[:, 4:]
    forced = model.predict(history, steps=5, truth=future)
    torch.testing.assert_close(forced[:, 2:3], model.predictor(batch.latents[:, 2:6])[:, -1:])
    changed = future.clone()
    changed[:, 2:] += 1.0
    torch.testing.assert_close(model.predict(history, steps=5, truth=changed)[:, :3], forced[:, :3])
    assert not torch.allclose(model.predict(history, steps=5, truth=changed)[:, 3:], forced[:, 3:])
    free = model.predict(history, steps=5)
    torch.testing.assert_close(model.loss(batch)["loss"], (free - future).square().mean())
    model.teacher_forcing = True
    torch.testing.assert_close(model.loss(batch)["loss"], (forced - future).square().mean())


def test_the_attention_that_is_never_used_changes_nothing() -> None:
    model, batch = build(attention="parallel"), clip()
    before = model.loss(batch)["loss"]
    before.backward()
    for layer in model.predictor.transformer_encoders:
        assert isinstance(layer, ParallelLayer)
        for parameter in layer.self_attn.parameters():
            assert not parameter.requires_grad
            nn.init.constant_(parameter, 9.0)
    assert model.loss(batch)["loss"] == before
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_one_layer_carries_news_along_the_frame_or_the_object_only() -> None:
    changed = torch.zeros(1, 4, 5, 16)
    changed[0, 1, 2] = torch.randn(16)
    for attention, reached in (("sequential", 20), ("parallel", 5 + 4 - 1)):
        layer = build(attention=attention, depth=1).predictor.transformer_encoders[0]
        differs = (layer(changed) - layer(torch.zeros_like(changed))).abs().amax(dim=-1) > 1e-7
        assert differs[0, 1].all()
        assert differs[0, :, 2].all()
        assert differs.sum() == reached


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"buffer_frames": 3}, "buffer_frames=3"), ({"attention": "both"}, "attention=both"), ({"heads": 3}, "heads=3")],
)
def test_settings_that_cannot_work_are_named(wrong: dict, named: str) -> None:
    with pytest.raises(BenchError, match=named):
        build(**wrong)
