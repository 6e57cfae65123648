"""SlotFormer: time runs backwards, the window slides, gradients cross the rollout, and the image loss's hook."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from ocwm.errors import BenchError
from ocwm.types import LatentBatch, LatentSpec
from ocwm_baselines.slotformer import SlotFormer, backward_time_table
from ocwm_baselines.transformer import Stack

SIZES = {"history_frames": 4, "pred_frames": 3, "width": 16, "depth": 2, "heads": 2, "mlp_dim": 32, "dropout": 0.0}


def build(**other) -> SlotFormer:
    torch.manual_seed(0)
    model = SlotFormer(LatentSpec(num_slots=5, slot_dim=8), **{**SIZES, **other}).eval()
    with torch.no_grad():  # copies of one layer, as they start, would hide a wrong order
        for parameter in model.rollouter.transformer_encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def clip(frames: int = 7) -> LatentBatch:
    return LatentBatch(torch.randn(3, frames, 5, 8, generator=torch.Generator().manual_seed(1)))


def test_time_counts_back_from_the_newest_frame() -> None:
    table = backward_time_table(3, 4)[0]
    expected = torch.tensor([[2.0, 0.02], [1.0, 0.01], [0.0, 0.0]])
    torch.testing.assert_close(table, torch.cat([expected.sin(), expected.cos()], dim=-1))


def test_the_published_size() -> None:
    with torch.device("meta"):
        model = SlotFormer(LatentSpec(num_slots=7, slot_dim=128))
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 3_224_960
    assert model.rollouter.enc_t_pe.shape == (1, 6, 256)


def test_the_stack_is_the_one_of_torch() -> None:
    ours = Stack(16, 2, 4, 24, 0.0)
    layer = nn.TransformerEncoderLayer(16, 4, 24, dropout=0.0, norm_first=True, batch_first=True)
    theirs = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(3, 6, 16)
    torch.testing.assert_close(ours(x, last=2), theirs(x)[:, -2:], atol=1e-5, rtol=1e-4)
    first, second = Stack(16, 2, 4, 24, 0.0).layers
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_every_step_encodes_the_window_anew() -> None:
    model, history = build(), clip(6).latents
    window, expected = history[:, -4:], []
    for _ in range(5):
        expected.append(model.rollouter.next(model.rollouter.in_proj(window)))
        window = torch.cat([window, expected[-1]], dim=1)[:, 1:]
    rolled = model.rollout(LatentBatch(history), steps=5).latents
    torch.testing.assert_close(rolled, torch.cat(expected, dim=1))


def test_a_short_history_takes_the_newest_times() -> None:
    long, short = build(), build(history_frames=2)
    short.load_state_dict({**long.state_dict(), "rollouter.enc_t_pe": long.rollouter.enc_t_pe[:, -2:]})
    history = LatentBatch(clip().latents[:, :2])
    torch.testing.assert_close(long.rollout(history, steps=1).latents, short.rollout(history, steps=1).latents)
    assert not torch.allclose(long.rollout(history, steps=3).latents, short.rollout(history, steps=3).latents)


def test_gradients_cross_the_whole_rollout() -> None:
    model, history = build(), clip().latents[:, :4].requires_grad_()
    predicted = model.rollout(LatentBatch(history), steps=5).latents
    predicted[:, -1].square().sum().backward()  # its own window holds predictions only
    assert history.grad is not None
    assert history.grad.any()


def test_the_future_is_never_read() -> None:
    model, batch = build(), clip()
    future = batch.latents[:, 4:]
    predicted = model.rollout(LatentBatch(batch.latents[:, :4]), steps=3).latents
    torch.testing.assert_close(model.loss(batch)["loss"], (predicted - future).square().mean())


class Painter(nn.Module):
    """A decoder: two linear pixels."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.paint = nn.Linear(8, 6)
        self.drop = nn.Dropout(0.5)
        self.read_from = weights

    def decode(self, slots: Tensor) -> Tensor:
        return self.drop(self.paint(slots).sum(dim=2)).unflatten(-1, (3, 1, 2))


@pytest.fixture
def painter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    module = ModuleType("painting")
    module.Painter, module.nothing = Painter, 3
    module.silent = lambda _: nn.Linear(1, 1)
    monkeypatch.setitem(sys.modules, "painting", module)
    weights = tmp_path / "decoder.safetensors"
    weights.touch()
    return {"decoder": "painting.Painter", "decoder_weights": str(weights)}


def test_the_image_loss_trains_the_slots_and_not_the_decoder(painter: dict[str, str]) -> None:
    torch.manual_seed(0)
    plain, model = build(), build(image_loss=True, image_loss_weight=0.5, **painter)
    model.load_state_dict(plain.state_dict(), strict=True)
    images = torch.randn(3, 7, 3, 1, 2)
    batch = LatentBatch(clip().latents, images=images)
    losses = model.train().loss(batch)
    assert model.image_loss is not None
    decoder = model.image_loss.decoder
    assert isinstance(decoder, Painter)
    assert not decoder.training
    assert str(decoder.read_from) == painter["decoder_weights"]
    predicted = plain.rollouter(batch.latents[:, :4], steps=3)
    torch.testing.assert_close(losses["loss_images"], (decoder.decode(predicted) - images[:, 4:]).square().mean())
    torch.testing.assert_close(losses["loss"], losses["loss_slots"] + 0.5 * losses["loss_images"])
    losses["loss_images"].backward()
    assert all(parameter.grad is None for parameter in decoder.parameters())
    assert model.rollouter.out_proj.weight.grad is not None
    assert "loss_images" not in plain.loss(batch)


def test_an_image_loss_that_cannot_work_says_what_is_missing(painter: dict[str, str]) -> None:
    with pytest.raises(BenchError, match=r"method\.decoder is not set.*image_loss=false"):
        build(image_loss=True)
    with pytest.raises(BenchError, match=r"method\.decoder_weights is not set"):
        build(image_loss=True, decoder="painting.Painter")
    with pytest.raises(BenchError, match="no decoder weights at /nowhere"):
        build(image_loss=True, decoder="painting.Painter", decoder_weights="/nowhere")
    for wrong, named in (("painting.Brush", "Brush"), ("painting.nothing", "can be called"), ("Painter", "Painter")):
        with pytest.raises(BenchError, match=named):
            build(image_loss=True, **{**painter, "decoder": wrong})
    with pytest.raises(BenchError, match="Linear is no slot decoder"):
        build(image_loss=True, **{**painter, "decoder": "painting.silent"})
    model = build(image_loss=True, **painter)
    with pytest.raises(BenchError, match="clips have no images"):
        model.loss(clip())
    with pytest.raises(BenchError, match=r"gives images \(3, 3, 3, 1, 2\)"):
        model.loss(LatentBatch(clip().latents, images=torch.zeros(3, 7, 3, 2, 2)))


@pytest.mark.parametrize(
    ("wrong", "named"), [({"heads": 3}, "heads=3"), ({"width": 15}, "width=15"), ({"depth": 0}, "depth=0")]
)
def test_settings_that_cannot_work_are_named(wrong: dict, named: str) -> None:
    with pytest.raises(BenchError, match=named):
        build(**wrong)
