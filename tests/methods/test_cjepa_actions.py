"""C-JEPA with actions and proprioception: what is hidden, what is read, and when."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ocwm.errors import BenchError
from ocwm.types import LatentBatch, LatentSpec
from ocwm_methods.cjepa import CJEPA
from ocwm_methods.masking import tube_mask

BOTH = pytest.mark.parametrize("conditioning", ["nodes", "concat"])
SIZES = {"history_frames": 3, "pred_frames": 1, "frameskip": 5, "depth": 1, "heads": 2, "mlp_dim": 16, "dropout": 0.0}


def build(*, action_dim: int = 2, proprio_dim: int = 3, **other) -> CJEPA:
    torch.manual_seed(0)
    spec = LatentSpec(num_slots=4, slot_dim=8, action_dim=action_dim, proprio_dim=proprio_dim)
    return CJEPA(spec, **{**SIZES, "num_masked": 1, "action_embed_dim": 4, "proprio_embed_dim": 6, **other}).eval()


def batch(frames: int = 4, *, actions: int | None = None) -> LatentBatch:
    generator = torch.Generator().manual_seed(1)
    return LatentBatch(
        torch.randn(3, frames, 4, 8, generator=generator),
        actions=torch.randn(3, frames if actions is None else actions, 2, generator=generator),
        proprio=torch.randn(3, frames, 3, generator=generator),
    )


@BOTH
def test_what_is_missing_counts_as_zero(conditioning: str) -> None:
    model, whole = build(conditioning=conditioning), batch()
    zero, missing = whole.actions.clone(), whole.actions.clone()
    zero[1, 0], missing[1, 0] = 0.0, float("nan")
    expected, found = (model.loss(replace(whole, actions=actions))["loss"] for actions in (zero, missing))
    assert torch.equal(expected, found)


@BOTH
def test_actions_and_proprioception_of_the_future_are_no_inputs(conditioning: str) -> None:
    model, whole = build(conditioning=conditioning), batch()
    losses = model.loss(whole)
    actions, proprio = whole.actions.clone(), whole.proprio.clone()
    actions[:, 3] += 1.0
    assert model.loss(replace(whole, actions=actions)) == losses
    proprio[:, 3] += 1.0
    changed = model.loss(replace(whole, proprio=proprio))
    assert changed["loss_proprio"] != losses["loss_proprio"]
    assert changed["loss_future"] == losses["loss_future"]
    actions[:, 2] += 1.0
    assert model.loss(replace(whole, actions=actions))["loss_future"] != losses["loss_future"]


def test_the_target_embedding_gives_no_gradient() -> None:
    model, whole = build(), batch()
    proprio = whole.proprio.clone().requires_grad_()
    model.loss(replace(whole, proprio=proprio))["loss"].backward()
    assert proprio.grad[:, :3].any()
    assert not proprio.grad[:, 3].any()


def test_only_objects_are_hidden() -> None:
    model = build(num_masked=4)
    assert model.mask(batch().latents[:, :3]).shape == (3, 4)
    whole, changed = batch(), batch()
    changed.latents[:, 1:3] += 1.0
    nodes, other = (model.nodes(x.latents, actions=x.actions, proprio=x.proprio)[:, :3] for x in (whole, changed))
    hidden = torch.nn.functional.pad(torch.ones(3, 4, dtype=torch.bool), (0, 2))
    torch.testing.assert_close(model.predictor(nodes, hidden), model.predictor(other, hidden))
    changed.proprio[:, 1:3] += 1.0
    other = model.nodes(changed.latents, actions=changed.actions, proprio=changed.proprio)[:, :3]
    assert not torch.allclose(model.predictor(nodes, hidden), model.predictor(other, hidden))


@BOTH
def test_a_rollout_reads_actions_when_they_are_due(conditioning: str) -> None:
    model, history = build(conditioning=conditioning), replace(batch(1, actions=5), proprio=batch(5).proprio)
    rollout = model.rollout(history, steps=4)
    assert rollout.latents.shape == (3, 4, 4, 8)
    assert rollout.proprio.shape == (3, 4, 8 if conditioning == "nodes" else 6)
    actions = history.actions.clone()
    actions[:, 2] += 1.0  # leads from the second predicted frame to the third
    changed = model.rollout(replace(history, actions=actions), steps=4)
    assert torch.equal(changed.latents[:, :2], rollout.latents[:, :2])
    assert not torch.allclose(changed.latents[:, 2], rollout.latents[:, 2])
    actions = history.actions.clone()
    actions[:, 4] += 1.0  # would lead beyond the last frame
    assert torch.equal(model.rollout(replace(history, actions=actions), steps=4).latents, rollout.latents)
    future = history.proprio.clone()
    future[:, 1:] += 1.0
    assert torch.equal(model.rollout(replace(history, proprio=future), steps=4).latents, rollout.latents)


@pytest.mark.parametrize(("steps", "calls"), [(1, 1), (2, 2), (4, 3), (5, 3), (6, 4)])
def test_the_last_frame_of_a_rollout_has_a_call_of_its_own(
    monkeypatch: pytest.MonkeyPatch, steps: int, calls: int
) -> None:
    model, made = build(pred_frames=2), []
    infer = model.predictor.infer
    monkeypatch.setattr(model.predictor, "infer", lambda window: made.append(window.shape[1]) or infer(window))
    history = batch(3, actions=3 + steps)
    assert model.rollout(history, steps=steps).latents.shape[1] == steps
    assert made == [3] * calls


def test_predicted_slots_keep_the_order_of_the_history(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()

    def turned(window: torch.Tensor) -> torch.Tensor:
        return window[:, -1:, [2, 0, 3, 1, 4, 5]] + 0.01

    monkeypatch.setattr(model.predictor, "infer", turned)
    history = batch(1, actions=3)
    expected = history.latents + 0.01 * torch.arange(1, 4).view(1, -1, 1, 1)
    torch.testing.assert_close(model.rollout(history, steps=3).latents, expected)


@pytest.mark.parametrize(("action_dim", "proprio_dim", "nodes"), [(2, 0, 5), (0, 3, 5), (2, 3, 6), (0, 0, 4)])
def test_what_a_task_has_not_is_left_out(action_dim: int, proprio_dim: int, nodes: int) -> None:
    model, whole = build(action_dim=action_dim, proprio_dim=proprio_dim), batch()
    assert model.nodes(whole.latents, actions=whole.actions, proprio=whole.proprio).shape == (3, 4, nodes, 8)
    assert ("loss_proprio" in model.loss(whole)) == bool(proprio_dim)
    rollout = model.rollout(batch(2, actions=3), steps=2)
    assert (rollout.proprio is None) == (not proprio_dim)
    encoders = {name.split(".")[0] for name in model.state_dict()} - {"predictor"}
    wanted = {"action_encoder": action_dim, "proprio_encoder": proprio_dim}
    assert encoders == {name for name, width in wanted.items() if width}


def test_tubes_beside_other_nodes_are_the_published_ones() -> None:
    def drawn(tubes: int, ratio: float) -> str:
        mask = tube_mask(np.random.RandomState(42), 3, 4, ratio=ratio, tubes=tubes, narrower=True)
        return "/".join("".join(str(int(cell)) for cell in row) for row in mask)

    assert drawn(2, 0.25) == "0010/0000/0001"
    assert drawn(2, 0.5) == "0000/0000/1111"
    assert drawn(3, 0.5) == "0010/0000/0001"
    model = build(mask_strategy="tube", mask_ratio=0.5, num_masked=2)
    assert model.mask(batch().latents[:, :3]).sum() == 4


def test_matching_the_future_forgives_the_order() -> None:
    whole = batch()
    swapped = whole.latents.clone()
    swapped[:, 3] = whole.latents[:, 3][:, [1, 0, 3, 2]]
    turned = replace(whole, latents=swapped)
    for matching in ("mse", "cosine"):
        model = build(future_matching=matching)
        torch.testing.assert_close(model.loss(whole)["loss_future"], model.loss(turned)["loss_future"])
    assert build().loss(whole)["loss_future"] != build().loss(turned)["loss_future"]


def test_missing_inputs_and_widths_that_do_not_fit_are_named() -> None:
    model, whole = build(), batch()
    with pytest.raises(BenchError, match="built for actions"):
        model.loss(replace(whole, actions=None))
    with pytest.raises(BenchError, match="built for proprioception"):
        model.loss(replace(whole, proprio=None))
    with pytest.raises(BenchError, match="reads 5 actions, and there are 4"):
        model.rollout(batch(3, actions=4), steps=3)
    with pytest.raises(BenchError, match="width of slots and embeddings 17"):
        build(conditioning="concat", action_embed_dim=3)
    with pytest.raises(BenchError, match="the model has none"):
        build(proprio_dim=0).embed_proprio(whole.proprio)
