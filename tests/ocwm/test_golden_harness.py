"""The comparison behind tests/parity: it fails when it should."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

SOURCE = Path(__file__).parents[1] / "parity" / "golden.py"


@pytest.fixture
def vector(tmp_path: Path) -> Iterator[Any]:
    spec = importlib.util.spec_from_file_location("golden_under_test", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    meta = {"config": {"dim": 3}, "tolerance": {"atol": 1e-3, "rtol": 0.0, "per_tensor": {"out.loose": 0.1}}}
    (tmp_path / "some.json").write_text(json.dumps(meta))
    tensors = {"w.a.weight": torch.ones(2), "out.x": torch.tensor([1.0, -2.0]), "out.loose": torch.tensor(0.0)}
    save_file({**tensors, "out.index": torch.tensor([3000])}, tmp_path / "some.safetensors")
    yield module.Golden.load(tmp_path, "some")
    del sys.modules[spec.name]


def test_within_the_tolerance_it_agrees(vector: Any) -> None:
    assert vector.config == {"dim": 3}
    assert set(vector.weights) == {"a.weight"}
    vector.compare("out.x", torch.tensor([1.0009, -2.0]))
    vector.compare("out.loose", 0.09)
    assert vector.unchecked() == ["out.index"]
    vector.waive("out.index", "not ours")
    assert vector.unchecked() == []
    vector.compare(
        "json", {"a": [1, 2.0], "b": [[1], [2, 3]], "c": "x"}, {"a": [1, 2.0005], "b": [[1], [2, 3]], "c": "x"}
    )


@pytest.mark.parametrize(
    ("name", "actual", "expected", "message"),
    [
        ("out.x", torch.tensor([1.0011, -2.0]), None, "1 of 2 values differ"),
        ("out.x", torch.tensor([[1.0, -2.0]]), None, "shape"),
        ("out.x", torch.tensor([1.0, float("nan")]), None, "differ"),
        ("out.loose", torch.tensor(0.11), None, "differ"),
        ("out.index", torch.tensor([3001]), None, "3001 instead of 3000"),
        ("json", {"a": 1}, {"a": 1, "b": 2}, "keys"),
        ("json", ["x"], ["y"], "expected 'y'"),
        ("json", [[1]], [[1], [2, 3]], "1 items, not 2"),
        ("json", "2", 2, "expected numbers"),
    ],
)
def test_beyond_it_says_where(vector: Any, name: str, actual: Any, expected: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        vector.compare(name, actual, expected)
