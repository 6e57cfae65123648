"""DINO-WM: what a frame may see, how actions and proprioception enter, and what a rollout reads."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from ocwm.errors import BenchError
from ocwm.types import LatentBatch, LatentSpec
from ocwm_baselines.dino_wm import DinoWorldModel
from ocwm_baselines.frame_causal_vit import FrameCausalViT

SIZES = {"depth": 2, "heads": 2, "head_dim": 4, "mlp_dim": 16, "dropout": 0.0}
EMBEDDED = {"action_embed_dim": 3, "proprio_embed_dim": 4}
FUSIONS = ("channels", "tokens")


def build(*, actions: int = 2, proprio: int = 4, **other) -> DinoWorldModel:
    torch.manual_seed(0)
    spec = LatentSpec(num_slots=5, slot_dim=8, action_dim=actions, proprio_dim=proprio)
    return DinoWorldModel(spec, **{**SIZES, **EMBEDDED, **other}).eval()


def clip(frames: int = 4) -> LatentBatch:
    generator = torch.Generator().manual_seed(1)
    return LatentBatch(
        torch.randn(3, frames, 5, 8, generator=generator),
        actions=torch.randn(3, frames, 2, generator=generator),
        proprio=torch.randn(3, frames, 4, generator=generator),
    )


def history(batch: LatentBatch, frames: int) -> LatentBatch:
    """The first frames; actions and proprioception stay whole."""
    return replace(batch, latents=batch.latents[:, :frames])


def test_the_published_size() -> None:
    with torch.device("meta"):
        model = FrameCausalViT(tokens=196, frames=3, dim=404, depth=6, heads=16, head_dim=64, mlp_dim=2048, dropout=0.1)
    assert sum(p.numel() for p in model.parameters()) == 20_122_600


def test_a_frame_sees_itself_and_what_came_before() -> None:
    model, window = build(actions=0, proprio=0).predictor, clip(3).latents
    plain = model.predict(window)
    changed = window.clone()
    changed[:, 2, 0] += torch.randn(8)
    later = model.predict(changed)
    assert torch.equal(later[:, :2], plain[:, :2])
    assert not torch.isclose(later[:, 2], plain[:, 2]).all(dim=-1).any()
    torch.testing.assert_close(model.predict(window[:, :1]), plain[:, :1], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_parts_are_fused_in_order_and_come_back(fusion: str) -> None:
    model, batch = build(fusion=fusion, action_repeat=2, proprio_repeat=3), clip()
    fused = model.fuse(batch.latents, actions=batch.actions, proprio=batch.proprio)
    assert fused.shape == ((3, 4, 5, 8 + 3 * 4 + 2 * 3) if fusion == "channels" else (3, 4, 7, 8))
    visual, proprio, action = model.split(fused)
    assert torch.equal(visual, batch.latents)
    assert torch.equal(proprio, model.embed_proprio(batch.proprio))
    assert model.action_encoder is not None
    assert torch.equal(action, model.action_encoder(batch.actions))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_loss_is_the_next_frame_of_all_but_the_action(fusion: str) -> None:
    model, batch = build(fusion=fusion), clip()
    fused = model.fuse(batch.latents, actions=batch.actions, proprio=batch.proprio)
    predicted = model.predictor.predict(fused[:, :3])
    kept = (..., slice(0, 12)) if fusion == "channels" else (slice(None), slice(None), slice(0, 6))
    losses = model.loss(batch)
    torch.testing.assert_close(losses["loss"], functional.mse_loss(predicted[kept], fused[:, 1:][kept]))
    share = 4 / 12 if fusion == "channels" else 1 / 6
    mixed = (1 - share) * losses["loss_visual"] + share * losses["loss_proprio"]
    torch.testing.assert_close(losses["loss"], mixed)
    assert batch.actions is not None
    other = batch.actions.clone()
    other[:, 3] += 5.0  # nothing follows it
    assert model.loss(replace(batch, actions=other))["loss"] == losses["loss"]
    other[:, 2] += 5.0
    assert model.loss(replace(batch, actions=other))["loss"] != losses["loss"]


def test_targets_give_no_gradient() -> None:
    model, batch = build(actions=0, proprio=0), clip()
    latents = batch.latents.requires_grad_()
    model.loss(LatentBatch(latents))["loss"].backward()
    assert latents.grad is not None
    assert latents.grad[:, :3].any()
    assert not latents.grad[:, 3].any()


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("observed", [1, 2, 3])
def test_a_rollout_reads_no_more_than_it_may(fusion: str, observed: int) -> None:
    model, batch = build(fusion=fusion), clip(8)
    rolled = model.rollout(history(batch, observed), steps=3)
    assert rolled.latents.shape == (3, 3, 5, 8)
    assert rolled.proprio is not None
    assert rolled.proprio.shape == (3, 3, 8 if fusion == "tokens" else 4)
    assert batch.actions is not None
    assert batch.proprio is not None
    later = replace(batch, actions=batch.actions.clone(), proprio=batch.proprio.clone())
    assert later.actions is not None
    assert later.proprio is not None
    later.proprio[:, observed:] += 1.0
    later.actions[:, observed + 2 :] += 1.0
    assert torch.equal(model.rollout(history(later, observed), steps=3).latents, rolled.latents)
    later.actions[:, observed + 1] += 1.0  # the action that leads to the last frame
    again = model.rollout(history(later, observed), steps=3).latents
    assert torch.equal(again[:, :2], rolled.latents[:, :2])
    assert not torch.allclose(again[:, 2], rolled.latents[:, 2])


def test_the_window_slides_over_the_last_frames() -> None:
    model, batch = build(), clip(8)
    long = model.unroll(history(batch, 5), steps=1)[:, -1]
    assert batch.actions is not None
    assert batch.proprio is not None
    last = LatentBatch(batch.latents[:, 2:5], actions=batch.actions[:, 2:], proprio=batch.proprio[:, 2:])
    torch.testing.assert_close(long, model.unroll(last, steps=1)[:, -1])


def test_without_actions_and_proprioception_only_slots_are_left() -> None:
    model, batch = build(actions=0, proprio=0), LatentBatch(clip().latents)
    assert all(name.startswith("predictor.") for name in model.state_dict())
    assert model.loss(batch).keys() == {"loss", "loss_visual"}
    rolled = model.rollout(LatentBatch(batch.latents[:, :3]), steps=4)
    assert rolled.latents.shape == (3, 4, 5, 8)
    assert rolled.proprio is None


def test_actions_without_proprioception() -> None:
    model, batch = build(proprio=0), clip(6)
    assert model.loss(clip()).keys() == {"loss", "loss_visual"}
    rolled = model.rollout(history(batch, 3), steps=3)
    assert rolled.proprio is None
    assert rolled.latents.shape == (3, 3, 5, 8)


def test_what_is_missing_is_named() -> None:
    model, batch = build(), clip(4)
    with pytest.raises(BenchError, match="6 actions, and there are 4"):
        model.rollout(history(batch, 3), steps=4)
    with pytest.raises(BenchError, match="2 actions, and there are 0"):
        model.rollout(LatentBatch(batch.latents[:, :2], proprio=batch.proprio), steps=1)
    with pytest.raises(BenchError, match="built for actions"):
        model.loss(LatentBatch(batch.latents, proprio=batch.proprio))
    with pytest.raises(BenchError, match="the batch has none"):
        model.loss(LatentBatch(batch.latents, actions=batch.actions))
    with pytest.raises(BenchError, match="have 4 slots"):
        model.loss(replace(batch, latents=batch.latents[:, :, :4]))
    with pytest.raises(BenchError, match="fusion=concat"):
        build(fusion="concat")
    with pytest.raises(BenchError, match="action_repeat=0"):
        build(action_repeat=0)
