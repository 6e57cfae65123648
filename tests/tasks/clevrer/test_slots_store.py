from __future__ import annotations

import collections
import hashlib
import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ocwm.artifacts import Cache
from ocwm.errors import BenchError
from ocwm_tasks.clevrer import slots_store
from ocwm_tasks.clevrer.slots_pickle import write_pickle
from ocwm_tasks.clevrer.slots_store import STAGE, SlotStore

SHAPE = (8, 3, 16)  # 1.5 kB: long enough to be forgotten while a pickle is walked
GROWTH_LIMIT_MB = 60


def slots(video: int) -> Any:
    return np.random.default_rng(video).normal(size=SHAPE).astype(np.float32)


def tree(*, style: str = "video_{:05d}.mp4") -> dict[str, dict[str, Any]]:
    videos = {"train": [3, 0, 1], "val": [10000, 10799, 10801], "test": [15000]}
    return {split: {style.format(i): slots(i) for i in indices} for split, indices in videos.items()}


def dump(tmp_path: Path, value: Any, *, protocol: int = 4) -> Path:
    path = tmp_path / "slots.pkl"
    path.write_bytes(pickle.dumps(value, protocol))
    return path


def check(store: SlotStore) -> None:
    assert store.splits == ("train", "validation", "test")
    assert store.shape == SHAPE
    for name, videos in (("train", [3, 0, 1]), ("validation", [10000, 10799, 10801]), ("test", [15000])):
        split = store.split(name)
        assert split.videos.tolist() == videos
        assert isinstance(split.slots, np.memmap)
        assert not split.slots.flags.writeable
        np.testing.assert_array_equal(split.slots, np.stack([slots(i) for i in videos]))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("style", ["video_{:05d}.mp4", "{}_pixels.mp4"])
def test_both_key_styles_and_all_protocols(tmp_path: Path, protocol: int, style: str) -> None:
    path = dump(tmp_path, tree(style=style), protocol=protocol)
    store = SlotStore.open(path, cache=Cache(tmp_path / "home"))
    check(store)
    assert store.keys == ("video" if style.startswith("video") else "pixels")
    assert store.identity == hashlib.sha256(path.read_bytes()).hexdigest()
    check(SlotStore.open(store.folder, cache=Cache(tmp_path)))


def test_other_float_types_orders_and_dicts(tmp_path: Path) -> None:
    first = slots(1)
    value = collections.OrderedDict(
        train={"video_00000.mp4": first.astype(">f8"), "video_00001.mp4": np.asfortranarray(first)},
        val=collections.OrderedDict([("video_10000.mp4", first.astype(np.float16))]),
    )
    store = SlotStore.open(dump(tmp_path, value), cache=Cache(tmp_path))
    np.testing.assert_array_equal(store.split("train").slots, np.stack([first, first]))
    np.testing.assert_array_equal(store.split("validation").slots[0], first.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_one_array_under_two_names(tmp_path: Path, protocol: int) -> None:
    value = tree()
    value["val"]["video_10002.mp4"] = value["train"]["video_00000.mp4"]
    value["test"]["video_15001.mp4"] = value["val"]["video_10000.mp4"]
    store = SlotStore.open(dump(tmp_path, value, protocol=protocol), cache=Cache(tmp_path))
    assert store.split("validation").videos.tolist() == [10000, 10799, 10801, 10002]
    np.testing.assert_array_equal(store.split("validation").slots[3], slots(0))
    np.testing.assert_array_equal(store.split("test").slots, np.stack([slots(15000), slots(10000)]))


def test_the_conversion_is_done_once_until_the_pickle_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cache = dump(tmp_path, tree()), Cache(tmp_path / "home")
    first = SlotStore.open(path, cache=cache).folder
    monkeypatch.setattr(slots_store, "convert", lambda *_: pytest.fail("converted again"))
    assert SlotStore.open(path, cache=cache).folder == first
    monkeypatch.undo()
    value = tree()
    value["train"]["video_00000.mp4"] = value["train"]["video_00000.mp4"] + 1
    second = SlotStore.open(dump(tmp_path, value), cache=cache)
    assert second.folder != first
    np.testing.assert_array_equal(second.split("train").slots[1], slots(0) + 1)


def _open(arguments: tuple[Path, Path]) -> float:
    path, home = arguments
    return float(SlotStore.open(path, cache=Cache(home)).split("train").slots.sum(dtype=np.float64))


def test_processes_share_one_store(tmp_path: Path) -> None:
    path, home = dump(tmp_path, tree()), tmp_path / "home"
    with multiprocessing.get_context("fork").Pool(4) as pool:
        sums = pool.map(_open, [(path, home)] * 8)
    assert len(set(sums)) == 1
    assert len([entry for entry in (home / "cache" / STAGE).iterdir() if not entry.name.startswith(".")]) == 1


# Growth of the peak memory while a pickle is converted; Python and numpy themselves are not counted. (The system counts
# `ru_maxrss` on from the parent process; this figure starts with the program.)
CONVERT = """
import sys
from pathlib import Path
from ocwm_tasks.clevrer.slots_store import SlotStore, convert
status = lambda: Path("/proc/self/status").read_text().split("VmHWM:")[1]
peak = lambda: int(status().split()[0]) / 1024
before = peak()
convert(Path(sys.argv[1]), Path(sys.argv[2]))
print(peak() - before)
"""
# A genuine pickle of as many megabytes as asked for.
PICKLE = """
import pickle, sys
import numpy as np
block = np.random.default_rng(0).normal(size=(128, 7, 128)).astype(np.float32)
count = int(sys.argv[3]) * 1000**2 // block.nbytes
videos = {f"video_{i:05d}.mp4": block + np.float32(i) for i in range(count)}
with open(sys.argv[1], "wb") as file:
    pickle.dump({"train": videos}, file, protocol=int(sys.argv[2]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_large_pickle_is_converted_in_constant_memory(tmp_path: Path, protocol: int) -> None:
    path, folder = tmp_path / "large.pkl", tmp_path / "store"
    folder.mkdir()
    megabytes = 220 if protocol == 2 else 300  # the text of protocol 2 takes 1.4 times the room of the arrays
    subprocess.run([sys.executable, "-c", PICKLE, str(path), str(protocol), str(megabytes)], check=True)
    assert path.stat().st_size > 290e6
    output = subprocess.run(
        [sys.executable, "-c", CONVERT, str(path), str(folder)], check=True, capture_output=True, text=True
    ).stdout
    print(f"protocol {protocol}: {path.stat().st_size / 1e6:.0f} MB, peak memory grew by {float(output):.1f} MB")
    assert float(output) < GROWTH_LIMIT_MB
    train = SlotStore(folder).split("train")
    np.testing.assert_array_equal(train.slots[-1] - train.slots[0] > len(train.videos) - 1.01, True)


def test_a_written_pickle_is_a_plain_one(tmp_path: Path) -> None:
    for keys in ("video", "pixels"):
        path = tmp_path / f"rollout_{keys}.pkl"
        videos = {"train": [0, 12], "validation": [10000], "test": [15000]}
        write_pickle(path, {name: ((i, slots(i)) for i in indices) for name, indices in videos.items()}, keys=keys)
        loaded = pickle.loads(path.read_bytes())
        assert list(loaded) == ["train", "val", "test"]
        names = ["video_00000.mp4", "video_00012.mp4"] if keys == "video" else ["0_pixels.mp4", "12_pixels.mp4"]
        assert list(loaded["train"]) == names
        array = loaded["train"][names[1]]
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, slots(12))
        store = SlotStore.open(path, cache=Cache(tmp_path))
        np.testing.assert_array_equal(store.split("validation").slots[0], slots(10000))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["cache", "rollout_pixels.pkl", "rollout_video.pkl"]


def test_a_failing_writer_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="unknown split 'dev'"):
        write_pickle(tmp_path / "x.pkl", {"dev": []}, keys="video")
    with pytest.raises(BenchError, match="video 4 have shape"):
        write_pickle(tmp_path / "x.pkl", {"train": [(4, slots(0)[0])]}, keys="video")
    assert not list(tmp_path.iterdir())


class Foreign:
    pass


def changed(**entries: Any) -> dict[str, dict[str, Any]]:
    value = tree()
    value["train"].update(entries.pop("train", {}))
    return {**value, **entries}


BAD = {
    "class": (changed(train={"video_00009.mp4": Foreign()}), r"slots\.pkl holds '.*Foreign', which is refused"),
    "length": (changed(train={"video_00009.mp4": slots(0)[:5]}), r"'video_00009\.mp4' has shape \(5, 3, 16\).*\(8, "),
    "rank": (changed(train={"video_00009.mp4": slots(0)[0]}), r"'video_00009\.mp4' has shape \(3, 16\)"),
    "dtype": (changed(train={"video_00009.mp4": np.zeros(SHAPE, np.int64)}), r"'video_00009\.mp4' has dtype int64"),
    "finite": (changed(train={"video_00009.mp4": slots(0) * np.nan}), r"'video_00009\.mp4' holds values.*not finite"),
    "key": (changed(train={"clip_9.mp4": slots(0)}), r"\['train'\]\['clip_9\.mp4'\] does not name a video"),
    "mixed": (changed(train={"9_pixels.mp4": slots(0)}), r"\['train'\]\['9_pixels\.mp4'\] does not name a video"),
    "twice": (changed(train={"video_3.mp4": slots(0)}), "'train' names a video twice"),
    "value": (changed(train={"video_00009.mp4": 1.5}), r"\['train'\]\['video_00009\.mp4'\] is no array"),
    "split": (changed(dev={}), "holds the split 'dev'"),
    "flat": ({"video_00000.mp4": slots(0)}, "holds no splits"),
    "empty": ({"train": {}}, "holds no slots"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_pickles_are_named_and_leave_nothing(tmp_path: Path, case: str) -> None:
    value, message = BAD[case]
    cache = Cache(tmp_path / "home")
    with pytest.raises(BenchError, match=message) as caught:
        SlotStore.open(dump(tmp_path, value), cache=cache)
    assert "\n" not in str(caught.value)
    assert not [entry for entry in (cache.home / "cache" / STAGE).iterdir() if entry.suffix != ".lock"]


def test_truncated_and_missing_pickles(tmp_path: Path) -> None:
    path = dump(tmp_path, tree())
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(BenchError, match=r"slots\.pkl ends early: it is truncated"):
        SlotStore.open(path, cache=Cache(tmp_path))
    with pytest.raises(BenchError, match=r"absent\.pkl: No such file"):
        SlotStore.open(tmp_path / "absent.pkl", cache=Cache(tmp_path))


def test_slots_of_another_size_than_configured(tmp_path: Path) -> None:
    store = SlotStore.open(dump(tmp_path, tree()), cache=Cache(tmp_path))
    store.expect(num_slots=3, slot_dim=16, frames=(8, 10))
    with pytest.raises(BenchError, match=r"are 3 x 16 .* says 7 x 16"):
        store.expect(num_slots=7, slot_dim=16, frames=(8,))
    with pytest.raises(BenchError, match=r"are 3 x 16 .* says 3 x 128"):
        store.expect(num_slots=3, slot_dim=128, frames=(8,))
    with pytest.raises(BenchError, match="have 8 frames a video, expected 128 or 160"):
        store.expect(num_slots=3, slot_dim=16, frames=(128, 160))
    with pytest.raises(BenchError, match=r"no split 'trian'.*'train'"):
        store.split("trian")


def test_a_damaged_store_is_named(tmp_path: Path) -> None:
    cache, path = Cache(tmp_path / "home"), dump(tmp_path, tree())
    folder = SlotStore.open(path, cache=cache).folder
    data = folder / "slots.f32"
    data.write_bytes(data.read_bytes()[:-4])
    with pytest.raises(BenchError, match="damaged"):
        SlotStore(folder)
    with pytest.raises(BenchError, match=rf"{folder}.*--rebuild"):
        SlotStore.open(path, cache=cache)
    check(SlotStore.open(path, cache=cache, rebuild=True))
    with pytest.raises(BenchError, match="can't be read"):
        SlotStore(tmp_path)
