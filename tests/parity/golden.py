"""Golden vectors: the published implementation's outputs on small random weights and inputs.

A vector is `NAME.json` (settings, meaning, `tolerance: {atol, rtol}`), mostly with `NAME.safetensors` beside it:
`w.<published key>` weights, `in.*` inputs, `out.*` outputs. The folder is the environment variable
`OCWM_GOLDEN_DIR`, default tests/golden.

To add a check, write a function and list it in a `checks_*.py` of this folder; nothing else has to be edited:

    from golden import Golden

    def check_predictor(golden: Golden) -> None:
        model = Predictor(dim=golden.config["slot_dim"], ...)       # every size comes from the vector
        model.load_state_dict(golden.weights)                       # the published names, strictly
        golden.compare("out.loss", model.loss(golden["in.clip"]))   # within the vector's tolerance

    CHECKS = {"cjepa_predictor": check_predictor}

The test fails when an `out.*` tensor was never compared. `golden.waive("out.x", reason)` is for an output that
has no counterpart here, and says so in the open. What stands in the JSON is compared by
`golden.compare("cases[0]", ours, expected)`: nested lists, dicts, numbers and texts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor


def golden_folder() -> Path:
    """Return the folder of the vectors; it must exist."""
    folder = Path(os.environ.get("OCWM_GOLDEN_DIR") or Path(__file__).parents[1] / "golden")
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of golden vectors at {folder} (environment variable OCWM_GOLDEN_DIR)")
    return folder


@dataclass(frozen=True)
class Golden:
    """One vector.

    Attributes:
        name: the vector's name.
        meta: the whole JSON.
        tensors: everything in the safetensors file, empty where there is none.
    """

    name: str
    meta: dict[str, Any]
    tensors: dict[str, Tensor]
    seen: set[str] = field(default_factory=set)

    @classmethod
    def load(cls, folder: Path, name: str) -> Golden:
        """Read `name` from `folder`."""
        arrays = folder / f"{name}.safetensors"
        meta = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        return cls(name=name, meta=meta, tensors=load_file(arrays) if arrays.exists() else {})

    def __getitem__(self, name: str) -> Tensor:
        """Return a copy of a tensor by its full name, e.g. `golden["in.slots"]`."""
        return self.tensors[name].clone()

    @property
    def config(self) -> dict[str, Any]:
        """The JSON's `config`, empty where there is none."""
        return dict(self.meta.get("config", {}))

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights under their published names (without `w.`)."""
        return self.group("w.")

    def group(self, prefix: str) -> dict[str, Tensor]:
        """Return copies of all tensors that start with `prefix`, by the rest of their names."""
        return {name[len(prefix) :]: value.clone() for name, value in self.tensors.items() if name.startswith(prefix)}

    def tolerance(self, name: str = "") -> tuple[float, float]:
        """Return (atol, rtol) for a tensor: the JSON's, or its own `per_tensor` absolute one."""
        tolerance = self.meta["tolerance"]
        atol = tolerance.get("per_tensor", {}).get(name, tolerance["atol"])
        return float(atol), float(tolerance["rtol"])

    def compare(self, name: str, actual: Any, expected: Any = None) -> None:
        """Assert that `actual` agrees with the published value.

        Args:
            name: a tensor of the vector, or, with `expected`, a label for messages.
            actual: tensor, array, number, text, or nested lists and dicts of them.
            expected: the published value where it is not the tensor `name`, e.g. from the JSON.

        Shapes, lengths, keys, texts, integers and booleans must be equal; floats agree within the vector's tolerance.
        """
        self.seen.add(name)
        self._compare(name, actual, self.tensors[name] if expected is None else expected, *self.tolerance(name))

    def waive(self, name: str, reason: str) -> None:
        """Say that the tensor `name` has no counterpart, and why."""
        assert name in self.tensors, f"{self.name}: no tensor {name}"
        assert reason, "a reason is needed"
        self.seen.add(name)

    def unchecked(self) -> list[str]:
        """Return the `out.*` tensors that were neither compared nor waived."""
        return sorted(name for name in self.tensors if name.startswith("out.") and name not in self.seen)

    def _compare(self, where: str, actual: Any, expected: Any, atol: float, rtol: float) -> None:
        if isinstance(expected, Mapping):
            assert isinstance(actual, Mapping), f"{self.name}: {where} is {type(actual).__name__}, expected a dict"
            assert set(actual) == set(expected), (
                f"{self.name}: {where} has keys {sorted(actual)}, not {sorted(expected)}"
            )
            for key, value in expected.items():
                self._compare(f"{where}.{key}", actual[key], value, atol, rtol)
        elif isinstance(expected, str) or expected is None:
            assert actual == expected, f"{self.name}: {where} is {actual!r}, expected {expected!r}"
        elif isinstance(expected, Sequence) and not _numeric(expected):
            assert len(actual) == len(expected), f"{self.name}: {where} has {len(actual)} items, not {len(expected)}"
            for index, (ours, theirs) in enumerate(zip(actual, expected, strict=True)):
                self._compare(f"{where}[{index}]", ours, theirs, atol, rtol)
        else:
            _compare_numbers(f"{self.name}: {where}", _array(actual), _array(expected), atol, rtol)


Check = Callable[[Golden], None]


def _numeric(values: Sequence[Any]) -> bool:
    """Whether nested lists hold nothing but numbers in a regular grid, so that they are an array."""
    try:
        return np.asarray(values).dtype.kind in "biuf"
    except ValueError:  # ragged
        return False


def _array(value: Any) -> np.ndarray:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = value.float() if value.dtype is torch.bfloat16 else value  # NumPy has no bfloat16
    return np.asarray(value)


def _compare_numbers(where: str, actual: np.ndarray, expected: np.ndarray, atol: float, rtol: float) -> None:
    assert actual.dtype.kind in "biuf", f"{where} holds {actual.dtype}, expected numbers"
    assert actual.shape == expected.shape, f"{where} has shape {actual.shape}, expected {expected.shape}"
    if actual.dtype.kind in "biu" and expected.dtype.kind in "biu":
        close = actual == expected
    else:
        actual, expected = actual.astype(np.float64), expected.astype(np.float64)
        close = np.isclose(actual, expected, atol=atol, rtol=rtol, equal_nan=True)
    if not close.all():
        worst = np.unravel_index(np.argmin(close), close.shape)
        raise AssertionError(
            f"{where}: {int((~close).sum())} of {close.size} values differ (atol {atol}, rtol {rtol}); "
            f"first at {tuple(map(int, worst))}: {actual[worst]} instead of {expected[worst]}"
        )
