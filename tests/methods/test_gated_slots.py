"""The gated_slots encoder: chunks, masks, background, loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pixel_videos import configured, disc_frames, fitted, in_training, part
from safetensors.torch import save_file

from ocwm.encoder_training import VideoClips
from ocwm.errors import BenchError
from ocwm.types import Observations
from ocwm_encoders.gated_slots import GatedSlotsEncoder
from ocwm_encoders.gated_slots_network import grid


def seen(frames: np.ndarray) -> Observations:
    return Observations(ids=torch.arange(len(frames)) + 7, pixels=torch.from_numpy(frames))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gated")
    training, _ = fitted("gated_slots", folder / "work")
    save_file(training.weights(), folder / "weights.safetensors")
    return folder / "weights.safetensors"


def test_a_video_in_chunks_gives_the_slots_of_one_pass(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, videos = configured("gated_slots", f"encoder.weights={weights}"), seen(disc_frames(count=2))
    whole, _ = encoder.encode(videos)
    parts, carry = [], None
    for low, high in ((0, 1), (1, 4), (4, 8)):
        batch, carry = encoder.encode(part(videos, low, high), carry)
        parts.append(batch.latents)
    assert whole.latents.shape == (2, 8, 3, 16)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole.latents, atol=1e-5, rtol=1e-5)
    monkeypatch.setattr("ocwm_encoders.pixel_encoder._FRAMES_PER_CALL", 4)
    torch.testing.assert_close(encoder.encode(videos)[0].latents, whole.latents, atol=1e-5, rtol=1e-5)
    restarted = encoder.encode(part(videos, 4, 8))[0].latents
    assert not torch.allclose(restarted, whole.latents[:, 4:], atol=1e-4)  # the carry matters


@pytest.mark.parametrize(("masks", "size"), [("attention", (8, 12)), ("decoder", (8, 12))])
def test_masks_leave_the_background(weights: Path, masks: str, size: tuple[int, int]) -> None:
    encoder, videos = configured("gated_slots", f"encoder.weights={weights}", f"encoder.masks={masks}"), disc_frames(2)
    latents, soft, _ = encoder.segment(seen(videos))
    assert encoder.segments
    assert torch.equal(latents.latents, encoder.encode(seen(videos))[0].latents)
    assert soft.shape == (2, 8, 3, *size)
    covered = soft.sum(dim=2)
    assert soft.min() >= 0
    assert covered.max() <= 1 + 1e-5
    if masks == "attention":
        gate = encoder.network.gate(encoder.images(torch.from_numpy(videos)).flatten(0, 1))
        wanted = torch.nn.functional.avg_pool2d(gate, 8).view(2, 8, *size)
        torch.testing.assert_close(covered, wanted)
        assert 0.02 < covered.mean() < 0.3  # discs, not everything


def test_a_slot_ends_with_its_place(weights: Path) -> None:
    encoder = configured("gated_slots", f"encoder.weights={weights}")
    frames = disc_frames(count=1)
    latents, masks, _ = encoder.segment(seen(frames))
    weight = masks.flatten(-2)
    places = weight @ grid(8, 12) / (weight.sum(dim=-1, keepdim=True) + 0.1 / 16)
    torch.testing.assert_close(latents.latents[..., -2:], places, atol=1e-5, rtol=1e-5)
    scaled = configured("gated_slots", f"encoder.weights={weights}", "encoder.position_scale=4")
    torch.testing.assert_close(scaled.encode(seen(frames))[0].latents[..., -2:], 4 * places, atol=1e-4, rtol=1e-4)


def test_coordinates_are_those_of_one_scene_at_any_resolution() -> None:
    fine, coarse = grid(4, 6), grid(2, 3)
    torch.testing.assert_close(fine.view(2, 2, 3, 2, 2).mean(dim=(1, 3)).view(-1, 2), coarse)
    assert fine[0].tolist() == pytest.approx([-1.25, -0.75])  # x then y, square pixels
    assert fine[1, 0] - fine[0, 0] == pytest.approx(0.5)


def test_an_empty_scene_leaves_slots_where_they_are_not(weights: Path) -> None:
    encoder = configured("gated_slots", f"encoder.weights={weights}")
    background = ((encoder.network.background + 1) * 127.5).round().to(torch.uint8)
    latents, masks, _ = encoder.segment(Observations(ids=torch.tensor([0]), pixels=background[None]))
    assert masks.max() < 0.05
    assert latents.latents[..., -2:].abs().max() < 0.3


def test_the_background_is_the_median(tmp_path: Path) -> None:
    frames = disc_frames()
    training, _ = in_training("gated_slots")
    training.start(frames)
    empty = torch.from_numpy((140 + np.mgrid[:64, :96][0] // 4) / 127.5 - 1).float()
    known = training.network.background[0]
    assert ((known - empty).abs() < 0.01).float().mean() > 0.97
    assert torch.equal(training.network.drawn_background[0], torch.nn.functional.avg_pool2d(known, 8))


def test_a_moving_background_is_refused() -> None:
    texture = np.random.default_rng(0).integers(0, 256, (3, 64, 96), dtype=np.uint8)
    moving = np.stack([np.stack([np.roll(texture, 5 * t + 3 * v, axis=-1) for t in range(8)]) for v in range(4)])
    training, _ = in_training("gated_slots")
    with pytest.raises(
        BenchError, match=r"the background does not stand still: \d+% of the pixels .*train encoder savi"
    ):
        training.start(moving)


def test_another_background_is_refused(weights: Path) -> None:
    encoder = configured("gated_slots", f"encoder.weights={weights}")
    other = disc_frames(count=2)
    other[1] = 255 - other[1] // 3
    with pytest.raises(BenchError, match=r"\d+% of video 8 differs from the background .*bench train-encoder"):
        encoder.encode(seen(other))
    encoder.encode(seen(other[:1]))
    configured("gated_slots").encode(seen(other))  # a random network knows no background


def test_frames_of_another_shape_are_refused() -> None:
    with pytest.raises(
        BenchError, match=r"64 high and 64 wide.*resolution=\[64, 96\].*Use encoder\.resolution=\[64,64\]"
    ):
        configured("gated_slots").encode(seen(disc_frames(count=1, size=(64, 64))))
    larger = configured("gated_slots").encode(seen(disc_frames(count=1, size=(128, 192))))[0]
    assert larger.latents.shape[2:] == (3, 16)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("encoder.feature_stride=5", "feature_stride=5 does not divide"),
        ("encoder.decoder_depth=0", "decoder_depth is 0"),
        ("encoder.masks=none", "masks=none"),
        ("encoder.resolution=[64]", r"must be \[height, width\]"),
        ("encoder.slot_dim=2", "slot_dim is 2"),
        ("training.short_frames=3", "short_frames=3 does not divide training.frames=4"),
    ],
)
def test_settings_that_cannot_work_are_named(setting: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        in_training("gated_slots", setting)


def test_sizes() -> None:
    network = GatedSlotsEncoder().new_network()
    trained = sum(p.numel() for p in network.parameters())
    assert 100_000 < trained < 200_000
    assert sum(value.numel() * 4 for value in network.state_dict().values()) < 1_000_000
    shaded = GatedSlotsEncoder(shading_input=True, decoder_depth=4).new_network()
    assert shaded.convolutions[0].in_channels == 6
    assert shaded.follow(torch.zeros(1, 1, 3, 64, 96)).content.shape == (1, 1, 7, 62)


def test_the_loss_by_hand() -> None:
    training, _ = in_training("gated_slots", "training.area_weight=0.5")
    training.start(disc_frames())
    training.eval()
    batch = VideoClips(torch.from_numpy(disc_frames(count=1, frames=2)))
    with torch.no_grad():
        parts = training.loss(batch)
        images = batch.frames[0].float() / 127.5 - 1
        tracks = training.network.follow(images[None])
        drawn, masks = training.network.decode(tracks.content[0], tracks.positions[0])
    torch.testing.assert_close(masks.sum(dim=1), torch.ones_like(masks[:, 0]))
    pool = torch.nn.functional.avg_pool2d
    gate = pool((4 * (images - training.network.background).abs().amax(1, keepdim=True)).clamp(max=1), 8)
    error = (drawn - pool(images, 8).flatten(2).transpose(1, 2)).square().mean(-1)
    wanted = ((1 + 4 * gate.flatten(1)) * error).mean()
    torch.testing.assert_close(parts["reconstruction"], wanted)
    areas = tracks.attention.sum(-1) * 16  # the feature map has 8 rows, areas are in pixels of a picture with 32
    area = (areas + 0.25).sqrt().sum(-1).mean()
    torch.testing.assert_close(parts["area"], area)
    torch.testing.assert_close(parts["loss"], wanted + 0.5 * area)


def test_drawn_pixels_give_the_loss_of_all_on_average() -> None:
    training, _ = in_training(
        "gated_slots", "training.loss_pixels=24", "training.short_share=0", "encoder.loss_stride=4"
    )
    training.start(disc_frames())
    batch = VideoClips(torch.from_numpy(disc_frames(count=2, frames=4)))
    torch.manual_seed(0)
    with torch.no_grad():
        drawn = torch.stack([training.train().loss(batch)["reconstruction"] for _ in range(100)])
        whole = training.eval().loss(batch)["reconstruction"]
    assert drawn.std() > 0
    assert abs(drawn.mean() - whole) < 4 * drawn.std() / 10
    assert drawn.std() < 0.2 * whole


def test_the_area_term_comes_in_and_is_eased() -> None:
    training, _ = in_training("gated_slots", "training.area_from=0.2")
    factors = [training.area_schedule(done) for done in (0.0, 0.2, 0.2 + 1 / 60, 0.3, 0.49, 0.5, 1.0)]
    assert factors == pytest.approx([0, 0, 0.5, 1, 1, 0.6, 0.6])


def test_clips_are_short_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    training, _ = in_training("gated_slots", "trainer.max_steps=4", "training.short_share=0.5")
    lengths = []
    follow = training.network.follow
    monkeypatch.setattr(
        training.network, "follow", lambda images: (lengths.append(images.shape[:2]), follow(images))[1]
    )
    batch = VideoClips(torch.from_numpy(disc_frames(count=2, frames=4)))
    for _ in range(3):
        training.loss(batch)
    training.eval().loss(batch)
    assert [tuple(one) for one in lengths] == [(4, 2), (4, 2), (2, 4), (2, 4)]
