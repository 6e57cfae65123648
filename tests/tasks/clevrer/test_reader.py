from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.tasks.clevrer.clevrer_files import (
    SIZE,
    annotation,
    questions,
    trajectories,
    write_embedded,
    write_json,
    write_official,
    write_video,
)

from ocwm.errors import BenchError
from ocwm_tasks.clevrer.embedded import EmbeddedDataset
from ocwm_tasks.clevrer.manifest import data_identity, manifest
from ocwm_tasks.clevrer.reader import open_dataset
from ocwm_tasks.clevrer.scene import Collision, ObjectProperty

REAL = os.environ.get("OCWM_REAL_DATA")
real_data = pytest.mark.skipif(not REAL, reason="OCWM_REAL_DATA is not set: no real sample data")

LAYOUTS = {
    "official": {},
    "flat": {
        "video": "video_{split}/video_{index:05d}.mp4",
        "annotated": "annotation_{split}/annotation_{index:05d}.json",
    },
    "plural": {
        "video": "videos/{split}/{thousand}/video_{index:05d}.mp4",
        "annotated": "annotations/{split}/{thousand}/annotation_{index:05d}.json",
    },
}


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_official(tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_embedded(tmp_path_factory.mktemp("embedded"))


@pytest.fixture
def copy(official: Path, tmp_path: Path) -> Path:
    """Return a folder of its own to break."""
    return shutil.copytree(official, tmp_path / "copy")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("split", ["train", "validation", "val", "test"])
def test_every_variant_of_the_layout(tmp_path: Path, layout: str, split: str) -> None:
    data = open_dataset(write_official(tmp_path, indices=[1005], split=split, **LAYOUTS[layout]))
    name = "validation" if split == "val" else split
    assert data.kind == "official"
    assert data.splits == (name,)
    for part in ("videos", "annotations", "questions"):
        assert data.indices(name, part) == (1005,)
    assert data.frames(name, 1005).shape == (128, *SIZE, 3)
    assert data.scenes(name)[0].index == 1005
    assert data.questions(name) == [questions(1005)]


def test_frames_are_rgb_in_order(official: Path) -> None:
    frames = open_dataset(official).frames("train", 0)
    assert frames.dtype == np.uint8
    red, green, blue = frames.reshape(128, -1, 3).mean(axis=1).T
    assert np.abs(red - np.arange(60, 188)).max() < 6
    assert np.abs(green - 40).max() < 6
    assert np.abs(blue - 20).max() < 6


def test_a_scene_of_an_annotation(official: Path) -> None:
    scenes = open_dataset(official).scenes("train")
    assert scenes.indices == (0, 1)
    assert [scene.index for scene in scenes] == [0, 1]
    assert [scene.index for scene in scenes[1:]] == [1]
    scene = scenes.of(1)
    assert scene.coordinates == "world"
    assert scene.objects[0] == ObjectProperty("red", "metal", "cube")
    assert scene.frames.tolist() == list(range(128))
    assert scene.positions.dtype == np.float32
    np.testing.assert_allclose(scene.positions[10, 0], [-2.5, 0.0])
    assert scene.visible[:, 0].sum() == 107
    assert scene.visible[:, 1:].all()
    assert scene.velocities is not None
    assert scene.velocities[10].tolist() == [[1.25, 0.0], [0.0, 0.0], [0.0, 0.0]]
    assert scene.collisions == (Collision(60, 0, 1),)
    with pytest.raises(BenchError, match="no scene of video 7"):
        scenes.of(7)


def test_a_scene_of_trajectories_is_never_mixed_with_annotations(tmp_path: Path) -> None:
    write_official(tmp_path, indices=[10000], split="validation")
    for index in (10000, 10007):
        write_json(tmp_path / "trajectories" / f"sim_{index}.json", trajectories())
    data = open_dataset(tmp_path)
    assert data.sources("validation") == ("annotation", "trajectories")
    assert {scene.coordinates for scene in data.scenes("validation")} == {"world"}
    scenes = data.scenes("validation", source="trajectories")
    assert scenes.indices == (10000, 10007) == data.indices("validation", "trajectories")
    scene = scenes[1]
    assert scene.coordinates == "image"
    assert scene.frames.tolist() == list(range(0, 126, 5))
    assert scene.positions.shape == (26, 3, 2)
    assert np.isnan(scene.positions[:5, 0]).all()
    assert scene.visible[:, 0].tolist() == [False] * 5 + [True] * 21
    np.testing.assert_allclose(scene.positions[10, 2], [60, 240])
    assert scene.collisions == (Collision(60, 0, 1),)
    assert scene.velocities is None


def test_trajectories_alone_are_a_data_set(tmp_path: Path) -> None:
    for index in (3, 10003, 15003):
        write_json(tmp_path / "trajectories" / f"sim_{index:05d}.json", trajectories())
    data = open_dataset(tmp_path)
    assert data.splits == ("train", "validation", "test")
    assert [data.indices(split, "trajectories") for split in data.splits] == [(3,), (10003,), (15003,)]
    with pytest.raises(BenchError, match=r"no annotation for split 'train'. Sources of this split: trajectories"):
        data.scenes("train")


def test_the_broken_official_annotation_is_left_out(tmp_path: Path) -> None:
    root = write_official(tmp_path, indices=[10799, 10800], split="validation")
    (root / "annotation_validation" / "annotation_10000-11000" / "annotation_10800.json").write_text("{")
    data = open_dataset(root)
    assert data.scenes("validation").indices == (10799,)
    assert "broken" in data.skipped("validation")[10800]
    assert list(manifest(data)["splits"]["validation"]["skipped"]) == ["10800"]


def test_embedded_data(embedded: Path) -> None:
    data = open_dataset(embedded)
    assert isinstance(data, EmbeddedDataset)
    assert data.splits == ("validation",)
    assert data.indices("validation", "videos") == (10000,)
    scenes = data.scenes("validation")
    assert scenes.indices == (10000, 10001, 10002)
    scene = scenes.of(10002)
    assert scene.coordinates == "world"
    assert [thing.color for thing in scene.objects] == ["red", "blue", "gray"]
    assert [thing.shape for thing in scene.objects] == ["cube", "sphere", "cylinder"]
    assert scene.positions.shape == (128, 3, 2)
    assert scene.collisions == (Collision(60, 0, 1),)
    assert scene.visible[:, 0].sum() == 107
    future = data.scenes("validation", future=True)[0]
    assert future.frames.tolist() == list(range(160))
    assert future.positions.shape == (160, 3, 2)
    assert future.collisions == (Collision(60, 0, 1), Collision(150, 1, 2))
    assert data.frames("validation", 10000).shape == (128, *SIZE, 3)
    assert data.future_frames("validation", 10000).shape == (32, *SIZE, 3)
    assert data.masks("validation", 10000).shape == (160, *SIZE)


def test_embedded_scenes_agree_with_their_annotations(embedded: Path, tmp_path: Path) -> None:
    from_state = open_dataset(embedded).scenes("validation").of(10000)
    root = shutil.copytree(embedded, tmp_path / "official")
    (root / "embedded.json").unlink()
    from_file = open_dataset(root).scenes("validation").of(10000)
    np.testing.assert_allclose(from_state.positions, from_file.positions)
    assert from_state.objects == from_file.objects
    assert from_state.collisions == from_file.collisions
    np.testing.assert_array_equal(from_state.visible, from_file.visible)


def test_removals_of_embedded_data(embedded: Path, official: Path) -> None:
    removals = open_dataset(embedded).removals("validation")
    assert [removal.index for removal in removals] == [10000, 10001, 10002]
    assert removals[0].pairs == {0: frozenset(), 1: frozenset(), 2: frozenset({frozenset({0, 1})})}
    assert removals[0].positions.shape == (3, 160, 3, 2)
    assert np.isnan(removals[0].positions[1, :, 1]).all()
    assert not removals[0].visible[2, :, 2].any()
    assert open_dataset(official).removals("train") == []


def test_the_manifest_counts_and_names_what_is_missing(copy: Path) -> None:
    write_video(copy / "video_train" / "video_00000-01000" / "video_00005.mp4")
    write_json(copy / "questions" / "train.json", [questions(0), questions(9)])
    write_json(copy / "annotation_train" / "annotation_00000-01000" / "annotation_00001.json", annotation(1))
    write_video(copy / "video_test" / "video_15000.mp4")
    found = manifest(open_dataset(copy))
    json.dumps(found)
    train = found["splits"]["train"]
    assert (train["videos"]["count"], train["annotations"]["count"]) == (3, 2)
    assert train["questions"]["types"] == {
        "descriptive": {"questions": 2},
        "explanatory": {"questions": 2, "choices": 6},
        "predictive": {"questions": 2, "choices": 4},
        "counterfactual": {"questions": 2, "choices": 2},
    }
    assert not train["questions"]["official"]
    assert train["missing"] == {
        "videos without annotation": {"count": 1, "first": [5]},
        "videos without questions": {"count": 2, "first": [1, 5]},
        "questions without video": {"count": 1, "first": [9]},
        "questions without annotation or trajectories": {"count": 1, "first": [9]},
    }
    assert found["splits"]["test"]["missing"]["question file"]["count"] == 1


def test_the_identity_follows_the_contents_not_the_place(copy: Path, official: Path) -> None:
    before = data_identity(open_dataset(official))
    assert before == data_identity(open_dataset(copy))
    assert before["kind"] == "official"
    path = copy / "questions" / "train.json"
    text = path.read_text()
    path.write_text(text.replace('"correct"', '"wrong"  '))  # of the same size
    changed = data_identity(open_dataset(copy))
    assert changed != before
    path.write_text(text)
    assert data_identity(open_dataset(copy)) == before
    next((copy / "video_train").rglob("*.mp4")).unlink()
    assert data_identity(open_dataset(copy)) not in (before, changed)


def test_the_identity_of_embedded_data_is_its_generator(embedded: Path, tmp_path: Path) -> None:
    before = data_identity(open_dataset(embedded))
    assert before["kind"] == "embedded"
    assert before["name"] == "clevrer-embedded"
    copy = shutil.copytree(embedded, tmp_path / "copy")
    description = json.loads((copy / "embedded.json").read_text())
    write_json(copy / "embedded.json", {**description, "files": ["another"]})
    assert data_identity(open_dataset(copy)) == before
    write_json(copy / "embedded.json", {**description, "config": {"videos": 4}})
    assert data_identity(open_dataset(copy)) != before
    write_json(copy / "embedded.json", {"name": "clevrer-embedded", "version": 1})
    with pytest.raises(BenchError, match=r"embedded\.json.*'config' is missing"):
        data_identity(open_dataset(copy))


def one_line(error: pytest.ExceptionInfo[BenchError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_root_that_is_missing_a_file_or_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BenchError, match=r"absent does not exist.*task\.root"):
        open_dataset(tmp_path / "absent")
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match="file is no folder"):
        open_dataset(tmp_path / "file")

    def refuse(path: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)  # the tests may run as root, whom no permission stops
    with pytest.raises(BenchError, match="permission denied") as caught:
        open_dataset(tmp_path)
    assert str(tmp_path) in one_line(caught)


def test_an_empty_root_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"holds no CLEVRER data.*video_train/.*questions/train\.json") as caught:
        open_dataset(tmp_path)
    assert str(tmp_path) in one_line(caught)


def test_an_unknown_split_and_a_missing_video(official: Path) -> None:
    data = open_dataset(official)
    with pytest.raises(BenchError, match=r"no split 'trian'\. Did you mean 'train'"):
        data.scenes("trian")
    with pytest.raises(BenchError, match="no split 'test'"):
        data.questions("test")
    with pytest.raises(BenchError, match="no video 12 in split 'train'"):
        data.frames("train", 12)
    with pytest.raises(BenchError, match="does not hold the future"):
        data.scenes("train", future=True)


def test_a_missing_question_file(copy: Path) -> None:
    (copy / "questions" / "train.json").unlink()
    with pytest.raises(BenchError, match=r"questions/train\.json is missing"):
        open_dataset(copy).questions("train")


@pytest.mark.parametrize("length", [100, 130])
def test_a_video_of_another_length(tmp_path: Path, length: int) -> None:
    data = open_dataset(write_official(tmp_path, indices=[3], length=length))
    with pytest.raises(BenchError, match=rf"video_00003\.mp4 has {length} frames, expected 128"):
        data.frames("train", 3)


def test_truncated_and_empty_videos(copy: Path) -> None:
    path = copy / "video_train" / "video_00000-01000" / "video_00001.mp4"
    data = open_dataset(copy)
    for content in (path.read_bytes()[:-2000], path.read_bytes()[:500], b"", b"no video at all"):
        path.write_bytes(content)
        with pytest.raises(BenchError, match=r"video_00001\.mp4") as caught:
            data.frames("train", 1)
        assert "truncated" in one_line(caught)


def broken(index: int, **changes: Any) -> dict[str, Any]:
    return {**annotation(index), **changes}


ANNOTATIONS = {
    "syntax": ('{"scene_index": 1,\n "motion": [1, 2,, 3]}', "line 2, column 18"),
    "empty": ("", "line 1, column 1"),
    "binary": (b"\xff\xfe\x00", "no JSON"),
    "list": ("[]", "no annotation"),
    "field": (broken(1, collision=[{"frame_id": 3}]), "'object_ids' is missing"),
    "index": (broken(2), "names scene 2, expected 1"),
    "color": (broken(1, object_property=[{"object_id": 0, "color": "pink"}]), "unknown color 'pink'"),
    "order": (broken(1, motion_trajectory=annotation(1)["motion_trajectory"][::-1]), "not in order"),
    "objects": (broken(1, object_property=annotation(1)["object_property"][:2]), "no annotation"),
}


@pytest.mark.parametrize("case", ANNOTATIONS)
def test_malformed_annotations_are_named(copy: Path, case: str) -> None:
    content, message = ANNOTATIONS[case]
    path = copy / "annotation_train" / "annotation_00000-01000" / "annotation_00001.json"
    path.write_bytes(content if isinstance(content, bytes) else str(content).encode())
    if isinstance(content, dict):
        write_json(path, content)
    scenes = open_dataset(copy).scenes("train")
    assert scenes.of(0).index == 0
    with pytest.raises(BenchError, match=message) as caught:
        scenes.of(1)
    assert str(path) in one_line(caught)


def test_malformed_trajectories_are_named(tmp_path: Path) -> None:
    path = tmp_path / "trajectories" / "sim_00001.json"
    unknown = trajectories()
    unknown["predictions"][0]["collisions"][0]["objects"][0]["color"] = "green"
    none = {**trajectories(), "predictions": []}
    for value, message in (
        (unknown, "green rubber sphere is not among"),
        (none, "0 predictions"),
        ([], "no trajectory"),
    ):
        write_json(path, value)
        with pytest.raises(BenchError, match=message) as caught:
            open_dataset(tmp_path).scenes("train", source="trajectories")[0]
        assert str(path) in one_line(caught)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"scene_index": 0, "questions": []},\n]', "line 2, column 1"),
        ('{"scene_index": 0}', "expected a list"),
        ('[{"scene_index": 0}]', "scene 0 has no 'questions'"),
        ('[{"scene_index": 4, "questions": [{"question_id": 0}]}]', "question of scene 4 has no 'question'"),
        ('[{"scene_index": 4, "questions": ["what?"]}]', "question of scene 4 is a str"),
    ],
)
def test_malformed_question_files_are_named(copy: Path, text: str, message: str) -> None:
    path = copy / "questions" / "train.json"
    path.write_text(text)
    with pytest.raises(BenchError, match=message) as caught:
        open_dataset(copy).questions("train")
    assert str(path) in one_line(caught)


def test_the_same_file_twice(copy: Path) -> None:
    write_json(copy / "questions" / "validation.json", [])
    write_json(copy / "questions" / "val.json", [])
    with pytest.raises(BenchError, match=r"validation\.json and .*val\.json are both there"):
        open_dataset(copy)
    (copy / "questions" / "val.json").unlink()
    shutil.copy(next((copy / "video_train").rglob("*1.mp4")), copy / "video_train")
    with pytest.raises(BenchError, match=r"video_00001\.mp4 and .*video_00001\.mp4 are both there"):
        open_dataset(copy)


def test_damaged_embedded_data(embedded: Path, tmp_path: Path) -> None:
    root = shutil.copytree(embedded, tmp_path / "copy")
    states = root / "states" / "validation.npz"
    states.write_bytes(states.read_bytes()[:-300])
    with pytest.raises(BenchError, match=r"states/validation\.npz.*Make the data again") as caught:
        open_dataset(root).scenes("validation")
    one_line(caught)
    states.unlink()
    with pytest.raises(BenchError, match=r"states/validation\.npz"):
        open_dataset(root).removals("validation")
    data = open_dataset(root)
    assert isinstance(data, EmbeddedDataset)
    with pytest.raises(BenchError, match=r"future/validation/video_10002\.mp4"):
        data.future_frames("validation", 10002)
    with pytest.raises(BenchError, match=r"masks/validation/mask_10002\.npz"):
        data.masks("validation", 10002)


@real_data
def test_real_data() -> None:
    data = open_dataset(Path(str(REAL)) / "clevrer")
    assert data.kind == "official"
    assert data.splits == ("train", "validation", "test")
    assert data.indices("train", "videos") == (0, 1000, 2000)
    assert data.indices("validation", "videos") == (10000, 11000)
    assert len(data.scenes("train")) == 7
    assert len(data.scenes("validation", source="trajectories")) == 307
    assert [len(data.questions(split)) for split in data.splits] == [564, 306, 4]
    frames = data.frames("validation", 10000)
    assert frames.shape == (128, 320, 480, 3)
    scene = data.scenes("validation").of(10000)
    assert [(c.frame, c.a, c.b) for c in scene.collisions] == [(34, 0, 1), (84, 1, 3)]
