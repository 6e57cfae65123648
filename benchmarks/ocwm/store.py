"""Run records: one JSON file for each finished run, written once, read strictly.

Path: `<results>/runs/<task>/<method>/<id>.json`, repeats `<id>.r2.json`; the per-item outcomes lie beside it as
`<id>.items.npz`.
"""

from __future__ import annotations

import gc
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from ocwm.errors import BenchError

SCHEMA = 1
_FILE_NAME = re.compile(r"(?P<id>[0-9a-f]{12})(?:\.r(?P<repeat>[0-9]+))?\.json")


@dataclass(frozen=True, kw_only=True)
class Record:
    """One finished run; the fields are the keys of the JSON file.

    Attributes:
        id: identity of the run (12 hexadecimal digits); `repeat` is 1 for its first record.
        created: UTC time, ISO 8601.
        kind: "method" or "reference".
        privileged: the input that no method may read ("none" for methods).
        encoder_reads: "state" or "pixels".
        overrides: what the user changed against the preset; of a path only the last part (see `places`).
        config: the resolved configuration, with paths likewise.
        identity: what the id is the hash of.
        data: {"kind", "name", "manifest"}.
        split: {"name", "hash"}.
        section: {"data", "encoder_reads", "preset", "protocol"}: records of different sections share no table.
        metrics: key -> {"value", "low", "high", "n", "unit", "higher_is_better", "interval"}, in table order.
        collapsed: keys of metrics that stand at their floor.
        costs: stage -> {"seconds", "cached", "peak_memory_mb", ...}.
        provenance: commit, dirty flag, versions, machine, threads, device.
        path: where the record was read from; not in the file.
    """

    id: str
    repeat: int
    created: str
    method: str
    kind: str
    privileged: str
    task: str
    encoder: str
    encoder_reads: str
    preset: str
    seeds: Mapping[str, int]
    overrides: list[str]
    config: Mapping[str, Any]
    identity: Mapping[str, Any]
    data: Mapping[str, str]
    split: Mapping[str, str]
    section: Mapping[str, str]
    metrics: Mapping[str, Mapping[str, Any]]
    notes: Mapping[str, Any]
    warnings: list[str]
    collapsed: list[str]
    curves: Mapping[str, list[Mapping[str, float]]]
    costs: Mapping[str, Mapping[str, Any]]
    provenance: Mapping[str, Any]
    schema: int = SCHEMA
    path: Path | None = field(default=None, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return what is written to the file."""
        content = asdict(self)
        del content["path"]
        return {"schema": content.pop("schema"), **content}

    @property
    def items_path(self) -> Path | None:
        """Where the per-item outcomes lie, where the record has some."""
        if self.path is None:
            return None
        items = self.path.with_name(self.path.name.removesuffix(".json") + ".items.npz")
        return items if items.exists() else None


_KINDS = {"str": str, "int": int, "list": list, "Mapping": dict}
_REQUIRED = {f.name: _KINDS[str(f.type).partition("[")[0]] for f in fields(Record) if f.name != "path"}


def folder_of(results: Path, *, task: str, method: str) -> Path:
    """Return the folder for records of a method on a task."""
    return results / "runs" / task / method


def find_records(results: Path, *, task: str, method: str, run_id: str) -> list[Record]:
    """Return the record of a run and its repeats, first to last."""
    folder = folder_of(results, task=task, method=method)
    found = [read_record(path) for path in folder.glob(f"{run_id}*.json") if _FILE_NAME.fullmatch(path.name)]
    return sorted(found, key=lambda record: record.repeat)


def write_record(results: Path, record: Record, *, items: Mapping[str, np.ndarray] | None = None) -> Path:
    """Write a record, with the per-item outcomes beside it, and return its path.

    The record appears complete or not at all, and an existing one is never overwritten.

    Raises:
        BenchError: the record exists, or the folder can't be written to.
    """
    folder = folder_of(results, task=record.task, method=record.method)
    stem = record.id if record.repeat == 1 else f"{record.id}.r{record.repeat}"
    path = folder / f"{stem}.json"
    try:
        text = json.dumps(record.to_json(), indent=1, allow_nan=False) + "\n"
    except ValueError as error:
        raise BenchError(f"the result of run {record.id} holds a number that is not finite: {error}") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if items and not path.exists():
            _publish(folder / f"{stem}.items.npz", items, replace=True)
        _publish(path, text, replace=False)
    except FileExistsError as error:
        raise BenchError(f"the record {path} exists and is never overwritten", "Use --force for a new one.") from error
    except OSError as error:
        raise BenchError(
            f"can't write the record {path}: {error.strerror or error}",
            "Mend that and start the same command again: finished stages are kept.",
        ) from error
    return path


def _publish(path: Path, content: str | Mapping[str, np.ndarray], *, replace: bool) -> None:
    """Write to a temporary file beside `path`, then give it its name; FileExistsError unless `replace`."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-", suffix=path.suffix)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            if isinstance(content, str):
                file.write(content.encode())
            else:
                np.savez_compressed(file, allow_pickle=False, **content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        if replace:
            temporary.replace(path)
        else:
            _link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _link(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links: exclusive creation still lets one writer win.
        with path.open("xb") as file:
            file.write(temporary.read_bytes())


def read_record(path: Path) -> Record:
    """Read one record.

    Raises:
        BenchError: the file can't be read, is no record, or is of another schema version.
    """
    hint = "Restore or delete it."
    try:
        content = orjson.loads(path.read_bytes())
    except OSError as error:
        raise BenchError(f"can't read the record {path}: {error.strerror or error}", hint) from error
    except ValueError as error:
        raise BenchError(f"the record {path} is damaged: {error}", hint) from error
    if not isinstance(content, dict) or "schema" not in content:
        raise BenchError(f"{path} is no run record (it has no schema version)", hint)
    if content["schema"] != SCHEMA:
        raise BenchError(
            f"the record {path} has schema version {content['schema']}; this version reads {SCHEMA}",
            "Update ocwm-bench.",
        )
    if missing := _REQUIRED.keys() - content.keys():
        raise BenchError(f"the record {path} lacks {', '.join(sorted(missing))}", hint)
    if unknown := content.keys() - _REQUIRED.keys():
        raise BenchError(f"the record {path} has unknown keys: {', '.join(sorted(unknown))}", hint)
    for name, kind in _REQUIRED.items():
        if not isinstance(content[name], kind):
            raise BenchError(f"the record {path} is damaged: '{name}' is no {kind.__name__}", hint)
    named = _FILE_NAME.fullmatch(path.name)
    if named is None or named["id"] != content["id"] or int(named["repeat"] or 1) != content["repeat"]:
        raise BenchError(f"the record {path} says that it is {content['id']}, repeat {content['repeat']}", hint)
    return Record(**content, path=path)


def read_records(results: Path) -> list[Record]:
    """Read every record below a results folder, sorted by task, method, id and repeat.

    Raises:
        BenchError: a record can't be read; nothing is skipped silently.
    """
    collecting = gc.isenabled()
    gc.disable()  # nothing of what is read here is garbage, and looking for some takes half of the time
    try:
        found = [read_record(Path(name)) for name in sorted(map(str, (results / "runs").glob("*/*/*.json")))]
        gc.freeze()  # nor is it later: records have no cycles, and whoever tabulates them keeps all of them
    finally:
        if collecting:
            gc.enable()
    return sorted(found, key=lambda record: (record.task, record.method, record.id, record.repeat))


def read_items(record: Record) -> dict[str, np.ndarray]:
    """Read the per-item outcomes of a record.

    Raises:
        BenchError: the record has none, or the file is damaged.
    """
    path = record.items_path
    if path is None:
        raise BenchError(f"the record {record.path or record.id} has no per-item outcomes beside it")
    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise BenchError(f"the per-item outcomes {path} are damaged: {error}", "Restore the file.") from error
