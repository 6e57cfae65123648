"""Checkpoints: what goes in comes out, and a bad file or disk loses nothing."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ocwm import checkpoint
from ocwm.errors import BenchError
from ocwm.whole_files import remove_partial

TENSORS = {
    "float": torch.linspace(-1, 1, 7),
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "scalar": torch.tensor(3.0, dtype=torch.float64),
    "empty": torch.zeros(0, 4),
    "bytes": torch.arange(256, dtype=torch.uint8),
    "flags": torch.tensor([True, False]),
    "turned": torch.arange(6).reshape(2, 3).T,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "model.safetensors"


def test_round_trip(path: Path) -> None:
    meta = {"step": 3, "rate": 0.1 + 0.2, "curve": [{"loss": float("nan")}, {"loss": 1e-300}], "text": "ü", "no": None}
    shared = torch.ones(3)
    checkpoint.save(path, {**TENSORS, "tied.a": shared, "tied.b": shared}, meta)
    loaded = checkpoint.load(path)
    assert repr(loaded.meta) == repr(meta)
    assert loaded.tensors.keys() == {*TENSORS, "tied.a", "tied.b"}
    for name, value in TENSORS.items():
        assert loaded.tensors[name].dtype == value.dtype
        assert torch.equal(loaded.tensors[name], value), name
    assert set(loaded.group("tied.")) == {"a", "b"}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_saving_does_not_alias_the_callers_tensors(path: Path) -> None:
    values = torch.zeros(3)
    checkpoint.save(path, {"x": values}, {})
    values += 1
    assert torch.equal(checkpoint.load(path).tensors["x"], torch.zeros(3))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_named(path: Path, share: float) -> None:
    checkpoint.save(path, TENSORS, {"step": 1})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BenchError, match=r"damaged checkpoint .*model\.safetensors.*--rebuild"):
        checkpoint.load(path)


def test_every_changed_byte_is_noticed(path: Path) -> None:
    checkpoint.save(path, {"x": torch.arange(4, dtype=torch.float32)}, {"step": 1})
    content = path.read_bytes()
    for position in range(0, len(content), 5):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(BenchError, match="checkpoint"):
            checkpoint.load(path)


def test_missing_and_foreign_files_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no checkpoint at"):
        checkpoint.load(tmp_path / "none.safetensors")
    save_file({"x": torch.ones(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(BenchError, match="no checkpoint of this program"):
        checkpoint.load(tmp_path / "foreign.safetensors")


@pytest.mark.parametrize(
    ("number", "message"), [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "the disk is full")]
)
def test_a_full_disk_keeps_the_checkpoint_from_before(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    checkpoint.save(path, TENSORS, {"step": 1})

    def full(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BenchError, match=rf"{message}.*model\.safetensors.*from before is kept") as error:
        checkpoint.save(path, TENSORS, {"step": 2})
    assert "\n" not in str(error.value)
    assert checkpoint.load(path).meta == {"step": 1}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_write_that_the_system_cuts_short_keeps_the_checkpoint_from_before(path: Path) -> None:
    checkpoint.save(path, TENSORS, {"step": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(BenchError, match=r"could not write .*File too large"):
            checkpoint.save(path, {"big": torch.zeros(10_000)}, {"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert checkpoint.load(path).meta == {"step": 1}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_what_a_killed_writer_left_is_removed(path: Path) -> None:
    checkpoint.save(path, TENSORS, {})
    (path.parent / ".model.safetensors.4242.tmp").write_bytes(b"half")
    (path.parent / ".other.safetensors.4242.tmp").write_bytes(b"half")
    remove_partial(path)
    assert {file.name for file in path.parent.iterdir()} == {path.name, ".other.safetensors.4242.tmp"}


def test_weights_must_fit_exactly() -> None:
    weights = nn.Linear(3, 2).state_dict()
    model = nn.Linear(3, 2)
    checkpoint.load_weights(model, weights, source="file.safetensors")
    assert torch.equal(model.weight, weights["weight"])
    with pytest.raises(BenchError, match=r"file\.safetensors lacks weight 'bias' for Linear"):
        checkpoint.load_weights(model, {"weight": weights["weight"]}, source="file.safetensors")
    with pytest.raises(BenchError, match="unknown weight 'more' and 1 more"):
        checkpoint.load_weights(model, {**weights, "more": torch.ones(1), "most": torch.ones(1)}, source="f")
    with pytest.raises(BenchError, match=r"'weight' is \(5, 2\), not \(2, 3\)"):
        checkpoint.load_weights(model, {**weights, "weight": torch.ones(5, 2)}, source="f")


def test_the_same_content_is_the_same_file(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.safetensors" for i in range(8)]
    for file in files:
        checkpoint.save(
            file,
            {"b": torch.arange(3), "a": torch.ones(2, 2), "é": torch.zeros(1, dtype=torch.bool)},
            {"x": "ü", "y": 2},
        )
    assert len({file.read_bytes() for file in files}) == 1
