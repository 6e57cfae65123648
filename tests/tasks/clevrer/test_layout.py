"""The embedded data on disk: complete, the same for any number of processes, and readable as what it says it is."""

from __future__ import annotations

import errno
import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from ocwm_tasks.clevrer.annotation import read_annotation
from ocwm_tasks.clevrer.generator import layout
from ocwm_tasks.clevrer.generator.candidates import draw_video
from ocwm_tasks.clevrer.generator.config import GeneratorConfig
from ocwm_tasks.clevrer.generator.make import VERSION, _stream, make_dataset
from ocwm_tasks.clevrer.generator.render import Renderer
from ocwm_tasks.clevrer.reader import open_dataset
from ocwm_tasks.clevrer.video import read_frames

CONFIG = GeneratorConfig(train=3, validation=2, test=3, rendered_test=1, width=48)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedded")
    steps = []
    make_dataset(folder, CONFIG, seed=5, workers=1, progress=steps.append)
    assert sum(steps) == 8
    return folder


@pytest.fixture(scope="module")
def video():
    return draw_video(_stream(5, "train", 1), CONFIG)


def files(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_several_processes_write_the_same_bytes(root, tmp_path):
    make_dataset(tmp_path, CONFIG, seed=5, workers=2)
    assert files(tmp_path) == files(root)


def test_another_seed_gives_other_videos(video):
    other = draw_video(_stream(6, "train", 1), CONFIG)
    assert other.setup != video.setup
    assert draw_video(_stream(5, "test", 1), CONFIG).setup != video.setup
    assert draw_video(_stream(5, "train", 1), CONFIG).setup == video.setup


def test_the_marker_names_every_file(root):
    about = json.loads((root / "embedded.json").read_text())
    assert {"name", "version", "seed", "config", "files"} == set(about)
    assert (about["version"], about["seed"], about["config"]["train"]) == (VERSION, 5, 3)
    assert set(about["files"]) == set(files(root)) - {"embedded.json"}
    for name in (
        "video_train/video_00000-01000/video_00002.mp4",
        "video_validation/video_10000-11000/video_10001.mp4",
        "video_test/video_15000-16000/video_15000.mp4",
        "annotation_train/annotation_00000-01000/annotation_00000.json",
        "future/validation/video_10000.mp4",
        "masks/train/mask_00001.npz",
        "states/test.npz",
        "questions/validation.json",
    ):
        assert name in about["files"]
    assert not any("15001" in name for name in about["files"])


def test_the_reader_gets_back_what_was_simulated(root, video):
    data = open_dataset(root)
    assert [len(data.scenes(split)) for split in ("train", "validation", "test")] == [3, 2, 3]
    scene = next(s for s in data.scenes("train", future=True) if s.index == 1)
    run = video.simulation
    assert scene.objects == run.objects
    np.testing.assert_array_equal(scene.positions, run.positions[:160])
    np.testing.assert_array_equal(scene.velocities, run.velocities[:160])
    np.testing.assert_array_equal(scene.visible, run.visible[:160])
    assert scene.collisions == tuple(c for c in run.collisions if c.frame < 160)


def test_annotations_tell_the_observed_frames(root, video):
    path = root / "annotation_train/annotation_00000-01000/annotation_00001.json"
    scene = read_annotation(path, index=1)
    run = video.simulation
    assert scene.objects == run.objects
    np.testing.assert_array_equal(scene.frames, np.arange(128))
    np.testing.assert_array_equal(scene.visible, run.visible[:128])
    seen = run.present[:128]
    np.testing.assert_allclose(scene.positions[seen], run.positions[:128][seen], atol=6e-5)
    np.testing.assert_allclose(scene.velocities[seen], run.velocities[:128][seen], atol=6e-5)
    assert np.isfinite(scene.positions).all()
    assert scene.collisions == tuple(c for c in run.collisions if c.frame < 128)


def test_annotations_have_the_official_fields(root):
    data = json.loads((root / "annotation_train/annotation_00000-01000/annotation_00000.json").read_text())
    assert list(data) == ["scene_index", "video_filename", "object_property", "motion_trajectory", "collision"]
    assert set(data["object_property"][0]) == {"object_id", "color", "material", "shape"}
    assert set(data["motion_trajectory"][0]["objects"][0]) == {
        "object_id",
        "location",
        "orientation",
        "velocity",
        "angular_velocity",
        "inside_camera_view",
    }
    for frame in data["motion_trajectory"]:
        for entry in frame["objects"]:
            assert 0.2 < entry["location"][2] <= 0.3
            assert all(round(value, 4) == value for value in entry["location"] + entry["velocity"])
    for collision in data["collision"]:
        assert set(collision) == {"object_ids", "frame_id", "location"}


def test_frames_and_masks_are_those_of_the_renderer(root, video):
    drawn = Renderer(48, 32).render(video.simulation, frames=160)
    data = open_dataset(root)
    observed, future = data.frames("train", 1), data.future_frames("train", 1)
    decoded = np.concatenate([observed, future]).astype(float)
    assert decoded.shape == (160, 32, 48, 3)
    assert np.sqrt(np.mean((decoded - drawn.frames) ** 2)) < 3
    np.testing.assert_array_equal(data.masks("train", 1), drawn.masks)


def test_large_videos_keep_their_colors(tmp_path):
    frames = np.zeros((3, 160, 240, 3), np.uint8)
    frames[:, :, :80], frames[:, :, 80:160], frames[:, :, 160:] = (190, 38, 38), (42, 75, 215), (120, 118, 116)
    (tmp_path / "large.mp4").write_bytes(layout.encode(frames))
    decoded = read_frames(tmp_path / "large.mp4", length=3)
    for middle in (40, 120, 200):
        np.testing.assert_allclose(decoded[1, 80, middle].astype(float), frames[1, 80, middle].astype(float), atol=4)


def test_every_video_is_asked_about(root):
    for split, first, count in (("train", 0, 3), ("validation", 10000, 2), ("test", 15000, 3)):
        scenes = json.loads((root / "questions" / f"{split}.json").read_text())
        assert [scene["scene_index"] for scene in scenes] == list(range(first, first + count))
        assert all(scene["questions"] for scene in scenes)


def test_what_happens_without_each_object_is_kept(root):
    data = open_dataset(root)
    removals = data.removals("test")
    video = draw_video(_stream(5, "test", 2), CONFIG)
    assert [r.index for r in removals] == [15000, 15001, 15002]
    assert len(data.removals("train")) == 3
    for removed, run in video.removals.items():
        assert tuple(removals[2].collisions[removed]) == run.collisions
        np.testing.assert_array_equal(removals[2].positions[removed], run.positions)
        np.testing.assert_array_equal(removals[2].visible[removed], run.visible)


def test_a_full_disk_is_an_oserror(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left") as caught:
        make_dataset(tmp_path, CONFIG, seed=5, workers=1)
    assert caught.value.errno == errno.ENOSPC


def test_failure_and_interrupt_stop_the_processes(tmp_path):
    many = GeneratorConfig(train=300, validation=0, test=0, width=48)
    (tmp_path / "future").write_text("in the way of the folder of this name")
    with pytest.raises(NotADirectoryError):
        make_dataset(tmp_path, many, seed=5, workers=2)
    (tmp_path / "future").unlink()

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_dataset(tmp_path, many, seed=5, workers=2, progress=interrupt)
    assert not multiprocessing.active_children()
    assert not (tmp_path / "embedded.json").exists()
    assert len(list(tmp_path.rglob("*.mp4"))) < 60
