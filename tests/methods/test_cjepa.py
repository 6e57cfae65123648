"""C-JEPA: which cells are hidden, what is counted, how the rollout calls the predictor."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from ocwm.errors import BenchError
from ocwm.types import LatentBatch, LatentSpec
from ocwm_methods.cjepa import CJEPA
from ocwm_methods.masking import token_mask, tube_mask

SIZES = {"history_frames": 4, "pred_frames": 3, "frameskip": 1, "depth": 1, "heads": 2, "mlp_dim": 16, "dropout": 0.0}


def build(*, slots: int = 5, **other) -> CJEPA:
    torch.manual_seed(0)
    return CJEPA(LatentSpec(num_slots=slots, slot_dim=8), **{**SIZES, "num_masked": 2, **other}).eval()


def clip(slots: int = 5, batch: int = 3) -> LatentBatch:
    return LatentBatch(torch.randn(batch, 7, slots, 8, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize(
    ("slots", "count", "hidden"),
    [(7, 1, {0}), (7, 2, {0, 1}), (7, 3, {0, 1, 5}), (7, 4, {0, 1, 5, 2}), (8, 4, {1, 5, 0, 7})],
)
def test_the_fixed_mask_is_the_published_one(slots: int, count: int, hidden: set[int]) -> None:
    model = build(slots=slots, num_masked=count)
    mask = model.mask(torch.zeros(2, 4, slots, 8))
    assert {int(i) for i in mask[0].nonzero()} == hidden
    assert (mask == mask[0]).all()
    assert torch.equal(mask, model.mask(torch.ones(5, 4, slots, 8)))


def test_token_and_tube_masks_are_the_published_ones() -> None:
    def drawn(rows: str) -> np.ndarray:
        return np.array([[c == "1" for c in row] for row in rows.split("/")])

    rng = np.random.RandomState(42)
    expected = drawn("1100110/1011001/1010101/0110101/0101011/0010101")
    np.testing.assert_array_equal(token_mask(rng, 6, 7, ratio=0.56), expected)
    rng = np.random.RandomState(42)
    expected = drawn("0000000/0000000/0011110/0011110/0110110/0110000")
    np.testing.assert_array_equal(tube_mask(rng, 6, 7, ratio=0.56, tubes=4), expected)


def test_drawn_masks_differ_between_batches_and_between_clips() -> None:
    torch.manual_seed(3)
    history = torch.zeros(32, 4, 5, 8)
    by_batch = build(mask_choice="batch")
    masks = [by_batch.mask(history) for _ in range(8)]
    assert any(not torch.equal(a, b) for a, b in pairwise(masks))
    by_sample = build(mask_choice="sample", mask_count="uniform").mask(history)
    assert set(by_sample[:, 0].sum(dim=1).tolist()) == {0, 1, 2}


def test_a_hidden_object_is_read_from_its_first_frame_only() -> None:
    model = build(num_masked=1)
    history = clip().latents[:, :4]
    mask = model.mask(history)
    slot = int(mask[0].nonzero())
    changed = history.clone()
    changed[:, 1:, slot] += 5.0
    torch.testing.assert_close(model.predictor(history, mask), model.predictor(changed, mask))
    changed[:, 0, slot] += 5.0
    assert not torch.allclose(model.predictor(history, mask), model.predictor(changed, mask))


def test_the_history_loss_counts_the_anchor_only_when_asked() -> None:
    batch = clip()
    faithful, paper = build(), build(history_loss="without_anchor")
    mask = faithful.mask(batch.latents[:, :4])
    predicted = faithful.predictor(batch.latents[:, :4], mask)
    error = (predicted[:, :4] - batch.latents[:, :4]).square().mean(-1)[..., mask[0]]
    torch.testing.assert_close(faithful.loss(batch)["loss_history"], error.mean())
    torch.testing.assert_close(paper.loss(batch)["loss_history"], error[:, 1:].mean())


def test_no_masked_object_means_no_history_loss() -> None:
    losses = build(num_masked=0).loss(clip())
    assert losses["loss_history"] == 0
    assert losses["loss"] == losses["loss_future"]


def test_without_the_extra_token_there_is_no_such_parameter() -> None:
    names = dict(build(extra_mask_token=False).named_parameters())
    assert "predictor.mask_token" not in names
    assert "predictor.mask_token" in dict(build().named_parameters())


@pytest.mark.parametrize(("steps", "calls"), [(1, 1), (3, 1), (4, 2), (7, 3)])
def test_a_rollout_makes_the_least_number_of_calls(monkeypatch: pytest.MonkeyPatch, steps: int, calls: int) -> None:
    model, made = build(), []
    infer = model.predictor.infer
    monkeypatch.setattr(model.predictor, "infer", lambda window: made.append(window.shape[1]) or infer(window))
    assert model.rollout(clip(), steps=steps).latents.shape == (3, steps, 5, 8)
    assert made == [4] * calls


@pytest.mark.parametrize("frames", [1, 3, 4])
def test_what_is_not_asked_for_is_left_out_without_a_difference(frames: int) -> None:
    predictor = build(depth=2).predictor
    window = clip().latents[:, :frames]
    time = predictor.time_pos_embed[:, -frames - 3 :]
    hidden = torch.arange(frames + 3)[:, None] >= frames
    padded = torch.cat([window, torch.zeros(3, 3, 5, 8)], dim=1)
    whole = predictor.decode(predictor.tokens(padded, hidden, time))
    torch.testing.assert_close(predictor.infer(window), whole[:, frames:], atol=1e-6, rtol=1e-5)
    computed = []
    predictor.transformer.norm.register_forward_pre_hook(lambda _, given: computed.append(given[0].shape[1]))
    predictor.infer(window)
    predictor(clip().latents[:, :4], torch.zeros(4, 5, dtype=torch.bool))
    assert computed == [3 * 5, 7 * 5]


def test_a_rollout_takes_any_number_of_slots_in_any_order() -> None:
    model, batch = build(), clip()
    whole = model.rollout(batch, steps=5).latents
    order = torch.tensor([3, 0, 4, 1, 2])
    turned = model.rollout(LatentBatch(batch.latents[:, :, order]), steps=5).latents
    torch.testing.assert_close(turned, whole[:, :, order], atol=1e-5, rtol=1e-4)
    assert model.rollout(LatentBatch(batch.latents[:, :, :2]), steps=5).latents.shape[2] == 2


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"num_masked": 6}, "num_masked=6"),
        ({"heads": 3}, "heads=3"),
        ({"mask_strategy": "tubes"}, "mask_strategy=tubes"),
        ({"mask_count": "uniform"}, "mask_choice=batch"),
    ],
)
def test_settings_that_cannot_work_are_named(wrong: dict, named: str) -> None:
    with pytest.raises(BenchError, match=named):
        build(**wrong)
