"""The SAVi encoder: chunks, draws, switches, weights, training loss."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pixel_videos import configured, part, videos
from safetensors.torch import save_file

from ocwm.errors import BenchError
from ocwm.types import Observations
from ocwm_encoders.frames import prepare
from ocwm_encoders.savi import SAVi
from ocwm_encoders.savi_network import StoSAVi


def slots(*overrides: str, observations: Observations | None = None) -> torch.Tensor:
    return configured("savi", *overrides).encode(observations or videos())[0].latents


@pytest.mark.parametrize("stochastic", ["true", "false"])
def test_a_video_in_chunks_gives_the_slots_of_one_pass(stochastic: str) -> None:
    encoder, seen = configured("savi", f"encoder.stochastic={stochastic}"), videos(frames=7)
    whole, last = encoder.encode(seen)
    parts, carry = [], None
    for low, high in ((0, 1), (1, 4), (4, 7)):
        batch, carry = encoder.encode(part(seen, low, high), carry)
        parts.append(batch.latents)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole.latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(carry.slots, last.slots, atol=1e-5, rtol=1e-5)
    assert carry.frame == last.frame == 7
    assert whole.latents.shape == (2, 7, 3, 16)
    assert whole.present is not None
    assert whole.present.all()


def test_long_videos_go_through_the_network_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = slots()
    monkeypatch.setattr("ocwm_encoders.pixel_encoder._FRAMES_PER_CALL", 4)
    torch.testing.assert_close(slots(), whole, atol=1e-5, rtol=1e-5)


def test_draws_depend_on_seed_video_and_frame_only() -> None:
    assert torch.equal(slots(), slots())
    torch.testing.assert_close(slots(observations=videos(count=1)), slots()[:1], atol=1e-5, rtol=1e-5)
    encoder = configured("savi")
    ids = torch.tensor([3, 4])
    assert torch.equal(encoder.draws(ids, frame=2)[1:], encoder.draws(ids[1:], frame=2))
    assert not torch.equal(encoder.draws(ids, frame=2), encoder.draws(ids, frame=3))
    assert not torch.equal(encoder.draws(ids[:1], frame=2), encoder.draws(ids[1:], frame=2))
    state = torch.get_rng_state()
    assert configured("savi", "seeds.encoder=1").encode(videos())[0].latents.isfinite().all()
    assert torch.equal(torch.get_rng_state(), state)  # neither initialisation nor draws touch the global generator


@pytest.mark.parametrize(
    "switch",
    ["encoder.stochastic=false", "encoder.channel_order=bgr", "encoder.antialias=false", "seeds.encoder=1"],
)
def test_switches_matter(switch: str) -> None:
    assert not torch.allclose(slots(switch), slots(), atol=1e-4)


def test_bgr_swaps_red_and_blue() -> None:
    seen = videos()
    assert seen.pixels is not None
    turned = Observations(ids=seen.ids, pixels=seen.pixels.flip(2))
    torch.testing.assert_close(slots("encoder.channel_order=bgr", observations=turned), slots(observations=seen))


@pytest.mark.parametrize(("key", "antialias"), [("plain", False), ("antialias", True)])
def test_frames_are_prepared_as_published(key: str, antialias: bool) -> None:
    frames = torch.randint(0, 256, (1, 2, 3, 96, 144), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    ours = prepare(frames, size=(64, 64), normalisation="half", antialias=antialias)
    scaled = (frames[0].float() / 255 - 0.5) / 0.5
    theirs = torch.nn.functional.interpolate(scaled, (64, 64), mode="bilinear", antialias=antialias)
    torch.testing.assert_close(ours[0], theirs, atol=1e-6, rtol=0)


def test_the_published_network_has_the_published_size() -> None:
    network = SAVi().new_network()
    assert sum(p.numel() for p in network.parameters()) == 1_198_980
    assert network.init_latents.shape == (1, 7, 128)


@pytest.mark.parametrize("preset", ["smoke", "mini", "standard"])
def test_the_small_presets_fit_together(preset: str) -> None:
    encoder = configured("savi", "encoder.weights=random", preset=preset)
    latents = encoder.encode(videos(count=1, frames=1))[0].latents
    assert latents.shape == (1, 1, encoder.num_slots, encoder.slot_dim)
    assert encoder.network.decode(latents[:, 0]).image.shape[-2:] == encoder.resolution


def test_the_first_convolution_halves_large_frames() -> None:
    network = StoSAVi(resolution=(128, 128), encoder_channels=(3, 4), decoder_channels=(128, 4, 4, 4, 4))
    assert network.features(torch.zeros(1, 3, 128, 128)).shape == (1, 64 * 64, 128)
    with pytest.raises(ValueError, match=r"\(64, 64\), not \(128, 128\)"):
        network.features(torch.zeros(1, 3, 64, 64))


def test_weights_are_read_from_a_file(tmp_path: Path) -> None:
    trained = configured("savi", "seeds.encoder=5")
    path = tmp_path / "savi.safetensors"
    save_file(trained.network.state_dict(), path)
    loaded = configured("savi", f"encoder.weights={path}", "encoder.stochastic=false")
    wanted = configured("savi", "seeds.encoder=5", "encoder.stochastic=false").encode(videos())[0]
    assert torch.equal(loaded.encode(videos())[0].latents, wanted.latents)
    assert len(loaded.weights) == 64
    assert trained.weights == ""


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    tensors = configured("savi").network.state_dict()
    save_file({name: value for name, value in tensors.items() if name != "init_latents"}, path)
    with pytest.raises(BenchError, match="lacks weight 'init_latents'"):
        configured("savi", f"encoder.weights={path}").encode(videos())
    path.write_bytes(b"no tensors here")
    with pytest.raises(BenchError, match=r"other.safetensors is no whole safetensors file"):
        configured("savi", f"encoder.weights={path}").encode(videos())


def test_missing_weights_say_what_to_do() -> None:
    encoder = configured("savi", preset="mini")
    for use in (lambda: encoder.weights, lambda: encoder.encode(videos())):
        with pytest.raises(BenchError, match=r"'savi' has no weights.*encoder\.weights=FILE"):
            use()
    with pytest.raises(BenchError, match=r"no weights for the encoder 'savi' at /nowhere/x"):
        _ = configured("savi", "encoder.weights=/nowhere/x").weights


def test_wrong_frames_are_named() -> None:
    encoder = configured("savi")
    ids = torch.tensor([0])
    with pytest.raises(BenchError, match="needs frames"):
        encoder.encode(Observations(ids=ids, state=torch.zeros(1, 2, 3, 4)))
    for pixels in (torch.zeros(1, 2, 8, 8, 3, dtype=torch.uint8), torch.zeros(1, 2, 3, 8, 8), torch.zeros(2, 3, 8, 8)):
        with pytest.raises(BenchError, match=r"got frames of shape .* height, width\), uint8, RGB"):
            encoder.encode(Observations(ids=ids, pixels=pixels))
    with pytest.raises(BenchError, match="got no frames"):
        encoder.encode(Observations(ids=ids, pixels=torch.zeros(1, 0, 3, 8, 8, dtype=torch.uint8)))


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("encoder.channel_order=grb", "channel_order=grb"),
        ("encoder.decoder_resolution=[4,4]", "8 x 8 images of 4 x 4 maps, not 16 x 16"),
        ("encoder.decoder_channels=[8,8]", "decoder_channels starts with 8"),
        ("encoder.resolution=[16]", "must be \\[height, width\\]"),
    ],
)
def test_settings_that_cannot_work_are_named(setting: str, named: str) -> None:
    with pytest.raises(BenchError, match=named):
        configured("savi", setting).encode(videos())


def test_the_loss_falls_and_its_parts_add_up() -> None:
    encoder = configured("savi")
    network = encoder.new_network()
    images = encoder.images(videos(frames=3).pixels)
    noise = torch.randn(2, 3, 3, 16, generator=torch.Generator().manual_seed(2))
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    seen = []
    for _ in range(8):
        terms = network.loss(images, noise=noise)
        optimiser.zero_grad()
        terms["loss"].backward()
        optimiser.step()
        seen.append(terms["loss"].item())
    assert seen[-1] < 0.9 * seen[0]
    torch.testing.assert_close(terms["loss"], terms["post_recon_loss"] + 1e-4 * terms["kld_loss"])
    unused = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is None}
    assert unused == {"prior_slot_layer"}
    network.stochastic = False
    assert network.loss(images)["kld_loss"] == 0


@pytest.mark.parametrize("name", ["savi", "videosaur"])
def test_masks_come_with_the_slots_of_encode(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocwm_encoders.savi._FRAMES_PER_DECODE", 3)
    encoder, seen = configured(name), videos(frames=7)
    latents, masks, carry = encoder.segment(part(seen, 0, 4))
    later, more, _ = encoder.segment(part(seen, 4, 7), carry)
    whole = encoder.encode(seen)[0].latents
    torch.testing.assert_close(torch.cat([latents.latents, later.latents], dim=1), whole, atol=1e-5, rtol=1e-5)
    side = {"savi": 16, "videosaur": 2}[name]
    assert encoder.segments
    assert masks.shape == (2, 4, 3, side, side)
    torch.testing.assert_close(torch.cat([masks, more], dim=1).sum(dim=2), torch.ones(2, 7, side, side))
    # Each slot's own mask: with the slots in another order they come in that order.
    network = encoder.network
    decode = (lambda s: network.decode(s).masks) if name == "savi" else (lambda s: network.decoder.module(s)[1])
    order = torch.tensor([2, 0, 1])
    turned = decode(latents.latents[:, 1][:, order]).view(2, 3, side, side)
    torch.testing.assert_close(turned, masks[:, 1][:, order], atol=1e-5, rtol=1e-4)


def test_slots_are_decoded_into_the_frames_that_the_network_sees() -> None:
    encoder, seen = configured("savi"), videos()
    assert encoder.decodes
    slots_BTND = encoder.encode(seen)[0].latents
    decoded, wanted = encoder.decoder().decode(slots_BTND), encoder.target_images(seen.pixels)
    assert decoded.shape == wanted.shape == (2, 5, 3, 16, 16)
    single = encoder.network.decode(slots_BTND[1, 3:4]).image[0]
    torch.testing.assert_close(decoded[1, 3], single, atol=1e-5, rtol=1e-4)
    assert not configured("videosaur").decodes
    assert not configured("dinov2").segments
