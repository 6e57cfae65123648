from __future__ import annotations

import errno
import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ocwm.errors import BenchError
from ocwm.store import Record, find_records, read_items, read_record, read_records, write_record

SAMPLE = Record(
    id="0123456789ab",
    repeat=1,
    created="2026-01-01T00:00:00+00:00",
    method="linear",
    kind="method",
    privileged="none",
    task="circles",
    encoder="passthrough",
    encoder_reads="state",
    preset="mini",
    seeds={"data": 0, "encoder": 0, "model": 0, "reasoner": 0, "eval": 0},
    overrides=[],
    config={"method": {"hidden": 8}},
    identity={"schema": 1},
    data={"kind": "embedded", "name": "circles", "manifest": "abc"},
    split={"name": "test", "hash": "def"},
    section={"data": "embedded", "encoder_reads": "state", "preset": "mini", "protocol": ""},
    metrics={"error": {"value": 0.5, "low": None, "high": None, "n": 3, "unit": "", "higher_is_better": False}},
    notes={},
    warnings=[],
    collapsed=[],
    curves={"train": [{"step": 1, "loss": 0.5}]},
    costs={"total": {"seconds": 1.0, "cached": False, "peak_memory_mb": 10.0}},
    provenance={"commit": None, "dirty": None},
)
ITEMS = {"error": np.array([0.1, 0.2, 0.3])}


def leftovers(folder: Path) -> list[Path]:
    return list(folder.rglob(".*"))


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = write_record(tmp_path, SAMPLE, items=ITEMS)
    assert path == tmp_path / "runs" / "circles" / "linear" / "0123456789ab.json"
    record = read_record(path)
    assert record == SAMPLE
    assert record.path == path
    assert list(json.loads(path.read_text()))[:2] == ["schema", "id"]
    np.testing.assert_array_equal(read_items(record)["error"], ITEMS["error"])
    assert leftovers(tmp_path) == []


def test_a_record_is_never_overwritten(tmp_path: Path) -> None:
    path = write_record(tmp_path, SAMPLE, items=ITEMS)
    with pytest.raises(BenchError, match="exists and is never overwritten"):
        write_record(tmp_path, replace(SAMPLE, notes={"other": 1}), items={"error": np.zeros(1)})
    assert read_record(path) == SAMPLE
    assert len(read_items(read_record(path))["error"]) == 3
    assert leftovers(tmp_path) == []


def test_one_of_many_writers_wins(tmp_path: Path) -> None:
    results: list[str] = []

    def write(index: int) -> None:
        try:
            write_record(tmp_path, replace(SAMPLE, notes={"writer": index}))
            results.append("won")
        except BenchError:
            results.append("lost")

    threads = [threading.Thread(target=write, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["lost"] * 7 + ["won"]


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    path = write_record(tmp_path, SAMPLE)
    assert read_record(path) == SAMPLE
    with pytest.raises(BenchError, match="never overwritten"):
        write_record(tmp_path, SAMPLE)


def test_repeats_stand_beside_the_first(tmp_path: Path) -> None:
    write_record(tmp_path, replace(SAMPLE, repeat=2))
    write_record(tmp_path, SAMPLE, items=ITEMS)
    write_record(tmp_path, replace(SAMPLE, id="ffffffffffff"))
    found = find_records(tmp_path, task="circles", method="linear", run_id=SAMPLE.id)
    assert [record.repeat for record in found] == [1, 2]
    assert found[1].path is not None
    assert found[1].path.name == "0123456789ab.r2.json"
    assert found[1].items_path is None
    assert [(record.id, record.repeat) for record in read_records(tmp_path)] == [
        (SAMPLE.id, 1),
        (SAMPLE.id, 2),
        ("ffffffffffff", 1),
    ]
    with pytest.raises(BenchError, match="has no per-item outcomes"):
        read_items(found[1])


def test_no_records_yet(tmp_path: Path) -> None:
    assert read_records(tmp_path / "nothing") == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "is damaged"),
        (lambda text: "[]", "is no run record"),
        (lambda text: "{}", "is no run record"),
        (lambda text: text.replace('"schema": 1', '"schema": 99', 1), "has schema version 99; this version reads 1"),
        (lambda text: text.replace('"metrics"', '"metrix"'), "lacks metrics"),
        (lambda text: text.replace('"notes": {}', '"notes": {}, "extra": 1'), "unknown keys: extra"),
        (lambda text: text.replace('"repeat": 1', '"repeat": "one"'), "'repeat' is no int"),
        (lambda text: text.replace('"repeat": 1', '"repeat": 2'), "says that it is 0123456789ab, repeat 2"),
    ],
)
def test_an_unreadable_record_is_an_error_with_its_path(tmp_path: Path, change: object, message: str) -> None:
    path = write_record(tmp_path, SAMPLE)
    path.write_text(change(path.read_text()))  # type: ignore[operator]
    with pytest.raises(BenchError, match=message) as caught:
        read_records(tmp_path)
    assert str(path) in str(caught.value)


def test_damaged_items_are_named(tmp_path: Path) -> None:
    path = write_record(tmp_path, SAMPLE, items=ITEMS)
    items = path.with_name("0123456789ab.items.npz")
    items.write_bytes(items.read_bytes()[:40])
    with pytest.raises(BenchError, match=r"items.npz are damaged"):
        read_items(read_record(path))


@pytest.mark.parametrize("items", [None, ITEMS])
def test_a_full_disk_is_said_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, items: dict[str, np.ndarray] | None
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BenchError, match=r"can't write the record .*: No space left on device") as caught:
        write_record(tmp_path, SAMPLE, items=items)
    assert "finished stages are kept" in caught.value.hint
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    monkeypatch.undo()
    assert read_record(write_record(tmp_path, SAMPLE, items=items)) == SAMPLE


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="not finite"):
        write_record(tmp_path, replace(SAMPLE, notes={"x": float("nan")}))


@pytest.mark.parametrize("name", sorted(SAMPLE.to_json().keys() - {"schema"}))
def test_every_field_is_checked_on_reading(tmp_path: Path, name: str) -> None:
    path = write_record(tmp_path, SAMPLE)
    path.write_text(json.dumps({**json.loads(path.read_text()), name: None}))
    with pytest.raises(BenchError, match=f"is damaged: '{name}' is no "):
        read_record(path)
