"""The VideoSAUR encoder: chunks, initial slots, names of the weights, training loss."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pixel_videos import configured, part, videos
from safetensors.torch import load_file, save_file

from ocwm.errors import BenchError
from ocwm_encoders.videosaur_network import Similarity, similarity_target

FULL = Path(__file__).parents[1] / "golden" / "videosaur_full.safetensors"


def slots(*overrides: str) -> torch.Tensor:
    return configured("videosaur", *overrides).encode(videos())[0].latents


def test_a_video_in_chunks_gives_the_slots_of_one_pass() -> None:
    encoder, seen = configured("videosaur"), videos(frames=6)
    whole, _ = encoder.encode(seen)
    parts, carry = [], None
    for low, high in ((0, 1), (1, 4), (4, 6)):
        batch, carry = encoder.encode(part(seen, low, high), carry)
        parts.append(batch.latents)
    assert whole.latents.shape == (2, 6, 3, 16)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole.latents, atol=1e-5, rtol=1e-5)


def test_initial_slots_are_seeded_unless_the_published_way_is_asked_for() -> None:
    assert torch.equal(slots(), slots())
    assert not torch.allclose(slots("seeds.encoder=1"), slots(), atol=1e-4)
    torch.manual_seed(0)
    first = slots("encoder.initial_slots=unseeded")
    torch.manual_seed(0)
    assert not torch.allclose(slots("encoder.initial_slots=unseeded"), first, atol=1e-4)


@pytest.mark.parametrize(
    "switch", ["encoder.resize=bicubic", "encoder.first_iterations=2", "encoder.iterations=1", "encoder.num_slots=2"]
)
def test_switches_matter(switch: str) -> None:
    changed, plain = slots(switch), slots()
    assert changed.shape != plain.shape or not torch.allclose(changed, plain, atol=1e-4)


def test_weights_are_saved_and_loaded_under_the_published_names(tmp_path: Path) -> None:
    published = {name.removeprefix("w.") for name in load_file(FULL) if name.startswith("w.")}
    settings = ("encoder.backbone.num_hidden_layers=12", "encoder.decoder_blocks=3")
    trained = configured("videosaur", *settings, "seeds.encoder=5")
    tensors = trained.network.state_dict()
    assert tensors.keys() == published
    path = tmp_path / "videosaur.safetensors"
    save_file(tensors, path)
    loaded = configured("videosaur", *settings, f"encoder.weights={path}")
    for name, value in loaded.network.state_dict().items():
        assert torch.equal(value, tensors[name])
    assert len(loaded.weights) == 64
    del tensors["encoder.module.backbone.encoder.layer.0.attention.attention.query.weight"]
    save_file(tensors, path)
    with pytest.raises(BenchError, match=r"lacks weight 'encoder\.module\.backbone.*attention\.query\.weight'"):
        _ = configured("videosaur", *settings, f"encoder.weights={path}").network


def test_missing_weights_say_what_to_do() -> None:
    with pytest.raises(BenchError, match=r"'videosaur' has no weights.*encoder\.weights=FILE"):
        configured("videosaur", preset="paper").encode(videos())


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("encoder.image_size=30", "image_size=30 is no multiple of the patch size 14. Choose for example 28"),
        ("encoder.resize=nearest", "resize=nearest"),
        ("encoder.initial_slots=zero", "initial_slots=zero"),
        ("encoder.predictor_heads=3", "predictor_heads=3 does not divide"),
    ],
)
def test_settings_that_cannot_work_are_named(setting: str, named: str) -> None:
    with pytest.raises(BenchError, match=named):
        configured("videosaur", setting).encode(videos())


def test_the_loss_falls_and_the_backbone_stays() -> None:
    encoder = configured("videosaur")
    network = encoder.training_network()
    assert network.training
    assert not network.encoder.module.backbone.training
    before = {name: value.clone() for name, value in network.encoder.module.backbone.state_dict().items()}
    images = encoder.images(videos(frames=3).pixels)
    noise = encoder.draws(torch.arange(2), frame=0)
    optimiser = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=1e-2)
    seen = []
    for _ in range(8):
        terms = network.loss(images, noise=noise)
        optimiser.zero_grad()
        terms["loss"].backward()
        optimiser.step()
        seen.append(terms["loss"].item())
    assert seen[-1] < 0.9 * seen[0]
    torch.testing.assert_close(terms["loss"], terms["loss_featrec"] + 0.3 * terms["loss_timesim"])
    for name, value in network.encoder.module.backbone.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


def test_a_training_starts_from_a_pretrained_backbone(tmp_path: Path) -> None:
    donor = configured("videosaur", "seeds.encoder=7").new_network().encoder.module.backbone
    donor.save_pretrained(tmp_path)
    network = configured("videosaur", f"encoder.pretrained={tmp_path}").training_network()
    for name, value in network.encoder.module.backbone.state_dict().items():
        assert torch.equal(value, donor.state_dict()[name])
    larger = configured("videosaur", f"encoder.pretrained={tmp_path}", "encoder.backbone.num_hidden_layers=3")
    with pytest.raises(BenchError, match=r"lacks weight 'encoder\.layer\.2"):
        larger.training_network()


def test_a_patch_that_is_like_no_other_goes_anywhere() -> None:
    keys = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]], [[-1.0, -0.1], [-1.0, -0.2]]]])
    target = similarity_target(keys, Similarity())
    torch.testing.assert_close(target, torch.full((1, 1, 2, 2), 0.5))
    sharp = similarity_target(keys.abs(), Similarity(temperature=0.01))
    assert sharp[0, 0, 0, 0] > 0.5  # nearer in angle
