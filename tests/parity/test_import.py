"""`bench import`: what is imported from files like the published ones reproduces the published outputs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from stand_ins import PACKAGE, foreign, pickled_module, save
from test_vectors import CHECKS
from torch import Tensor

from golden import Golden, golden_folder
from ocwm.config import compose, instantiate
from ocwm.errors import BenchError
from ocwm.importing import import_published
from ocwm.types import Observations
from ocwm_tasks.clevrer.aloe.network import Aloe, AloeSizes
from ocwm_tasks.clevrer.aloe.reasoner import AloeConfig, AloeReasoner

Weights = Mapping[str, Tensor]


def weights(name: str) -> dict[str, Tensor]:
    return Golden.load(golden_folder(), name).weights


def trained(state: Weights) -> dict[str, Any]:
    """What the trainer of SAVi, SlotFormer and ALOE saves on several GPUs."""
    return {
        "state_dict": {f"module.{name}": tensor for name, tensor in state.items()},
        "opt_state_dict": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]},
        "it": 7,
        "epoch": 2,
        "scheduler_state_dict": {"last_epoch": 2},
        "scheduler_method": "warmup",
        "grad_scaler": {"scale": 65536.0},
    }


def lightning(state: Weights) -> dict[str, Any]:
    return {
        "epoch": 1,
        "pytorch-lightning_version": "2.1.0",
        "state_dict": dict(state),
        "loops": {"fit_loop": {}},
        "optimizer_states": [{"state": {}, "param_groups": []}],
        "hyper_parameters": foreign("DictConfig", _content={"slots": 7}),
    }


def ocvp(state: Weights) -> dict[str, Any]:
    return {
        "epoch": 3,
        "model_state_dict": dict(state),
        "optimizer_state_dict": {"state": {}, "param_groups": []},
        "lr_warmup": foreign("LRWarmUp", step=3),
    }


def baseline(state: Weights) -> dict[str, Any]:
    return {"epoch": 3, "predictor_state_dict": dict(state), "config": {"lr": 1e-4}}


def without_predictor(state: Weights) -> dict[str, Tensor]:
    return {name.removeprefix("predictor."): tensor for name, tensor in state.items()}


def modules(state: Weights) -> dict[str, Any]:
    """DINO-WM's dict of pickled modules; `bias` of an attention is a plain attribute there."""
    parts = ("predictor", "action_encoder", "proprio_encoder")
    content: dict[str, Any] = {"epoch": 99}
    for part in parts:
        own = {name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(f"{part}.")}
        content[part] = pickled_module(own, name=part)
        content[f"{part}_optimizer"] = foreign("AcceleratedOptimizer", optimizer={"state": {0: torch.zeros(2)}})
    content["predictor"].get_submodule("transformer.layers.0.0").bias = torch.ones(1, 1, 2, 2)
    content["decoder"] = pickled_module({"dec.blocks.0.weight": torch.zeros(2, 2), "quantize_b.embed": torch.ones(2)})
    return content


def object_with_masks(state: Weights) -> Any:
    """The training object of stable-worldmodel: a module around the model, with the masks as buffers."""
    whole = {f"model.{name}": tensor for name, tensor in state.items()}
    whole["model.predictor.transformer.layers.0.0.bias"] = torch.ones(1, 1, 12, 12)
    whole["model.backbone.backbone.embeddings.cls_token"] = torch.zeros(1, 1, 4)
    return pickled_module(whole, buffers=("0.0.bias",))


PREDICTOR = "predictor."
CASES: dict[str, tuple[str, str, Callable[[Weights], Any], str]] = {
    "savi": ("savi", "savi_encode", trained, ""),
    "savi, decoder": ("savi", "savi_decode", trained, ""),
    "videosaur": ("videosaur", "videosaur_full", lightning, ""),
    "slotformer": ("slotformer", "slotformer_unroll", trained, ""),
    "aloe": ("aloe", "aloe_forward", trained, ""),
    "ocvp_seq": ("ocvp", "ocvp_seq", ocvp, ""),
    "ocvp_par": ("ocvp", "ocvp_par", lambda state: ocvp(without_predictor(state)), ""),
    "ocvp of C-JEPA": ("ocvp", "ocvp_seq", baseline, ""),
    "dino_wm": ("dino_wm", "dinowm_world", modules, ""),
    "dino_wm, tokens": ("dino_wm", "dinowm_world_tokens", modules, ""),
    "dino_wm, object": ("dino_wm", "dinowm_world", object_with_masks, ""),
    "cjepa": ("cjepa", "cjepa_predictor", dict, PREDICTOR),
    "cjepa, rollout": ("cjepa", "cjepa_clevrer_rollout", dict, PREDICTOR),
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_imported_weights_reproduce_the_vector(tmp_path: Path, case: str, legacy: bool) -> None:
    kind, vector, nest, prefix = CASES[case]
    golden = Golden.load(golden_folder(), vector)
    path = save(tmp_path / "model.pth", nest(golden.weights), legacy=legacy)
    report = import_published(path)
    assert report.facts["kind"] == kind
    assert PACKAGE not in sys.modules
    imported = load_file(report.facts["output"])
    assert report.facts["parameters"] == sum(tensor.numel() for tensor in imported.values())
    others = {name: tensor for name, tensor in golden.tensors.items() if not name.startswith("w.")}
    renamed = {f"w.{name.removeprefix(prefix)}": tensor for name, tensor in imported.items()}
    again = Golden(golden.name, golden.meta, {**others, **renamed})
    CHECKS[vector](again)  # loads strictly, compares every output
    assert not again.unchecked()


def reasons(facts: Mapping[str, Any]) -> dict[str, str]:
    return {name: one["reason"] for one in facts["dropped"] for name in one["names"]}


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    facts = import_published(save(tmp_path / "a.pth", trained(weights("slotformer_rollout")))).facts
    found = reasons(facts)
    assert "optimiser" in found["opt_state_dict"]
    assert "progress" in found["epoch"]
    assert "SAVi" in found["decoder.0.0.weight"]
    assert not any(name.startswith("rollouter.") for name in found)
    assert facts["sizes"] == {"slot_dim": 12, "history_frames": 4, "width": 24, "depth": 2, "mlp_dim": 48}
    report = import_published(save(tmp_path / "b.pth", modules(weights("dinowm_world"))))
    found = reasons(report.facts)
    assert "optimiser" in found["predictor_optimizer"]
    assert "decoder" in found["decoder.dec.blocks.0.weight"]
    assert f"{PACKAGE}.AcceleratedOptimizer" in report.facts["foreign_classes"]
    assert f"{PACKAGE}.predictor" in report.text
    assert "read as plain data" in report.text


def test_the_world_model_of_push_t_is_read_out_of_its_object(tmp_path: Path) -> None:
    model = weights("cjepa_ap_train")
    videosaur = weights("videosaur_full")
    whole = {f"model.{name}": tensor for name, tensor in model.items()}
    whole |= {
        "model."
        + name.replace("initializer.", "initializer.backbone.")
        .replace("encoder.module.", "encoder.backbone.module.", 1)
        .replace("processor.module.", "slot_attention.backbone.module.", 1): tensor
        for name, tensor in videosaur.items()
        if not name.startswith("decoder.")
    }
    path = save(tmp_path / "pusht_epoch_30_object.ckpt", pickled_module(whole))
    report = import_published(path)
    assert report.facts["kind"] == "cjepa"
    same(load_file(report.facts["output"]), model)
    assert report.facts["sizes"]["action_dim"] == 10
    assert report.facts["assumed"]["history_frames + pred_frames"] == "3 + 1"
    assert "--as videosaur" in reasons(report.facts)["slot_attention.backbone.module.corrector.to_k.weight"]

    encoder = import_published(path, kind="videosaur")
    assert encoder.facts["output"] != report.facts["output"]
    same(load_file(encoder.facts["output"]), {n: t for n, t in videosaur.items() if not n.startswith("decoder.")})
    golden = Golden.load(golden_folder(), "videosaur_full")
    use = [text.strip("'") for text in encoder.facts["use"]]
    assert "encoder.with_decoder=false" in use
    heads = f"encoder.backbone.num_attention_heads={golden.config['backbone']['heads']}"
    built = configured(*use, heads, "encoder.image_size=42")
    with torch.no_grad():
        states = built.network.encode(golden["in.video"], built.network.initializer(golden["in.initializer_noise"]))
    golden.compare("out.state", states.state)
    with pytest.raises(BenchError, match="no decoder"):
        built.network.decode(states.state)


def same(found: Weights, expected: Weights) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def configured(*overrides: str) -> Any:
    """Build an encoder from the overrides that a report gives."""
    return instantiate(compose(method="cjepa", task="clevrer", preset="paper", overrides=overrides).values.encoder)


def test_new_names_of_the_backbone_become_the_published_ones(tmp_path: Path) -> None:
    old = weights("videosaur_full")
    new = {
        name.replace("attention.attention.query", "attention.q_proj")
        .replace("attention.attention.key", "attention.k_proj")
        .replace("attention.attention.value", "attention.v_proj")
        .replace("attention.output.dense", "attention.o_proj"): tensor
        for name, tensor in old.items()
    }
    assert new.keys() != old.keys()
    facts = import_published(save(tmp_path / "new.ckpt", lightning(new))).facts
    same(load_file(facts["output"]), old)


def test_the_overrides_of_the_report_build_the_encoder(tmp_path: Path) -> None:
    golden = Golden.load(golden_folder(), "savi_encode")
    facts = import_published(save(tmp_path / "a.pth", trained(golden.weights))).facts
    encoder = configured(*(text.strip("'") for text in facts["use"]), "encoder.stochastic=false")
    frames = golden["in.img_uint8"]
    latents, _ = encoder.encode(Observations(ids=torch.arange(len(frames)), pixels=frames))
    golden.compare("out.post_slots", latents.latents)
    assert encoder.weights == facts["sha256"]


@pytest.mark.parametrize("case", ["slotformer", "ocvp_seq", "ocvp_par", "dino_wm", "dino_wm, tokens", "cjepa"])
def test_the_overrides_of_the_report_are_those_of_a_run(tmp_path: Path, case: str) -> None:
    _, vector, nest, _ = CASES[case]
    facts = import_published(save(tmp_path / "a.pth", nest(weights(vector)))).facts
    flag, method, *overrides = facts["use"]
    assert flag == "--method"
    values = compose(method=method, task="clevrer", overrides=overrides).values
    assert values.trainer.init == facts["output"]
    assert values.trainer.max_steps == 0
    assert values.method.depth == facts["sizes"]["depth"]


def test_a_reasoner_of_the_published_vocabulary_can_be_evaluated(tmp_path: Path) -> None:
    network = Aloe(AloeSizes(layers=2, head_dim=14, heads=2, word_dim=10, num_slots=7, frames=8, slot_dim=24))
    facts = import_published(save(tmp_path / "model_400.pth", trained(network.state_dict()))).facts
    assert facts["assumed"]["frames"] == 8
    overrides = [text.strip("'") for text in facts["use"]]
    values = compose(method="slotformer", task="clevrer", overrides=overrides).values
    aloe = AloeConfig.of(OmegaConf.to_container(values.task.aloe))
    again = AloeReasoner(aloe, num_slots=7, slot_dim=24)
    again.load(Path(facts["output"]))
    same(again.network.state_dict(), network.state_dict())
    assert again.trainer.max_steps == 0
    odd = trained(weights("aloe_forward"))
    assert import_published(save(tmp_path / "odd.pth", odd)).facts["use"] == []


def test_half_precision_keeps_its_values_and_tied_tensors_are_stored_apart(tmp_path: Path) -> None:
    state = weights("cjepa_predictor")
    state = {name: tensor.to(torch.bfloat16 if "bias" in name else torch.float16) for name, tensor in state.items()}
    flat = torch.arange(512, dtype=torch.float16)
    state["id_projector.weight"], state["to_out.weight"] = flat[:256].view(16, 16), flat[256:].view(16, 16).T
    facts = import_published(save(tmp_path / "half.ckpt", state)).facts
    found = load_file(facts["output"])
    for name, tensor in state.items():
        assert found[f"predictor.{name}"].dtype is torch.float32
        assert torch.equal(found[f"predictor.{name}"], tensor.float())
    assert facts["types"] == {
        "float16": sum("bias" not in name for name in state),
        "bfloat16": sum("bias" in n for n in state),
    }
    assert any("1 tensors share memory" in note for note in facts["notes"])


def test_another_architecture_is_named(tmp_path: Path) -> None:
    savi = save(tmp_path / "savi.pth", trained(weights("savi_encode")))
    with pytest.raises(BenchError, match="looks like a checkpoint of savi, and you asked for --as slotformer"):
        import_published(savi, kind="slotformer")
    with pytest.raises(BenchError, match="Did you mean 'slotformer'"):
        import_published(savi, kind="slotfromer")
    with pytest.raises(BenchError, match="--as slots reads plain pickles"):
        import_published(savi, kind="slots")
    unknown = save(tmp_path / "other.pth", {"conv.weight": torch.zeros(3)})
    with pytest.raises(BenchError, match=r"1 tensors of no known architecture: 'conv\.weight'.*Known to --as: aloe"):
        import_published(unknown)
    assert list(tmp_path.glob("*.safetensors")) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("predictor.ln.weight"), "missing 'predictor.ln.weight'"),
        (lambda s: s.update({"extra.weight": torch.zeros(2)}), "unexpected 'extra.weight'"),
        (
            lambda s: s.update({"predictor.ln.bias": torch.zeros(3)}),
            "wrong shape 'predictor.ln.bias' \\(3,\\) instead of",
        ),
        (lambda s: s.pop("init_latents"), "lacks 'init_latents'"),
        (
            lambda s: s.update({"init_latents": torch.zeros(4, 16)}),
            "'init_latents' is \\(4, 16\\), which has not 3 axes",
        ),
    ],
)
def test_what_does_not_fit_exactly_is_refused(tmp_path: Path, change: Callable[[Any], None], message: str) -> None:
    state = weights("savi_encode")
    change(state)
    with pytest.raises(BenchError, match=message):
        import_published(save(tmp_path / "savi.pth", {"state_dict": state}))
    assert list(tmp_path.glob("*.safetensors")) == []


def test_the_order_of_the_colours_is_seen_from_frames(tmp_path: Path) -> None:
    """Weights whose decoder paints everything red: the frames fit the order in which they are red."""
    state = weights("savi_encode")
    for name in state:
        if name.startswith("decoder.") and name.endswith("weight"):
            state[name] = torch.zeros_like(state[name])
    state["decoder.4.bias"] = torch.tensor([1.0, -1.0, -1.0, 0.0])
    path = save(tmp_path / "savi.pth", {"state_dict": state})
    for colour, fits in ((0, "rgb"), (2, "bgr")):
        folder = tmp_path / fits
        write_frames(folder, colour)
        report = import_published(path, force=True, check=folder)
        colours = report.facts["colour_order"]
        assert colours["fits"] == fits
        assert colours["errors"][fits] < 0.01 < min(e for order, e in colours["errors"].items() if order != fits)
        assert ("encoder.channel_order=bgr" in report.facts["use"]) == (fits == "bgr")
        assert ("WARNING" in report.text) == (fits == "bgr")
    write_frames(tmp_path / "grey", None)
    report = import_published(path, force=True, check=tmp_path / "grey")
    assert report.facts["colour_order"]["fits"] is None
    cjepa = save(tmp_path / "cjepa.ckpt", weights("cjepa_predictor"))
    with pytest.raises(BenchError, match="can't reconstruct frames"):
        import_published(cjepa, check=tmp_path / "grey")


def write_frames(folder: Path, colour: int | None) -> None:
    import cv2

    folder.mkdir()
    frame = np.zeros((20, 30, 3), np.uint8)
    if colour is None:
        frame[:] = 128
    else:
        frame[..., 2 - colour] = 255  # OpenCV writes BGR
    for number in range(3):
        assert cv2.imwrite(str(folder / f"{number:03d}.png"), frame)


def test_facts_are_json(tmp_path: Path) -> None:
    for name, (_, vector, nest, _) in CASES.items():
        path = save(tmp_path / f"{name}.pth", nest(weights(vector)))
        json.dumps(dict(import_published(path).facts))
