"""Videos as pixels: rendered with the data or on demand, in the official layout, damaged, absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.tasks.clevrer.clevrer_files import OBJECTS, SIZE, write_json, write_official, write_video

from ocwm.config import compose, instantiate
from ocwm.errors import BenchError
from ocwm.run import workspace
from ocwm.videos import Videos
from ocwm_tasks.clevrer.scene import COLORS


def videos_of(home: Path, split: str, *overrides: str) -> Videos:
    """The videos of a split as `bench train-encoder` asks for them: there is no method and no run."""
    fixed = [f"runtime.home={home}", "runtime.workers=1"]
    config = compose(method=None, task="clevrer", preset="tiny", overrides=[*fixed, *overrides])
    task = instantiate(config.values.task)
    return task.videos(workspace(config, versions={}, data=task.data_identity(config.seeds)), split)


def size(**rendered: int) -> list[str]:
    return [
        *(f"task.generator.{name}={count}" for name, count in (("train", 3), ("validation", 1), ("test", 1))),
        *(f"task.generator.rendered_{name}={count}" for name, count in rendered.items()),
    ]


@pytest.fixture(scope="module")
def on_demand(home: Path) -> Videos:
    return videos_of(home, "train", *size())


@pytest.fixture(scope="module")
def with_the_data(home: Path) -> Videos:
    return videos_of(home, "train", *size(train=3))


def test_frames_rendered_on_demand_are_those_of_a_rendered_data_set(
    home: Path, on_demand: Videos, with_the_data: Videos
) -> None:
    assert len(on_demand) == len(with_the_data) == 3
    assert on_demand.manifest != with_the_data.manifest
    for video in range(3):
        np.testing.assert_array_equal(on_demand.frames(video), with_the_data.frames(video))
        np.testing.assert_array_equal(on_demand.masks(video), with_the_data.masks(video))
    (rendered,) = (home / "cache" / "frames.train").glob("[!.]*")  # the second data set needed none
    (data,) = (path for path in (home / "cache" / "data").glob("[!.]*") if (path / "future").is_dir())
    files = [p.relative_to(rendered) for p in rendered.rglob("*") if p.suffix in (".mp4", ".npz")]
    assert len(files) == 9
    assert all((rendered / path).read_bytes() == (data / path).read_bytes() for path in files)


def test_only_missing_videos_are_rendered(home: Path, on_demand: Videos) -> None:
    mixed = videos_of(home, "train", *size(train=1))
    for video in range(3):
        np.testing.assert_array_equal(mixed.frames(video, 120, 140), on_demand.frames(video, 120, 140))
    folders = (home / "cache" / "frames.train").glob("[!.]*")
    assert sorted(len(list(folder.rglob("mask_*.npz"))) for folder in folders) == [2, 3]


def test_pieces_of_a_video(on_demand: Videos) -> None:
    assert (on_demand.length, on_demand.observed, on_demand.size) == (160, 128, (64, 96))
    whole, masks = on_demand.frames(1), on_demand.masks(1)
    assert masks is not None
    assert (whole.shape, masks.shape) == ((160, 64, 96, 3), (160, 64, 96))
    for start, stop in ((0, 5), (100, 128), (120, 140), (128, 130), (150, None)):
        np.testing.assert_array_equal(on_demand.frames(1, start, stop), whole[start:stop])
        np.testing.assert_array_equal(on_demand.masks(1, start, stop), masks[start:stop])


def test_objects_are_those_of_the_masks(on_demand: Videos) -> None:
    for video in range(3):
        truth, masks, frames = on_demand.objects(video), on_demand.masks(video), on_demand.frames(video)
        assert truth is not None
        assert masks is not None
        count = truth.positions.shape[1]
        assert masks.max() == count
        assert truth.positions.shape == (160, count, 2)
        assert np.isfinite(truth.positions[truth.visible]).all()
        for thing in range(count):
            assert set(truth.labels) == {"color", "material", "shape"}
            shown = frames[masks == thing + 1].mean(axis=0)
            if COLORS[truth.labels["color"][thing]] == "red":
                assert shown.argmax() == 0


def test_official_videos_have_their_own_size_no_masks_and_no_future(tmp_path: Path) -> None:
    root = write_official(tmp_path / "clevrer", indices=(0, 1, 21))
    write_official(root, split="validation", indices=(10800, 10801))
    (root / "annotation_train" / "annotation_00000-01000" / "annotation_00001.json").unlink()
    train, dev, test = (videos_of(tmp_path, name, f"task.root={root}") for name in ("train", "dev", "test"))
    assert [videos.ids.tolist() for videos in (train, dev, test)] == [[0, 1], [21], [10800, 10801]]
    assert (train.length, train.observed, train.size) == (128, 128, SIZE)
    assert train.frames(0, 3, 10).shape == (7, *SIZE, 3)
    assert train.masks(0) is None
    truth = train.objects(0)
    assert truth is not None
    assert truth.positions.shape == (128, len(OBJECTS), 2)
    assert not truth.visible[20, 0]
    assert truth.visible[21, 0]
    assert COLORS[truth.labels["color"][0]] == "red"
    assert train.objects(1) is None  # no annotation
    assert test.objects(0) is None  # a broken one
    assert test.frames(0).shape == (128, *SIZE, 3)
    assert len({videos.manifest for videos in (train, dev, test)}) == 3


def test_a_video_that_breaks_off_or_is_too_short_is_named(tmp_path: Path) -> None:
    root = write_official(tmp_path / "clevrer", indices=(0, 1, 21))
    folder = root / "video_train" / "video_00000-01000"
    write_video(folder / "video_00001.mp4", length=100)
    path = folder / "video_00000.mp4"
    path.write_bytes(path.read_bytes()[:300])
    train = videos_of(tmp_path, "dev", f"task.root={root}")
    assert train.frames(0).shape[0] == 128
    write_video(folder / "video_00000.mp4")
    train = videos_of(tmp_path, "train", f"task.root={root}")
    with pytest.raises(BenchError, match=r"video_00001.mp4 has 100 frames, expected 128. It may be truncated") as error:
        train.frames(1, 0, 5)
    assert "\n" not in str(error.value)
    path = folder / "video_00021.mp4"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(BenchError, match=r"can't decode .*video_00021.mp4") as error:
        videos_of(tmp_path, "dev", f"task.root={root}").frames(0)
    assert "\n" not in str(error.value)


def test_videos_of_two_sizes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_official(tmp_path / "clevrer", indices=(0, 1, 21))
    monkeypatch.setattr("tests.tasks.clevrer.clevrer_files.SIZE", (32, 48))
    write_video(root / "video_train" / "video_00000-01000" / "video_00001.mp4")
    with pytest.raises(BenchError, match=r"video_00001.mp4 has frames of 32 x 48 pixels.*24 x 32"):
        videos_of(tmp_path, "train", f"task.root={root}").frames(1)


def test_data_without_videos_is_one_clear_line(tmp_path: Path) -> None:
    root = tmp_path / "clevrer"
    write_json(root / "questions" / "train.json", [])
    with pytest.raises(BenchError, match=r"clevrer has no videos for train \(0 in split 'train'\)"):
        videos_of(tmp_path, "train", f"task.root={root}")
    with pytest.raises(BenchError, match=r"clevrer has no videos for test \(0 in split 'validation'\)"):
        videos_of(tmp_path, "test", f"task.root={root}")
    with pytest.raises(BenchError, match="no split 'val'"):
        videos_of(tmp_path, "val", f"task.root={root}")


def test_a_damaged_frame_file_in_the_cache_is_named(tmp_path: Path) -> None:
    videos_of(tmp_path, "dev", *size())
    (path,) = tmp_path.glob("cache/frames.dev/*/future/validation/*.mp4")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BenchError, match=r"the cache entry .* is damaged: future/validation/video_10000.mp4 has"):
        videos_of(tmp_path, "dev", *size())
