"""Slots that exist already, through the command line: trained on, rolled out, asked about; and what can't work."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tasks.clevrer.clevrer_files import questions, write_json

from ocwm.cli import main
from ocwm.errors import BenchError
from ocwm.types import Observations
from ocwm_tasks.clevrer.precomputed import PrecomputedSlots
from ocwm_tasks.clevrer.slots_store import convert

SLOTS, WIDTH = 3, 16
TRAIN, VALIDATION = (0, 1, 2, 3, 4, 21, 24), (10000, 10001, 10002)  # 21 and 24 are dev videos
KEYS = {"video": "video_{:05d}.mp4", "pixels": "{}_pixels.mp4"}
HELD_BACK = ["rollout.held_back_slot_error.1", "rollout.held_back_slot_error.31"]
FUTURE = ["rollout.slot_error.1", "rollout.slot_error.31"]


def slots(video: int, frames: int) -> Any:
    """Slots that drift, each video's at a speed of its own."""
    rng = np.random.default_rng(video)
    start, speed = rng.normal(size=(2, 1, SLOTS, WIDTH))
    return (start + 0.02 * speed * np.arange(frames)[:, None, None]).astype(np.float32)


def write_slots(
    path: Path, *, keys: str = "pixels", frames: int = 128, validation: Sequence[int] = VALIDATION, **more: Any
) -> Path:
    tree: dict[str, dict[str, Any]] = {
        split: {KEYS[keys].format(video): slots(video, frames) for video in reversed(videos)}
        for split, videos in (("train", TRAIN), ("val", validation))
    }
    tree["train"].update(more)
    path.write_bytes(pickle.dumps(tree, protocol=2))
    return path


def write_questions(root: Path, *, validation: Sequence[int] = VALIDATION) -> Path:
    """A folder in the official layout with question files and nothing else."""
    for split, videos in (("train", TRAIN), ("validation", validation)):
        write_json(root / "questions" / f"{split}.json", [questions(video) for video in videos])
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_questions(tmp_path_factory.mktemp("clevrer"))


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slots(tmp_path_factory.mktemp("slots") / "clevrer_slots.pkl")


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slots(tmp_path_factory.mktemp("long") / "rollout_clevrer_slots.pkl", keys="video", frames=160)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCWM_HOME", str(tmp_path / "home"))


def arguments(method: str, *overrides: str) -> list[str]:
    fixed = ["--task", "clevrer", "--preset", "tiny", "runtime.threads=1"]
    return ["run", "--method", method, *fixed, *overrides]


def measure(capsys: pytest.CaptureFixture[str], method: str, *overrides: str) -> dict[str, Any]:
    """Run a cell and return its record."""
    assert main([*arguments(method, *overrides), "--json"]) == 0, capsys.readouterr().err
    record: dict[str, Any] = json.loads(capsys.readouterr().out)
    return record


def refused(capsys: pytest.CaptureFixture[str], method: str, *overrides: str) -> str:
    """Run a cell that can't work and return the last line that is printed."""
    assert main(arguments(method, *overrides)) == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("keys", KEYS)
def test_a_world_model_learns_from_stored_slots_and_questions_are_answered(
    keys: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_slots(tmp_path / f"{keys}.pkl", keys=keys)
    record = measure(capsys, "cjepa", f"task.root={root}", "encoder=precomputed", f"encoder.slots={path}")
    measured = set(record["metrics"])
    assert set(HELD_BACK) <= measured
    assert {"aloe.predictive.per_option", "aloe.descriptive.per_question"} <= measured
    assert not [key for key in measured if key.startswith(("symbolic", *FUTURE)) or "position" in key or "f1" in key]
    assert record["metrics"]["aloe.descriptive.per_question"]["n"] == len(VALIDATION)
    assert record["notes"]["imagined_share"]["aloe.predictive"] > 0
    assert record["notes"]["slots"]["shape"] == [128, SLOTS, WIDTH]
    assert sum("which object a slot holds is not known" in line for line in record["warnings"]) == 1
    assert record["data"]["kind"] == "official"
    assert record["encoder_reads"] == "pixels"
    assert not [text for text in record["overrides"] if str(path) in text]


def test_the_learning_curve_is_measured_on_dev_videos(
    root: Path, observed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setting = ["encoder=precomputed", f"encoder.slots={observed}", "trainer.eval_every=1"]
    record = measure(capsys, "ocjepa", f"task.root={root}", *setting)
    assert record["curves"]["world_model"][-1]["dev.held_back_slot_error.31"] > 0


def test_held_back_frames_are_predicted_from_those_before(
    root: Path, observed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setting = [f"task.root={root}", "encoder=precomputed", f"encoder.slots={observed}"]
    still = measure(capsys, "copy_last", *setting)["metrics"]
    for key, steps in zip(HELD_BACK, (1, 31), strict=True):
        moved = [np.square(slots(v, 128)[95 + steps] - slots(v, 128)[95]).mean() for v in VALIDATION]
        assert still[key]["value"] == pytest.approx(np.mean(moved), rel=1e-4)
        assert still[key]["n"] == len(VALIDATION)
    linear = measure(capsys, "constant_velocity", *setting)["metrics"]
    assert linear[HELD_BACK[1]]["value"] < 1e-3 * still[HELD_BACK[1]]["value"]


@pytest.mark.parametrize("method", ["no_rollout", "question_only"])
def test_references_without_a_rollout_have_no_slot_error(
    method: str, root: Path, observed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = measure(capsys, method, f"task.root={root}", "encoder=precomputed", f"encoder.slots={observed}")
    assert not [key for key in record["metrics"] if key.startswith("rollout")]
    assert record["notes"]["not_measured"][: len(HELD_BACK)] == HELD_BACK


def test_slots_of_the_real_future_are_what_rollouts_are_compared_with(
    root: Path, long: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setting = [f"task.root={root}", "encoder=precomputed", f"encoder.slots={long}", "encoder.future=real"]
    ceiling = measure(capsys, "true_future", *setting, "task.reasoner_train='true'")["metrics"]
    floor = measure(capsys, "copy_last", *setting)["metrics"]
    moved = [np.square(slots(v, 160)[158] - slots(v, 160)[127]).mean() for v in VALIDATION]
    assert [ceiling[key]["value"] for key in FUTURE] == [0.0, 0.0]
    assert floor[FUTURE[1]]["value"] == pytest.approx(np.mean(moved), rel=1e-4)
    assert not set(HELD_BACK) & set(floor)


def test_a_published_rollout_is_played_back_to_the_reasoner(
    root: Path, long: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = measure(capsys, "stored_rollout", f"task.root={root}", f"encoder.slots={long}")
    assert record["privileged"] == "stored_rollout"
    assert record["notes"]["imagined_share"]["aloe.predictive"] > 0
    assert "aloe.counterfactual.per_option" in record["metrics"]
    assert not [key for key in record["metrics"] if key.startswith("rollout")]  # nobody knows what really followed
    # A model of one's own sees the observed frames of the same file.
    learned = measure(
        capsys,
        "cjepa",
        f"task.root={root}",
        "encoder=precomputed",
        "encoder.future=imagined",
        f"encoder.slots={long}",
    )
    assert set(HELD_BACK) <= set(learned["metrics"])
    assert learned["data"] == record["data"]


def test_the_id_depends_on_the_slots_and_not_on_where_they_lie(
    root: Path, observed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def identity(path: Path, *more: str) -> tuple[str, str]:
        setting = [f"task.root={root}", "encoder=precomputed", f"encoder.slots={path}", *more]
        assert main(["show", *arguments("cjepa", *setting)[1:], "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert shown["metrics"][: len(HELD_BACK)] == HELD_BACK
        return shown["id"], shown["data"]["manifest"]

    first = identity(observed)
    store = tmp_path / "store"
    store.mkdir()
    convert(observed, store)
    assert identity(store) == first
    assert identity(observed, f"encoder.num_slots={SLOTS}", f"encoder.slot_dim={WIDTH}") == first
    other = write_slots(tmp_path / "other.pkl", **{"5_pixels.mp4": slots(5, 128)})
    assert not set(identity(other)) & set(first)


def test_questions_about_the_broken_video_are_left_out(
    observed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_questions(tmp_path / "clevrer", validation=(*VALIDATION, 10800))
    setting = [f"task.root={root}", "encoder=precomputed", f"encoder.slots={observed}"]
    record = measure(capsys, "copy_last", *setting)
    assert record["metrics"]["aloe.descriptive.per_question"]["n"] == len(VALIDATION)
    assert "4 questions of test are left out" in record["warnings"][-1]


class Foreign:
    pass


def test_slots_that_can_not_be_used_are_named(
    root: Path, observed: Path, long: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def error(path: Path, *more: str, method: str = "cjepa", data: Path = root) -> str:
        return refused(capsys, method, f"task.root={data}", "encoder=precomputed", f"encoder.slots={path}", *more)

    assert "can't read the slots" in error(tmp_path / "absent.pkl")
    assert "absent.pkl: No such file" in error(tmp_path / "absent.pkl")
    bad = write_slots(tmp_path / "bad.pkl", **{"9_pixels.mp4": Foreign()})
    assert "bad.pkl holds 'tests.tasks.clevrer.test_precomputed.Foreign', which is refused" in error(bad)
    assert f"are {SLOTS} x {WIDTH} (slots x width), but the configuration says {SLOTS} x 128" in error(
        observed, "encoder.slot_dim=128"
    )
    assert f"are {SLOTS} x {WIDTH} (slots x width), but the configuration says 7 x {WIDTH}" in error(
        observed, "encoder.num_slots=7"
    )
    few = write_slots(tmp_path / "few.pkl", validation=VALIDATION[:1])
    assert "2 videos with questions in split 'validation' have no slots in" in (missing := error(few))
    assert "the first is video 10001" in missing
    assert "have 100 frames a video, expected 128 or 160" in error(write_slots(tmp_path / "short.pkl", frames=100))
    assert "go on for 32 frames after the 128 observed ones. Set encoder.future=real" in error(long)
    assert "encoder.future=real: the slots of" in error(observed, "encoder.future=real")
    assert "encoder.future=reel is not known. Did you mean 'real'" in error(observed, "encoder.future=reel")


@pytest.mark.parametrize(
    ("method", "overrides", "named"),
    [
        ("cjepa", ["task.reasoners=[symbolic,aloe]"], "the symbolic reasoner must know which object a slot holds"),
        ("cjepa", ["task.protocol=imagined"], "task.protocol=imagined must know"),
        ("cjepa", ["task.entry_filter=true"], "task.entry_filter=true must know"),
        ("cjepa", ["task.source=annotation"], "task.source=annotation chooses states"),
        ("cjepa", ["task.reasoner_train='true'"], "task.reasoner_train=true needs the real future"),
        ("true_future", [], "it reads the real future, which these slots lack"),
        ("stored_rollout", [], "encoder.future=imagined: the slots of"),
        ("stored_rollout", ["encoder.future=real"], "it reads an imagined future, which these slots lack"),
        ("stored_rollout", ["encoder=state"], "unknown key 'encoder.slots'"),
    ],
)
def test_what_stored_slots_can_not_do_is_refused(
    method: str, overrides: list[str], named: str, root: Path, observed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setting = [f"task.root={root}", "encoder=precomputed", f"encoder.slots={observed}"]
    assert named in refused(capsys, method, *setting, *overrides)


def test_stored_slots_need_a_folder_with_questions(
    observed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setting = ["encoder=precomputed", f"encoder.slots={observed}"]
    assert "set task.root" in refused(capsys, "cjepa", *setting)
    root = write_questions(tmp_path / "clevrer")
    (root / "questions" / "validation.json").unlink()
    assert "has no split 'validation'" in refused(capsys, "cjepa", *setting, f"task.root={root}")


def test_a_stored_rollout_needs_stored_slots(capsys: pytest.CaptureFixture[str]) -> None:
    assert "set encoder=precomputed" in refused(capsys, "stored_rollout", "encoder=state")
    assert "encoder.slots has no value" in refused(capsys, "stored_rollout")


def test_videos_are_looked_up_by_their_number(observed: Path, tmp_path: Path) -> None:
    encoder = PrecomputedSlots(slots=str(observed), home=str(tmp_path))
    assert (encoder.num_slots, encoder.slot_dim) == (SLOTS, WIDTH)
    batch, _ = encoder.encode(Observations(ids=torch.tensor([10001, 4])))
    np.testing.assert_array_equal(batch.latents, np.stack([slots(10001, 128), slots(4, 128)]))
    with pytest.raises(BenchError, match="video 7 has no slots in"):
        encoder.encode(Observations(ids=torch.tensor([4, 7])))


def test_a_video_in_two_splits_is_named(tmp_path: Path) -> None:
    path = write_slots(tmp_path / "twice.pkl", validation=(*VALIDATION, 4))
    encoder = PrecomputedSlots(slots=str(path), home=str(tmp_path))
    with pytest.raises(BenchError, match="names video 4 in train and in validation"):
        encoder.encode(Observations(ids=torch.tensor([4])))
