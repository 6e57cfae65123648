"""Runs on encoders that read videos: embedded data with masks, encoders and data without, stops, refusals, real videos."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.tasks.clevrer.clevrer_files import questions, write_json, write_official
from tests.tasks.tiny_runs import tiny

from ocwm.errors import BenchError
from ocwm.report import run_table
from ocwm.run import run
from ocwm.sections import sections
from ocwm.show import show_facts, show_text
from ocwm.store import Record
from ocwm_encoders.savi import SAVi

SLOTS = {"savi": "encoder.num_slots=6", "videosaur": "encoder.num_slots=6"}


def cell(home: Path, method: str, encoder: str, *overrides: str) -> Any:
    return tiny(home, method, "clevrer", f"encoder={encoder}", *overrides)


def measure(home: Path, method: str, encoder: str, *overrides: str, force: bool = False) -> Record:
    slots = [SLOTS[encoder]] if encoder in SLOTS else []
    return run(cell(home, method, encoder, *slots, *overrides), force=force).record


@pytest.mark.parametrize("encoder", SLOTS)
def test_a_world_model_on_slots_of_videos_is_measured_like_one_on_states(home: Path, encoder: str) -> None:
    record = measure(home, "cjepa", encoder)
    measured = set(record.metrics)
    assert {
        "rollout.position_error.31",
        "rollout.slot_error.31",
        "rollout.collision_f1.all",
        "symbolic.descriptive.per_question",
        "symbolic.counterfactual.per_option",
        "aloe.predictive.per_option",
    } <= measured
    assert (record.encoder, record.encoder_reads, record.section["encoder_reads"]) == (encoder, "pixels", "pixels")
    assert record.identity["versions"]["extraction"] == 1
    quality = record.notes["encoder_quality"]
    assert (quality["videos"], quality["frames"]) == (3, 128)
    assert 0 <= quality["missed"] <= 1
    assert quality["miou"] <= quality["mbo"]
    assert (quality["reconstruction"] is not None) == (encoder == "savi")
    slots = record.notes["slots"]["test"]
    assert slots["frames"] == 3 * 160
    assert slots["frames_per_second"] > 0
    assert record.costs["slots.test"]["frames_per_second"] == slots["frames_per_second"]
    if slots["missed_objects"]:
        assert any("The encoder misses" in warning for warning in record.warnings)
    assert "Encoder quality (3 dev videos of 128 frames)" in run_table(record, [record])


def test_a_repeat_gives_the_same_numbers_bit_for_bit(home: Path) -> None:
    first, again = measure(home, "cjepa", "savi"), measure(home, "cjepa", "savi", force=True)
    assert (first.metrics, first.curves) == (again.metrics, again.curves)
    assert again.costs["slots.train"]["cached"]


@pytest.mark.parametrize("method", ["copy_last", "constant_velocity", "true_future", "no_rollout", "question_only"])
def test_references_stand_beside_it(home: Path, method: str) -> None:
    record = measure(home, method, "savi")
    rolls = method not in ("no_rollout", "question_only")
    assert ("rollout.position_error.31" in record.metrics) == rolls
    assert ("symbolic.descriptive.per_question" in record.metrics) == (method != "question_only")
    assert ("encoder_quality" in record.notes) == (method != "question_only")
    # What happens without an object was simulated, but there are no pictures of it.
    knows_removals = method not in ("question_only", "true_future")
    assert ("symbolic.counterfactual.per_option" in record.metrics) == knows_removals
    if method == "true_future":
        assert record.metrics["rollout.slot_error.31"]["value"] == 0


def test_the_imagined_protocol_and_the_entry_filter_work(home: Path) -> None:
    record = measure(
        home, "ocjepa", "savi", "task.protocol=imagined", "task.reasoner_train=imagined", "task.entry_filter=true"
    )
    assert record.notes["imagined_share"]["aloe.descriptive"] > 0.2


def test_an_encoder_without_masks_gets_slot_errors_only(home: Path) -> None:
    record = measure(home, "cjepa", "dinov2", "task.reasoners=[aloe]")
    measured = set(record.metrics)
    assert {"rollout.slot_error.1", "rollout.slot_error.31", "aloe.descriptive.per_question"} <= measured
    assert not [key for key in measured if "position" in key or "f1" in key or key.startswith("symbolic")]
    assert "an encoder without masks: which object a slot holds is not known" in record.warnings[0]
    assert "encoder_quality" not in record.notes  # nothing can be measured
    assert record.notes["slots"]["dev"]["missed_objects"] is None
    ceiling = measure(home, "true_future", "dinov2", "task.reasoners=[aloe]")
    assert ceiling.metrics["rollout.slot_error.31"]["value"] == 0


def test_tables_keep_pixels_apart_from_states_and_name_the_encoders(home: Path) -> None:
    records = [measure(home, "copy_last", name) for name in ("savi", "videosaur", "state")]
    state, pixels = sections(records)
    assert "state encoder" in state.title
    assert "pixels encoder" in pixels.title
    assert pixels.encoders == ("savi", "videosaur")
    assert [pixels.name_of(row) for row in pixels.rows] == [
        f"copy_last (encoder.num_slots=6) on {name}" for name in ("savi", "videosaur")
    ]


def test_show_names_the_stages_and_what_is_known_of_the_encoder(home: Path) -> None:
    facts = show_facts(cell(home, "cjepa", "savi", SLOTS["savi"]))
    assert {"frames.train", "slots.test", "quality"} <= set(facts["stages"])
    fresh = show_facts(cell(home, "cjepa", "savi", SLOTS["savi"], "task.generator.rendered_train=6"))
    assert "frames.train" not in fresh["stages"]
    assert "frames.dev" in fresh["stages"]
    measure(home, "cjepa", "savi")
    shown = show_text(show_facts(cell(home, "cjepa", "savi", SLOTS["savi"])))
    assert "Encoder quality (3 dev videos" in shown


def test_an_extraction_that_was_stopped_goes_on(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = ["task.generator.train=3", "task.generator.validation=1", "task.generator.test=1", "task.reasoners=[]"]
    setting.append("task.quality_videos=0")
    monkeypatch.setattr("ocwm.encoding.BATCH_VIDEOS", 1)
    measure(home, "cjepa", "savi", *setting)
    segment, calls = SAVi.segment, []

    def stopping(self: SAVi, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 6:  # in the second video
            raise KeyboardInterrupt
        return segment(self, *arguments)

    monkeypatch.setattr(SAVi, "segment", stopping)
    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path, "cjepa", "savi", *setting)
    (work,) = (tmp_path / "work" / "slots.train").iterdir()
    assert len(list(work.glob("batch.*.json"))) == 1
    before = len(calls)
    measure(tmp_path, "cjepa", "savi", *setting)
    assert len(calls) - before == (2 + 1) * 4  # the videos of train and test that are left, in four pieces each
    assert not work.exists()
    for split in ("train", "test"):
        for name in ("latents.npy", "videos.npz"):
            (ours,) = tmp_path.glob(f"cache/slots.{split}/*/{name}")
            assert ours.read_bytes() in {path.read_bytes() for path in home.glob(f"cache/slots.{split}/*/{name}")}


@pytest.mark.parametrize(
    ("method", "encoder", "overrides", "named"),
    [
        ("cjepa", "savi", [], "videos have up to 6 objects, and encoder.num_slots=3 (set it to 6 or more)"),
        ("cjepa", "dinov2", [], "the encoder has no masks of its slots): set task.reasoners=[aloe]"),
        (
            "cjepa",
            "dinov2",
            ["task.protocol=imagined", "task.entry_filter=true"],
            "set task.reasoners=[aloe] task.protocol=published task.entry_filter=false",
        ),
        ("stored_rollout", "savi", [], "set encoder=precomputed"),
        (
            "true_future",
            "savi",
            ["encoder.num_slots=6", "task.protocol=imagined"],
            "re-simulated as states only",
        ),
        (
            "cjepa",
            "dinov2",
            ["task.reasoners=[aloe]", "encoder.image_size=196"],
            "196 tokens a frame make 1,568 tokens of 8 frames for ALOE, whose attention then costs 784 times",
        ),
        ("cjepa", "savi", ["encoder.num_slots=6", "task.quality_videos=-1"], "task.quality_videos=-1"),
    ],
)
def test_what_can_not_work_is_refused_in_one_line(
    method: str, encoder: str, overrides: list[str], named: str, tmp_path: Path
) -> None:
    with pytest.raises(BenchError) as error:
        cell(tmp_path, method, encoder, *overrides)
    assert named in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "cache").exists()


def test_an_image_loss_sees_the_frames_through_the_decoder_of_the_encoder(home: Path) -> None:
    record = measure(home, "slotformer", "savi", "method.image_loss=true")
    curve = record.curves["world_model"]
    assert all(row["loss_images"] > 0 for row in curve)
    assert curve[0]["loss"] == pytest.approx(curve[0]["loss_slots"] + curve[0]["loss_images"], rel=1e-5)
    (images,) = (np.load(path, mmap_mode="r") for path in home.glob("cache/images.train/*/images.npy"))
    assert images.shape == (6, 128, 3, 16, 16)
    assert -1 <= images.min() < images.max() <= 1
    plain = measure(home, "slotformer", "savi")
    assert "loss_images" not in plain.curves["world_model"][0]
    for encoder, setting in (("state", []), ("videosaur", [SLOTS["videosaur"]])):
        with pytest.raises(BenchError, match=r"image_loss=true needs a frozen decoder .* the encoder has none"):
            run(cell(home, "ocvp_seq", encoder, *setting, "method.image_loss=true"))


def test_pooled_patches_are_few_enough(tmp_path: Path) -> None:
    pooled = cell(tmp_path, "cjepa", "dinov2", "task.reasoners=[aloe]", "encoder.image_size=196", "encoder.pool=4")
    assert pooled.encoder.num_slots == 16


def official(root: Path) -> Path:
    """Train videos of which 21 and 24 are dev, and two of validation."""
    write_official(root, indices=(0, 1, 21, 24))
    return write_official(root, indices=(10000, 10001), split="validation")


def test_a_folder_of_videos_without_masks(tmp_path: Path) -> None:
    root = official(tmp_path / "clevrer")
    record = measure(tmp_path, "copy_last", "savi", f"task.root={root}", "task.reasoners=[aloe]")
    assert "rollout.held_back_slot_error.31" in record.metrics
    assert record.metrics["aloe.descriptive.per_question"]["n"] == 2
    assert record.data["kind"] == "official"
    assert "videos without masks: which object a slot holds is not known" in record.warnings[0]
    assert record.notes["slots"]["test"]["frames"] == 2 * 128
    quality = record.notes["encoder_quality"]
    assert quality["miou"] is None
    assert quality["reconstruction"] > 0
    assert "not measured: no masks; reconstruction error" in run_table(record, [record])


def test_what_a_folder_lacks_is_named(tmp_path: Path) -> None:
    root = official(tmp_path / "clevrer")
    ours = f"task.root={root}"

    def refused(method: str, *overrides: str) -> str:
        with pytest.raises(BenchError) as error:
            measure(tmp_path, method, "savi", ours, *overrides)
        return str(error.value)

    assert "(the data has no masks of its objects): set task.reasoners=[aloe]" in refused("cjepa")
    assert "which official data lacks" in refused("cjepa", "task.reasoners=[aloe]", "task.reasoner_train='true'")
    assert "which only embedded data has" in refused("true_future", "task.reasoners=[aloe]")
    write_json(root / "questions" / "validation.json", [questions(10000), questions(10002)])
    missing = refused("copy_last", "task.reasoners=[aloe]")
    assert "1 videos with questions in split 'validation'" in missing
    assert "the first is video 10002" in missing
    for path in (root / "video_validation").rglob("*.mp4"):
        path.unlink()
    lacking = refused("copy_last", "task.reasoners=[aloe]")
    assert "reads videos, and" in lacking
    assert "has none in split 'validation', which test comes from" in lacking


def test_real_videos_are_read(tmp_path: Path) -> None:
    folder = os.environ.get("OCWM_REAL_DATA")
    if not folder or not (Path(folder) / "clevrer").is_dir():
        pytest.skip("OCWM_REAL_DATA does not name a folder with clevrer/")
    real = sorted((Path(folder) / "clevrer").glob("video_*/*/*.mp4"))
    root = tmp_path / "clevrer"
    for source, (split, index) in zip(real, (("train", 0), ("train", 21), ("validation", 10000)), strict=False):
        path = root / f"video_{split}" / f"video_{index:05d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(source)
        write_json(root / "questions" / f"{split}.json", [questions(index)])
    write_json(root / "questions" / "train.json", [questions(0), questions(21)])
    record = measure(
        tmp_path,
        "copy_last",
        "savi",
        "encoder.weights=random",
        f"task.root={root}",
        "task.reasoners=[aloe]",
        "task.aloe.trainer.batch_size=1",
    )
    assert record.metrics["aloe.descriptive.per_question"]["n"] == 1
    (latents,) = tmp_path.glob("cache/slots.test/*/latents.npy")
    slots = np.load(latents)
    assert slots.shape == (1, 128, 6, 16)
    assert np.isfinite(slots).all()
    assert slots.std(axis=1).mean() > 0
