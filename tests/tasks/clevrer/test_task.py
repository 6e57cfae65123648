"""The whole task at `tiny`: every method and reference, both protocols, repeats, and settings that can't work."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.tasks.tiny_runs import tiny

from ocwm.artifacts import sha256_of_file
from ocwm.checkpoint import load
from ocwm.errors import BenchError
from ocwm.importing import import_published
from ocwm.run import run
from ocwm.store import Record

LEARNED = ("cjepa", "ocjepa", "slotformer", "ocvp_seq", "ocvp_par", "dino_wm", "dino_wm_reg", "oc_dino_wm")
REFERENCES = ("copy_last", "constant_velocity", "true_future", "no_rollout", "question_only")


def measure(home: Path, method: str, *overrides: str, force: bool = False) -> Record:
    return run(tiny(home, method, "clevrer", *overrides), force=force).record


@pytest.mark.parametrize("method", LEARNED + REFERENCES)
def test_every_method_and_reference_runs(home: Path, method: str) -> None:
    record = measure(home, method)
    measured = set(record.metrics)
    assert "aloe.descriptive.per_question" in measured
    rolls, sees = method not in ("no_rollout", "question_only"), method != "question_only"
    assert ("rollout.position_error.31" in measured) == rolls
    assert ("symbolic.explanatory.per_option" in measured) == sees
    assert record.privileged == ("future" if method == "true_future" else "none")
    share = record.notes["imagined_share"]
    if rolls:
        assert share["aloe.predictive"] > 0
    assert all(share.get(f"aloe.{name}", 0) == 0 for name in ("descriptive", "explanatory", "counterfactual"))
    if method in LEARNED:
        assert [row["step"] for row in record.curves["world_model"]][-1] == 3


def test_every_record_says_what_was_seen_before(home: Path) -> None:
    found = measure(home, "cjepa").notes["leakage"]
    assert (found["train"], found["dev"], found["measured"]) == (6, 3, 3)
    assert found["measured_in_train"] == found["measured_in_dev"] == found["dev_in_train"] == 0
    assert "training videos (probe, ALOE)" in found["scalers"]
    assert "last training step" in found["selection"]
    assert found["encoder"] == "reads states, nothing is trained"
    alone = measure(home, "copy_last", "task.reasoners=[symbolic]").notes["leakage"]
    assert alone["selection"] == "nothing is trained"


def test_the_real_future_is_a_ceiling_and_standing_still_a_floor(home: Path) -> None:
    ceiling, floor = measure(home, "true_future").metrics, measure(home, "copy_last").metrics
    assert ceiling["rollout.position_error.31"]["value"] < 1e-3
    assert ceiling["rollout.slot_error.31"]["value"] == 0
    assert floor["rollout.position_error.1"]["value"] < floor["rollout.position_error.31"]["value"]
    assert floor["rollout.position_error.31"]["value"] > 0.05


def test_a_repeat_gives_the_same_numbers_bit_for_bit(home: Path) -> None:
    first, again = measure(home, "cjepa"), measure(home, "cjepa", force=True)
    assert (first.repeat, again.repeat) == (1, 2)
    assert first.metrics == again.metrics
    assert first.curves == again.curves


def test_another_seed_gives_other_numbers(home: Path) -> None:
    first, other = measure(home, "ocjepa"), measure(home, "ocjepa", "seeds.model=1")
    assert first.id != other.id
    assert first.metrics["rollout.position_error.31"] != other.metrics["rollout.position_error.31"]


def test_outcomes_of_every_question_are_kept(home: Path) -> None:
    record = measure(home, "copy_last")
    assert record.path is not None
    with np.load(record.path.with_name(record.path.name.replace(".json", ".items.npz"))) as items:
        for key in ("symbolic.predictive.per_option", "aloe.descriptive.per_question"):
            assert len(items[key]) == record.metrics[key]["n"]
            assert len(np.unique(items[f"{key}@item"])) == len(items[key])
            assert 100 * items[key].mean() == pytest.approx(record.metrics[key]["value"])


@pytest.mark.parametrize("method", ["cjepa", "copy_last", "true_future", "question_only"])
def test_under_the_imagined_protocol_every_type_sees_the_rollout(home: Path, method: str) -> None:
    record = measure(home, method, "task.protocol=imagined")
    assert record.section["protocol"] == "imagined"
    assert record.notes["excluded_questions"] == 0  # with a prefix after the last entrance nothing is excluded
    if method in ("cjepa", "copy_last"):
        share = record.notes["imagined_share"]
        for name in ("descriptive", "explanatory", "counterfactual"):
            assert share[f"aloe.{name}"] > 0.2


def test_a_short_prefix_excludes_questions_about_later_entrants(home: Path) -> None:
    record = measure(home, "copy_last", "task.protocol=imagined", "task.prefix=12")
    assert record.notes["excluded_questions"] > 0


@pytest.mark.parametrize(
    ("method", "overrides", "named"),
    [
        ("cjepa", ["task.protocol=imagine"], "Did you mean 'imagined'"),
        ("cjepa", ["task.split=tests"], "Did you mean 'test'"),
        ("cjepa", ["task.protocol=imagined", "task.prefix=5"], "task.prefix=5"),
        ("cjepa", ["encoder.num_slots=2"], "encoder.num_slots=2"),
        ("cjepa", ["encoder.slot_dim=8", "method.heads=2"], "encoder.slot_dim=8"),
        ("cjepa", ["task.horizons=[40]"], "task.horizons"),
        ("cjepa", ["task.generator.width=100"], "task.generator.width=100"),
        ("cjepa", ["task.aloe.layer=2"], "layers"),
        ("cjepa", ["trainer.batch_size=100000"], "trainer.batch_size"),
        ("no_rollout", ["task.protocol=imagined"], "has no rollout"),
        ("cjepa", ["task.root=/nowhere/clevrer"], "/nowhere/clevrer"),
    ],
)
def test_settings_that_cannot_work_are_named(home: Path, method: str, overrides: list[str], named: str) -> None:
    with pytest.raises(BenchError, match=named):
        measure(home, method, *overrides)


def test_a_reference_that_reads_the_future_needs_data_that_has_one(home: Path) -> None:
    real = real_data()
    with pytest.raises(BenchError, match="real future"):
        measure(home, "true_future", f"task.root={real}")


def test_a_run_on_real_trajectories(home: Path) -> None:
    # One reasoner for all models, as the small presets have it: on trajectories it reads nothing imagined anyway.
    record = measure(home, "cjepa", f"task.root={real_data()}", "task.horizons=[1,6]", "task.reasoner_train='true'")
    assert record.data["kind"] == "trajectories"
    assert record.metrics["rollout.position_error.6"]["unit"] == "image-plane units"
    assert record.metrics["symbolic.explanatory.per_option"]["value"] > 60
    assert record.notes["imagined_share"]["aloe.explanatory"] == 0
    assert any("too few" in warning for warning in record.warnings)


def real_data() -> Path:
    folder = os.environ.get("OCWM_REAL_DATA")
    if not folder or not (Path(folder) / "clevrer").is_dir():
        pytest.skip("OCWM_REAL_DATA does not name a folder with clevrer/")
    return Path(folder) / "clevrer"


def test_imported_models_are_evaluated_as_they_are(tmp_path: Path) -> None:
    """What a training has made, saved as its authors would, gives the figures of that training again."""
    home = tmp_path / "home"
    trained = measure(home, "slotformer")
    use = []
    for stage, name in (("world_model", "model"), ("aloe", "aloe")):
        (file,) = (home / "cache" / stage).glob(f"*/{name}.safetensors")
        tensors = {key: tensor for key, tensor in load(file).tensors.items() if key != "slot_scale"}
        torch.save({"state_dict": tensors}, tmp_path / f"{name}.pth")
        facts = import_published(tmp_path / f"{name}.pth").facts
        prefix = "task.aloe.trainer." if stage == "aloe" else "trainer."
        use += [f"{prefix}init={facts['output']}", f"{prefix}max_steps=0"]
    evaluated = measure(home, "slotformer", *use)
    assert evaluated.metrics == trained.metrics
    assert evaluated.curves.get("world_model", []) == []
    versions = evaluated.identity["versions"]
    assert versions["aloe_init"] == sha256_of_file(tmp_path / "aloe.aloe.safetensors")[:12]
    assert "init" not in evaluated.identity["config"]["task"]["aloe"]["trainer"]
    with pytest.raises(BenchError, match=r"no weights at task\.aloe\.trainer\.init=absent"):
        measure(home, "slotformer", "task.aloe.trainer.init=absent")
