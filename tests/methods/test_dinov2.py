"""The DINOv2 encoders: tokens, switches, where weights are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pixel_videos import configured, part, videos

from ocwm.errors import BenchError
from ocwm_encoders.backbone import build_backbone, rename, resize_positions_as_hub

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "mlp_ratio": 2,
    "image_size": 70,
    "patch_size": 14,
}
BOTH = pytest.mark.parametrize("name", ["dinov2", "dinov2_registers"])


def tokens(name: str, *overrides: str) -> torch.Tensor:
    return configured(name, *overrides).encode(videos())[0].latents


@BOTH
def test_patch_tokens_of_a_frame_depend_on_that_frame_only(name: str) -> None:
    encoder, seen = configured(name), videos(frames=4)
    whole, carry = encoder.encode(seen)
    assert carry is None
    assert whole.latents.shape == (2, 4, encoder.num_slots, encoder.slot_dim) == (2, 4, 4, 16)
    alone, _ = encoder.encode(part(seen, 2, 3))
    torch.testing.assert_close(alone.latents, whole.latents[:, 2:3], atol=1e-5, rtol=1e-5)
    assert encoder.weights == ""
    assert torch.equal(tokens(name), tokens(name))


@BOTH
def test_switches_matter(name: str) -> None:
    other = {"dinov2": "imagenet", "dinov2_registers": "half"}[name]
    assert not torch.allclose(tokens(name, f"encoder.pixel_normalisation={other}"), tokens(name), atol=1e-4)
    assert not torch.allclose(tokens(name, "seeds.encoder=1"), tokens(name), atol=1e-4)


def test_the_two_ways_to_resize_positions_differ() -> None:
    plain = tokens("dinov2")
    assert not torch.allclose(tokens("dinov2", "encoder.position_resize=transformers"), plain, atol=1e-6)
    same = ("encoder.image_size=70",)  # the table's own size: nothing to resize
    torch.testing.assert_close(
        tokens("dinov2", *same), tokens("dinov2", *same, "encoder.position_resize=transformers"), atol=1e-6, rtol=1e-6
    )


def test_the_hub_reads_a_linear_table_a_little_earlier() -> None:
    backbone = build_backbone({**SIZES, "image_size": 37 * 14})
    ramp = torch.arange(37.0).repeat(37, 1)
    with torch.no_grad():
        backbone.embeddings.position_embeddings[0, 1:, 0] = ramp.flatten()
    resize_positions_as_hub(backbone, 14)
    table = backbone.embeddings.position_embeddings
    assert table.shape == (1, 1 + 14 * 14, 16)
    columns = table[0, 1:, 0].view(14, 14)[0]
    hub, library = (((torch.arange(14) + 0.5) * 37 / length - 0.5)[6:12] for length in (14.1, 14.0))
    # torch's cubic kernel is off by up to 0.05 on a line; the two rules are 0.12 to 0.22 apart here.
    torch.testing.assert_close(columns[6:12], hub, atol=0.055, rtol=0)
    assert ((columns[6:12] - library).abs() > 0.06).all()


def test_class_token_and_registers_are_left_out() -> None:
    encoder = configured("dinov2_registers")
    seen = videos(count=1, frames=1)
    latents = encoder.encode(seen)[0].latents
    from ocwm_encoders.frames import prepare

    images = prepare(seen.pixels, size=(28, 28), normalisation="imagenet", antialias=True)
    with torch.no_grad():
        every = encoder.network(images[0]).last_hidden_state
    assert every.shape[1] == 1 + 4 + 4
    torch.testing.assert_close(latents[0], every[:, 5:])


@BOTH
def test_a_folder_of_weights_is_used_wherever_it_lies(name: str, tmp_path: Path) -> None:
    saved = configured(name, "seeds.encoder=3")
    built = build_backbone(SIZES, registers=name == "dinov2_registers")
    built.save_pretrained(tmp_path)
    encoder = configured(name, f"encoder.weights={tmp_path}")
    assert (encoder.num_slots, encoder.slot_dim) == (4, 16)
    assert len(encoder.weights) == 64
    latents = encoder.encode(videos())[0].latents
    assert latents.shape == saved.encode(videos())[0].latents.shape
    again = configured(name, f"encoder.weights={tmp_path}").encode(videos())[0].latents
    assert torch.equal(again, latents)
    other = {"dinov2": "dinov2_registers", "dinov2_registers": "dinov2"}[name]
    with pytest.raises(BenchError, match="holds a 'dinov2"):
        configured(other, f"encoder.weights={tmp_path}").encode(videos())
    (tmp_path / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(BenchError, match="can't load the DINOv2"):
        configured(name, f"encoder.weights={tmp_path}").encode(videos())
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(BenchError, match=r"lacks model\.safetensors"):
        _ = configured(name, f"encoder.weights={tmp_path}").weights


@BOTH
def test_missing_weights_say_where_to_put_them(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    encoder = configured(name, preset="paper")
    message = r"not on this machine, and it is set to work offline.*hf download facebook/dino.*encoder\.weights=FOLDER"
    with pytest.raises(BenchError, match=message):
        _ = encoder.weights
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("ocwm_encoders.backbone_files._reachable", lambda _: False)
    with pytest.raises(BenchError, match="does not answer"):
        configured(name, preset="paper").encode(videos())
    with pytest.raises(BenchError, match=r"no folder at .*nowhere.*encoder\.weights=FOLDER"):
        _ = configured(name, f"encoder.weights={tmp_path}/nowhere").weights


def test_a_hub_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from ocwm_encoders import backbone_files

    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    asked = []

    def refuse(_request: object, *, timeout: float) -> None:
        asked.append(timeout)
        raise TimeoutError

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    assert not backbone_files._reachable("facebook/dinov2-small")
    assert asked == [5]


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("encoder.image_size=30", "image_size=30 is no multiple"),
        ("encoder.pixel_normalisation=none", "pixel_normalisation=none"),
        ("encoder.position_resize=timm", "position_resize=timm"),
    ],
)
def test_settings_that_cannot_work_are_named(setting: str, named: str) -> None:
    with pytest.raises(BenchError, match=named):
        _ = configured("dinov2", setting).num_slots


def test_a_random_network_needs_sizes() -> None:
    with pytest.raises(BenchError, match=r"encoder\.random_sizes lacks hidden_size and patch_size"):
        _ = configured("dinov2", "encoder.weights=random", preset="paper").slot_dim


def test_names_of_either_transformers_are_understood() -> None:
    old = "encoder.layer.3.attention.attention.query.weight"
    new = "encoder.layer.3.attention.q_proj.weight"
    for known in (old, new):
        assert rename([old], known=[known]) == {old: known}
        assert rename([new], known=[known]) == {new: known}
    assert rename(["strange"], known=[new]) == {"strange": "strange"}


def test_pooled_patches_are_the_means_of_the_cells() -> None:
    sizes = ["encoder.image_size=56", "encoder.position_resize=transformers"]
    seen = videos(frames=3)
    plain, pooled = configured("dinov2", *sizes), configured("dinov2", *sizes, "encoder.pool=2")
    assert (plain.num_slots, pooled.num_slots) == (16, 4)
    every, few = (one.encode(seen)[0] for one in (plain, pooled))
    assert few.latents.shape == (2, 3, 4, 16)
    assert few.present is not None
    assert few.present.shape == (2, 4)
    grid = every.latents.view(2, 3, 4, 4, 16)
    torch.testing.assert_close(few.latents[:, :, 1], grid[:, :, :2, 2:].mean(dim=(2, 3)), atol=1e-5, rtol=1e-4)
    one = configured("dinov2_registers", "encoder.image_size=56", "encoder.pool=1")
    assert one.encode(seen)[0].latents.shape == (2, 3, 1, 16)
    with pytest.raises(BenchError, match=r"encoder.pool=5, and there are 4 x 4 patches"):
        _ = configured("dinov2", *sizes, "encoder.pool=5").num_slots
