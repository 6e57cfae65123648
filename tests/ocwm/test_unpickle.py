from __future__ import annotations

import collections
import importlib
import io
import os
import pickle
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ocwm.errors import BenchError
from ocwm.pickle_builders import Record
from ocwm.pickle_machine import FileSource, PickleMachine
from ocwm.unpickle import load_pickle, load_torch, stream_arrays

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def arrays() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    block = generator.normal(size=(5, 3, 4)).astype(np.float32)
    return {
        "plain": block,
        "transposed": block.T,
        "permuted": block.transpose(1, 0, 2),
        "strided": block[:, ::2],
        "big_endian": block.astype(">f8"),
        "half": block.astype(np.float16),
        "integers": np.arange(7, dtype=np.int64),
        "truth": np.array([True, False]),
        "text": np.array(["a", "bcd"]),
        "empty": np.zeros((0, 3), np.float32),
        "scalar_array": np.array(2.5),
    }


def same(left: Any, right: Any) -> bool:
    if isinstance(left, np.ndarray | np.generic):
        return bool(left.dtype == right.dtype and left.shape == right.shape and (left == right).all())
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return type(left) is type(right) and len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def dump(tmp_path: Path, value: Any, *, protocol: int) -> Path:
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_and_containers_come_back(tmp_path: Path, protocol: int) -> None:
    shared = [1, 2]
    value = {
        "arrays": arrays(),
        "ordered": collections.OrderedDict([("b", 1), ("a", None)]),
        "sets": [{1, 2}, frozenset({3})],
        "plain": [True, False, -1, 300, 2**40, -(2**70), 1.5, "é", b"\x00\xff" * 200, b"", 2j, (), (1,), (1, 2, 3, 4)],
        "number": np.float32(1.25),
        "shared": [shared, shared],
        "bytes": bytearray(b"ab"),
    }
    loaded = load_pickle(dump(tmp_path, value, protocol=protocol))
    assert same(value, loaded)
    assert loaded["shared"][0] is loaded["shared"][1]
    assert type(loaded["ordered"]) is dict
    loaded["arrays"]["plain"][0] = 0  # writeable


def test_numpy_1_names_are_known(tmp_path: Path) -> None:
    data = pickle.dumps(arrays(), 2)
    assert b"numpy._core" in data
    path = tmp_path / "old.pkl"
    path.write_bytes(data.replace(b"numpy._core", b"numpy.core"))
    assert same(arrays(), load_pickle(path))


def test_bytes_of_python_2(tmp_path: Path) -> None:
    data = pickle.dumps(np.arange(4, dtype=np.float32), 3)
    raw = np.arange(4, dtype=np.float32).tobytes()
    path = tmp_path / "python2.pkl"
    path.write_bytes(data.replace(b"C" + bytes([len(raw)]) + raw, b"U" + bytes([len(raw)]) + raw))
    assert same(np.arange(4, dtype=np.float32), load_pickle(path))


class Foreign:
    def __init__(self) -> None:
        self.x = 1


class Runs:
    def __reduce__(self) -> Any:
        return os.system, ("touch was_run",)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_foreign_classes_are_refused_by_name(tmp_path: Path, protocol: int) -> None:
    for value, name in ((Foreign(), "Foreign"), (Runs(), "system"), (np.array([Foreign()]), "'O8'"), (print, "print")):
        path = dump(tmp_path, {"slots": [value]}, protocol=protocol)
        with pytest.raises(BenchError, match=r"file\.pkl.*" + name):
            load_pickle(path)


def test_nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BenchError):
        load_pickle(dump(tmp_path, Runs(), protocol=2))
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"(S'ls'\nios\nsystem\n.", "os.system"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "builtins.eval"),
        (b"cnumpy\nndarray\n(K\x05tR.", "refused"),
        (b"c_codecs\nencode\n(V1\nVrot13\ntR.", "rot13"),
        (b"cnumpy\ndtype\n(VO\ntR.", "dtype"),
        (b"cnumpy\ndtype\n(Vf4,O\ntR.", "dtype"),
        (b"cbuiltins\nset\n}b.", "state of"),
        (b"\x80\x02K\x01Q.", "persistent id|damaged"),
        (b"\x80\x02\x82\x01.", "EXT1|1"),
    ],
)
def test_crafted_pickles(tmp_path: Path, data: bytes, name: str) -> None:
    path = tmp_path / "crafted.pkl"
    path.write_bytes(data)
    with pytest.raises(BenchError, match=name):
        load_pickle(path)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_truncated_pickles(tmp_path: Path, protocol: int) -> None:
    data = pickle.dumps({"slots": np.arange(100, dtype=np.float32)}, protocol)
    path = tmp_path / "cut.pkl"
    for length in (0, 1, 2, len(data) // 3, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(BenchError, match=r"cut\.pkl.*(truncated|damaged)"):
            load_pickle(path)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(BenchError, match="truncated"):
        load_pickle(path)


def test_garbage_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "text.pkl"
    path.write_text("hello, this is no pickle\n")
    with pytest.raises(BenchError, match=r"text\.pkl is no pickle"):
        load_pickle(path)
    with pytest.raises(BenchError, match="Can't read"):
        load_pickle(tmp_path / "absent.pkl")


def test_a_huge_length_allocates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "huge.pkl"
    path.write_bytes(b"\x80\x04\x8e" + (2**60).to_bytes(8, "little") + b"abc.")
    with pytest.raises(BenchError, match="truncated"):
        load_pickle(path)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_stream_gives_arrays_with_their_names(protocol: int) -> None:
    block = np.random.default_rng(1).normal(size=(6, 40)).astype(np.float32)
    tree = {"train": {"a": block, "b": block + 1}, "val": {"c": block + 2}}
    tree["val"]["again"] = tree["train"]["a"]
    met: list[tuple[str | None, Any]] = []

    def sink(name: str | None, array: Any) -> int:
        met.append((name, array.copy()))
        return len(met) - 1

    data = pickle.dumps(tree, protocol)
    result = stream_arrays(io.BytesIO(data), size=len(data), where="here", sink=sink)
    assert result == {"train": {"a": 0, "b": 1}, "val": {"c": 2, "again": 0}}
    assert [name for name, _ in met] == ["a", "b", "c"]
    for number, (_, array) in enumerate(met):
        np.testing.assert_array_equal(array, block + number)


def tensors() -> dict[str, Any]:
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    state = torch.nn.Linear(3, 2).state_dict()  # an OrderedDict with attributes
    return {
        "base": base,
        "view": base[:, 1:3].T,
        "half": base.to(torch.bfloat16),
        "long": torch.tensor(7),
        "none": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(base.clone()),
        "state": state,
        "step": 3,
        "dtype": torch.float16,
        "size": base.shape,
        "array": base.numpy(),
    }


@pytest.mark.parametrize("kind", ["zip", "legacy", "plain"])
def test_torch_files(tmp_path: Path, kind: str) -> None:
    value = tensors()
    path = tmp_path / "model.ckpt"
    if kind == "plain":
        path.write_bytes(pickle.dumps(value, 4))
        loaded = load_pickle(path)
    else:
        torch.save(value, path, _use_new_zipfile_serialization=kind == "zip")
        loaded = load_torch(path)
    for name in ("base", "view", "half", "long", "none", "parameter"):
        assert torch.equal(loaded[name], value[name])
        assert loaded[name].dtype == value[name].dtype
        assert type(loaded[name]) is torch.Tensor
    assert all(torch.equal(loaded["state"][key], value["state"][key]) for key in value["state"])
    assert loaded["step"] == 3
    assert loaded["dtype"] is torch.float16
    assert loaded["size"] == (3, 4)
    np.testing.assert_array_equal(loaded["array"], value["array"])
    if kind != "plain":
        assert loaded["view"].untyped_storage().data_ptr() == loaded["base"].untyped_storage().data_ptr()


@pytest.mark.parametrize("new_format", [True, False])
def test_foreign_and_damaged_torch_files(tmp_path: Path, new_format: bool) -> None:
    path = tmp_path / "model.ckpt"
    torch.save({"model": torch.nn.Linear(2, 2)}, path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(BenchError, match=r"model\.ckpt holds 'torch\.nn\.modules\.linear\.Linear'"):
        load_torch(path)
    torch.save(tensors(), path, _use_new_zipfile_serialization=new_format)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BenchError, match=r"model\.ckpt.*(truncated|damaged|no file)"):
        load_torch(path)
    path.write_bytes(pickle.dumps([1]))
    with pytest.raises(BenchError, match=r"no file of torch\.save|truncated"):
        load_torch(path)


@pytest.fixture
def gone() -> Iterator[Callable[[], Any]]:
    """Return what makes a module of a class that only exists until the test asks for the file to be read."""
    package = types.ModuleType("gone_package")
    exec(  # so that the class lives in that package, as a third party's would
        """
import torch
class Settings(dict):
    pass
class Slotted:
    __slots__ = ("x",)
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())
        self.twice = self.inner[0]
        self.register_buffer("count", torch.tensor(5))
        self.register_buffer("mask", torch.ones(2), persistent=False)
        self.settings = Settings(width=3)
        self.slotted = Slotted()
        self.slotted.x = 1
        self.function = torch.nn.functional.relu
""",
        package.__dict__,
    )
    sys.modules["gone_package"] = package
    yield package.Model
    sys.modules.pop("gone_package", None)


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_objects_of_foreign_classes_come_as_records(tmp_path: Path, gone: Callable[[], Any], new_format: bool) -> None:
    model = gone()
    expected = model.state_dict()
    path = tmp_path / "model.ckpt"
    torch.save({"model": model}, path, _use_new_zipfile_serialization=new_format)
    del sys.modules["gone_package"]
    classes: set[str] = set()
    record = load_torch(path, foreign=classes)["model"]
    assert isinstance(record, Record)
    assert record.kind == "gone_package.Model"
    assert {"gone_package.Model", "gone_package.Settings", "gone_package.Slotted"} <= classes
    assert "gone_package" not in sys.modules
    attributes = record.attributes
    assert torch.equal(attributes["_buffers"]["count"], torch.tensor(5))
    linear = attributes["_modules"]["inner"].attributes["_modules"]["0"]
    assert linear is attributes["_modules"]["twice"]
    assert torch.equal(linear.attributes["_parameters"]["weight"], expected["inner.0.weight"])
    assert attributes["settings"].entries == {"width": 3}
    assert attributes["slotted"].attributes == {"x": 1}
    assert str(attributes["function"]) == "torch.nn.functional.relu"
    with pytest.raises(BenchError, match=r"gone_package\.(Model|Settings)|torch\.nn"):
        load_torch(path)


HARMFUL = (os.system, eval, exec, shutil.rmtree, subprocess.getoutput, subprocess.Popen, importlib.import_module)


@pytest.mark.parametrize("call", HARMFUL)
@pytest.mark.parametrize("new_format", [True, False])
def test_harmful_calls_are_refused_among_foreign_objects(tmp_path: Path, call: Any, new_format: bool) -> None:
    class Harmful:
        def __reduce__(self) -> Any:
            return call, (f"open({str(tmp_path / 'was_run')!r}, 'w')",)

    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": {"w": torch.zeros(1)}, "x": Harmful()}, path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(BenchError, match=rf"model\.ckpt holds '.*{call.__name__}', which is refused"):
        load_torch(path, foreign=set())
    assert not (tmp_path / "was_run").exists()


def test_unknown_calls_are_kept_and_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    package = types.ModuleType("gone_package")
    package.launch = lambda *arguments: made.append(arguments)  # type: ignore[attr-defined]
    package.launch.__module__, package.launch.__qualname__ = "gone_package", "launch"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gone_package", package)

    class Calls:
        def __reduce__(self) -> Any:
            return package.launch, (1, 2)

    path = tmp_path / "model.ckpt"
    torch.save({"x": Calls()}, path)
    classes: set[str] = set()
    record = load_torch(path, foreign=classes)["x"]
    assert (record.kind, record.arguments) == ("gone_package.launch", (1, 2))
    assert classes == {"gone_package.launch"}
    assert made == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_foreign_objects_of_every_protocol(protocol: int) -> None:
    classes: set[str] = set()
    data = pickle.dumps({"a": [Foreign(), Foreign()]}, protocol)
    found = PickleMachine(FileSource(io.BytesIO(data), size=len(data)), where="here", foreign=classes).run()
    assert [record.attributes for record in found["a"]] == [{"x": 1}, {"x": 1}]
    assert {name.rpartition(".")[2] for name in classes} == {"Foreign"}
