"""Training of the pixel encoders: losses fall, weights load, losses and schedules as published."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from pixel_videos import CPU, configured, disc_frames, fitted, in_training
from safetensors.torch import save_file

from ocwm.encoder_training import VideoClips
from ocwm.errors import BenchError
from ocwm.kept_frames import ClipData
from ocwm.schedules import learning_rate
from ocwm.trainer import Interrupted, fit
from ocwm.types import Observations
from ocwm_encoders.savi_network import kl_loss
from ocwm_encoders.training_frames import shrink
from ocwm_encoders.videosaur_network import Similarity, losses

# What a second of training changes at the sizes of `tiny`.
QUICK = ["trainer.max_steps=80", "trainer.lr=0.005", "trainer.schedule=constant", "trainer.log_every=10"]


def seen(frames: np.ndarray) -> Observations:
    return Observations(ids=torch.arange(len(frames)), pixels=torch.from_numpy(frames))


@pytest.mark.parametrize("name", ["savi", "videosaur", "gated_slots", "patches"])
def test_the_loss_falls_and_the_weights_load(name: str, tmp_path: Path) -> None:
    training, report = fitted(name, tmp_path, *QUICK, "trainer.grad_clip=1.0")
    assert report.curve[-1]["loss"] < 0.85 * report.curve[0]["loss"]
    path = tmp_path / "weights.safetensors"
    save_file(training.weights(), path)
    loaded = configured(name, f"encoder.weights={path}")
    for key, value in training.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[key], value)
    frames = disc_frames(count=1)
    latents = loaded.encode(seen(frames))[0].latents
    assert latents.shape == (1, 8, loaded.num_slots, loaded.slot_dim)
    assert not torch.allclose(latents, configured(name).encode(seen(frames))[0].latents, atol=1e-2)


def test_an_interrupted_training_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    # Short clips, the area term and drawn pixels all depend on the number of the update or on torch's generator.
    settings = ["trainer.max_steps=8", "training.loss_pixels=16", "training.area_from=0.3"]

    class Stopping(ClipData):
        def batch(self, indices, generator):
            calls.append(1)
            if len(calls) == 4:
                os.kill(os.getpid(), signal.SIGINT)
            return super().batch(indices, generator)

    calls: list[int] = []
    frames = disc_frames()
    whole, _ = fitted("gated_slots", tmp_path / "whole", *settings, frames=frames)
    for _ in range(2):
        training, trainer = in_training("gated_slots", *settings)
        training.start(frames)
        try:
            report = fit(
                training, Stopping(frames, training.clips), trainer, seed=0, folder=tmp_path / "broken", device=CPU
            )
        except Interrupted:
            continue
    assert 0 < report.resumed_from < 8
    assert int(training.update_number) == 8
    for key, value in whole.state_dict().items():
        assert torch.equal(training.state_dict()[key], value), key


def test_the_losses_are_those_of_the_networks() -> None:
    batch = VideoClips(torch.from_numpy(disc_frames(count=2)[:, :2]))
    savi, _ = in_training("savi")
    torch.manual_seed(4)
    ours = savi.loss(batch)
    torch.manual_seed(4)
    images = torch.nn.functional.interpolate(
        batch.frames.flatten(0, 1) / 255 * 2 - 1, (16, 16), mode="bilinear", antialias=True
    )
    slots, kernel = savi.network.encode(images.unflatten(0, (2, 2)))
    error = (savi.network.decode(slots.flatten(0, 1)).image - images).square().mean()
    torch.testing.assert_close(ours["loss"], error + 1e-4 * kl_loss(kernel))


def test_the_kl_term_by_hand() -> None:
    # Two numbers a slot: 0.5 (ln 0.01 - lv) + e^lv / 0.02 - 0.5 each, at lv = 0 and ln 0.04; means don't count.
    kernel = torch.tensor([[[[3.0, -7.0, 0.0, math.log(0.04)]]]])
    first = 0.5 * math.log(0.01) + 50 - 0.5
    second = 0.5 * (math.log(0.01) - math.log(0.04)) + 2 - 0.5
    assert kl_loss(kernel).item() == pytest.approx(first + second, rel=1e-6)


def test_the_videosaur_losses_by_hand() -> None:
    # One clip of two frames, two patches, features of width 1; patch 0 stays, patch 1 is like nothing.
    features = torch.tensor([[[[1.0], [2.0]], [[3.0], [4.0]]]])
    keys = torch.tensor([[[[1.0, 0.0], [0.0, -1.0]], [[1.0, 0.0], [0.6, 0.8]]]])
    decoded = torch.tensor([[[[0.0, 0.3, -0.2], [2.0, 0.5, 0.5]], [[3.0, 9.0, 9.0], [6.0, 9.0, 9.0]]]])
    terms = losses(decoded, features, keys, Similarity(weight=0.3, temperature=0.15))
    reconstruction = (1 + 0 + 0 + 4) / 4
    # Cosines of patch 0: 1 and 0.6; of patch 1: 0 and -0.8, which counts as none.
    sure = 1 / (1 + math.exp((0.6 - 1) / 0.15))
    total = math.exp(0.3) + math.exp(-0.2)
    first = -(sure * (0.3 - math.log(total)) + (1 - sure) * (-0.2 - math.log(total)))
    second = math.log(2)
    assert terms["loss_featrec"].item() == pytest.approx(reconstruction)
    assert terms["loss_timesim"].item() == pytest.approx((first + second) / 2, rel=1e-5)
    assert terms["loss"].item() == pytest.approx(reconstruction + 0.3 * (first + second) / 2, rel=1e-5)


def test_published_trainings() -> None:
    from ocwm.config import compose

    def paper(name: str, task: str = "clevrer"):
        return compose(method=None, task=task, preset="paper", trains=name).values

    values = paper("savi")
    trainer = values.trainer
    assert (trainer.optimizer, trainer.weight_decay, trainer.batch_size) == ("adam", 0.0, 32)
    assert (trainer.lr, trainer.grad_clip, trainer.precision) == (1e-4, 0.05, "fp16")
    assert values.training.frames == 6
    clips_per_process = 10_000 * 123 / 3
    assert trainer.max_steps == 8 * int(clips_per_process / 32)

    def rate(step: int) -> float:
        warmup = trainer.warmup_fraction * trainer.max_steps
        total, ratio = trainer.max_steps, trainer.min_lr_ratio
        return learning_rate(
            step, total=total, lr=trainer.lr, schedule=trainer.schedule, min_lr_ratio=ratio, warmup=warmup
        )

    assert rate(0) == pytest.approx(1e-6)
    assert rate(round(0.025 * trainer.max_steps)) == pytest.approx(1e-4, rel=1e-3)

    values = paper("videosaur")
    trainer = values.trainer
    assert (trainer.optimizer, trainer.weight_decay, trainer.batch_size) == ("adam", 0.0, 32)
    assert (trainer.grad_clip, trainer.max_steps, trainer.precision) == (0.05, 100_000, "fp32")
    assert (values.training.frames, values.training.stride, values.training.flip) == (6, 2, 0.5)
    assert (values.training.resize, values.encoder.resize) == ("bicubic", "bilinear")
    assert (values.encoder.temperature, values.encoder.similarity_weight) == (0.15, 0.3)
    for step, share in ((0, 0.0), (500, 0.25), (2000, 1.0), (51_000, 0.5**0.5), (100_000, 0.5)):
        assert rate(step) == pytest.approx(1e-4 * share)


def test_frames_are_shrunk_once_and_small_ones_stay() -> None:
    frames = torch.from_numpy(disc_frames(count=1)[0])
    small = shrink(frames, size=(16, 24), antialias=True)
    assert small.dtype is torch.uint8
    exact = torch.nn.functional.interpolate(frames.float(), (16, 24), mode="bilinear", antialias=True)
    assert float((small - exact).abs().max()) <= 0.5
    assert shrink(frames, size=(196, 196), antialias=True) is frames
    # Bicubic overshoots at edges; it must not wrap around.
    black = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    black[..., 4:] = 255
    assert shrink(black, size=(8, 6), resize="bicubic", antialias=False)[0, 0, 0, 0] == 0


def test_hidden_patches_are_not_looked_at() -> None:
    network = configured("patches").new_network().eval()
    images = torch.rand(2, 3, 16, 24) * 2 - 1
    hidden = torch.zeros(2, 6, dtype=torch.bool)
    hidden[:, 4] = True
    changed = images.clone()
    changed[:, :, 8:, 8:16] = 0.5  # patch 4: second row, second column
    assert torch.equal(network.tokens(images, hidden), network.tokens(changed, hidden))
    assert not torch.allclose(network.tokens(images), network.tokens(changed))
    parts = network.losses(images, hidden)
    assert set(parts) == {"hidden", "seen", "place"}


def test_patches_learn_what_and_where(tmp_path: Path) -> None:
    _, report = fitted("patches", tmp_path, *QUICK)
    assert report.curve[-1]["place"] < 0.5 * report.curve[0]["place"]
    assert report.curve[-1]["seen"] < 0.8 * report.curve[0]["seen"]


def test_pooled_tokens_are_means_of_squares() -> None:
    frames = seen(disc_frames(count=1, frames=2))
    encoder = configured("patches", "encoder.resolution=[16,32]")
    tokens = encoder.encode(frames)[0].latents
    pooled = configured("patches", "encoder.resolution=[16,32]", "encoder.pool=2")
    assert pooled.num_slots == 2
    got = pooled.encode(frames)[0].latents
    torch.testing.assert_close(got[:, :, 0], tokens[:, :, [0, 1, 4, 5]].mean(dim=2))
    for setting, message in (("pool=3", "pool=3 does not divide 2 x 4"), ("patch=7", "patch=7 does not divide")):
        with pytest.raises(BenchError, match=message):
            configured("patches", "encoder.resolution=[16,32]", f"encoder.{setting}")
