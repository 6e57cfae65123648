"""`bench import` of slot pickles: the folder is a store, and a failure leaves nothing behind."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ocwm.cli import main
from ocwm.errors import BenchError
from ocwm.importing import import_published
from ocwm_tasks.clevrer import importers
from ocwm_tasks.clevrer.precomputed import PrecomputedSlots
from ocwm_tasks.clevrer.slots_store import SlotStore


def slots(frames: int) -> dict[str, dict[str, Any]]:
    rng = np.random.default_rng(0)
    names = {"train": (0, 1), "val": (10000,), "test": (15000, 15001)}
    return {
        split: {f"{n}_pixels.mp4": rng.normal(size=(frames, 3, 4)).astype(np.float32) for n in numbers}
        for split, numbers in names.items()
    }


def write(path: Path, content: Any) -> Path:
    path.write_bytes(pickle.dumps(content, 2))
    return path


def test_a_pickle_becomes_the_store_that_encoders_read(tmp_path: Path) -> None:
    content = slots(128)
    facts = import_published(write(tmp_path / "clevrer_slots.pkl", content)).facts
    assert facts["kind"] == "slots"
    assert facts["videos"] == {"train": 2, "validation": 1, "test": 2}
    assert (facts["frames"], facts["num_slots"], facts["slot_dim"], facts["keys"]) == (128, 3, 4, "0_pixels.mp4")
    folder = Path(facts["output"])
    assert folder == tmp_path / "clevrer_slots.slots"
    assert f"encoder.slots={folder}" in facts["use"]
    assert not any("future" in text for text in facts["use"])
    store = SlotStore(folder)
    assert store.identity == facts["sha256"]
    np.testing.assert_array_equal(store.split("test").slots[1], content["test"]["15001_pixels.mp4"])
    assert PrecomputedSlots(slots=str(folder)).slot_dim == 4
    with pytest.raises(BenchError, match="exists already"):
        import_published(tmp_path / "clevrer_slots.pkl")
    import_published(write(tmp_path / "clevrer_slots.pkl", slots(160)), force=True)
    assert SlotStore(folder).shape == (160, 3, 4)
    assert {path.name for path in tmp_path.iterdir()} == {"clevrer_slots.pkl", "clevrer_slots.slots"}


def test_a_rollout_is_told_from_slots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "rollout.pkl", slots(160))
    assert main(["import", str(path), "--as", "slots", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["title"] == "a rollout of slots"
    assert "encoder.future=imagined" in facts["use"]
    assert "32 frames follow the 128 observed ones" in facts["notes"][0]
    short = import_published(write(tmp_path / "short.pkl", slots(20)))
    assert "WARNING: videos have 20 frames" in short.text


def test_what_the_slots_importer_refuses(tmp_path: Path) -> None:
    path = write(tmp_path / "slots.pkl", slots(128))
    with pytest.raises(BenchError, match="--as savi reads files of"):
        import_published(path, kind="savi")
    with pytest.raises(BenchError, match="--check-frames needs weights"):
        import_published(path, check=tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BenchError, match="truncated"):
        import_published(path)
    write(path, {"train": {"video_00000.mp4": np.zeros((128, 3, 4)), "x": 1}})
    with pytest.raises(BenchError, match=r"\['train'\]\['x'\] does not name a video"):
        import_published(path)
    assert {one.name for one in tmp_path.iterdir()} == {"slots.pkl"}


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "slots.pkl", slots(128))

    def full(_: Path, folder: Path) -> None:
        (folder / "slots.f32").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(importers, "convert", full)
    with pytest.raises(BenchError, match=r"could not write .*slots\.slots: the disk is full"):
        import_published(path)
    assert {one.name for one in tmp_path.iterdir()} == {"slots.pkl"}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_every_protocol_are_recognised(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "slots.pkl"
    path.write_bytes(pickle.dumps(slots(128), protocol))
    assert import_published(path).facts["kind"] == "slots"
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    path.write_bytes(buffer.getvalue())
    with pytest.raises(BenchError, match="is neither a file of"):
        import_published(path, force=True)
