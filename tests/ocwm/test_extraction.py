"""Extraction of slots: carried through time, stopped and gone on, shared by several processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.ocwm.drawn_videos import Broken, DrawnEncoder, DrawnVideos, WithoutMasks

from ocwm.errors import BenchError
from ocwm.extraction import Extracted, extract, merge
from ocwm.progress import Progress

CPU = torch.device("cpu")


class Counter(Progress):
    def __init__(self) -> None:
        self.total = 0

    def update(self, n: int = 1) -> None:
        self.total += n


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two videos a batch, five frames a piece."""
    monkeypatch.setattr("ocwm.encoding.BATCH_VIDEOS", 2)
    monkeypatch.setattr("ocwm.encoding.PIECE_FRAMES", 5)


def whole(tmp_path: Path, videos: DrawnVideos, encoder: DrawnEncoder | None = None) -> tuple[Path, Extracted]:
    work, out = tmp_path / "work", tmp_path / "out"
    for folder in (work, out):
        folder.mkdir(exist_ok=True)
    extract(encoder or DrawnEncoder(), videos, work, device=CPU)
    return out, merge(videos, work, out)


def test_latents_and_matches_of_all_videos(tmp_path: Path) -> None:
    videos = DrawnVideos(5, first=3)
    out, found = whole(tmp_path, videos)
    latents = np.load(out / "latents.npy", mmap_mode="r")
    assert latents.shape == (5, 12, 3, 5)
    assert latents.dtype == np.float32
    counted = np.arange(12)[None] + 0.1 * videos.ids[:, None]
    np.testing.assert_allclose(latents[:, :, 0, 4], counted, rtol=1e-6)  # the carry goes through all pieces
    assert found.slot_of.tolist() == [[2, 0]] * 5
    np.testing.assert_array_equal(found.iou, np.ones((5, 2)))
    assert (found.frames, found.missed) == (60, 0.0)
    assert found.frames_per_second > 0
    columns = [[videos.place(v, t, 1)[1] + 2.5 for t in range(12)] for v in range(5)]
    np.testing.assert_allclose(latents[:, :, 0, 0], columns)
    with np.load(out / "matches.npz") as arrays:
        np.testing.assert_array_equal(arrays["slot_of"], found.slot_of)


def test_without_masks_no_object_is_known(tmp_path: Path) -> None:
    _, found = whole(tmp_path, WithoutMasks(3))
    assert found.slot_of.shape == (3, 0)
    assert found.missed is None


def test_only_observed_frames_are_matched(tmp_path: Path) -> None:
    encoder = DrawnEncoder(order=lambda t: {0: 0, 1: 1} if t < 8 else {0: 1, 1: 2})
    _, found = whole(tmp_path, DrawnVideos(2), encoder)
    assert found.slot_of.tolist() == [[0, 1]] * 2
    np.testing.assert_array_equal(found.iou, np.ones((2, 2)))


@pytest.mark.parametrize("stop_after", [0, 3, 5, 11])  # calls; a batch takes three
@pytest.mark.parametrize("torn", [b"", b"half a row"])
def test_a_stopped_extraction_goes_on_and_gives_the_same_files(tmp_path: Path, stop_after: int, torn: bytes) -> None:
    videos = DrawnVideos(7)
    (tmp_path / "straight").mkdir()
    straight, _ = whole(tmp_path / "straight", videos)
    (tmp_path / "stopped" / "work").mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt):
        extract(DrawnEncoder(stop_after=stop_after), videos, tmp_path / "stopped" / "work", device=CPU)
    with (tmp_path / "stopped" / "work" / "latents.0-of-1.npy").open("ab") as file:
        file.write(torn)
    again, bar = DrawnEncoder(), Counter()
    extract(again, videos, tmp_path / "stopped" / "work", device=CPU, progress=bar)
    assert again.calls == 3 * (4 - stop_after // 3)  # finished batches are not encoded again
    assert bar.total == 7 * 12
    stopped, _ = whole(tmp_path / "stopped", videos)
    for name in ("latents.npy", "matches.npz"):
        assert (straight / name).read_bytes() == (stopped / name).read_bytes()


def test_lost_latents_are_made_again(tmp_path: Path) -> None:
    videos = DrawnVideos(5)
    (tmp_path / "a").mkdir()
    straight, _ = whole(tmp_path / "a", videos)
    (tmp_path / "b" / "work").mkdir(parents=True)
    extract(DrawnEncoder(), videos, tmp_path / "b" / "work", device=CPU)
    path = tmp_path / "b" / "work" / "latents.0-of-1.npy"
    path.write_bytes(path.read_bytes()[:-40])
    again, _ = whole(tmp_path / "b", videos)
    assert (straight / "latents.npy").read_bytes() == (again / "latents.npy").read_bytes()


@pytest.mark.parametrize("shards", [2, 3, 5])
def test_shards_make_the_files_of_one_process(tmp_path: Path, shards: int) -> None:
    videos = DrawnVideos(7)
    (tmp_path / "straight").mkdir()
    straight, _ = whole(tmp_path / "straight", videos)
    work, out = tmp_path / "work", tmp_path / "out"
    work.mkdir()
    out.mkdir()
    extract(DrawnEncoder(), videos, work, device=CPU, shard=(shards - 1, shards))
    with pytest.raises(BenchError, match="of 4 batches are not extracted, the first is number 0"):
        merge(videos, work, out, shards=shards)
    for i in range(shards):
        extract(DrawnEncoder(), videos, work, device=CPU, shard=(i, shards))
    merge(videos, work, out, shards=shards)
    for name in ("latents.npy", "matches.npz"):
        assert (straight / name).read_bytes() == (out / name).read_bytes()
    assert not list(work.glob("*.npy"))


def test_videos_that_can_not_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="video 1 breaks off"):
        extract(DrawnEncoder(), Broken(3), tmp_path, device=CPU)
    with pytest.raises(BenchError, match="2 objects, and the encoder has 1 slots"):
        extract(DrawnEncoder(slots=1, order=lambda t: {0: 0}), DrawnVideos(2), tmp_path, device=CPU)
