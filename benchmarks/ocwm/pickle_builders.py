"""Builds by hand the few things that a pickle may hold besides plain values: arrays, tensors, containers.

Nothing here imports or calls what a pickle names: a name is looked up in a table, everything else is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

TORCH_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}
NESTED = ("torch.storage", "_load_from_bytes")  # a torch file inside a plain pickle
_TORCH_DTYPES = frozenset(TORCH_STORAGES.values())
_NUMPY_KINDS = "biufcSU"  # numbers and text; nothing that holds pointers
_OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_LATIN = ("latin1", "latin-1")


class RefusedError(Exception):
    """A pickle names something that is not allowed; `str()` of it is the name."""


@dataclass(frozen=True)
class Global:
    """A function or class that a pickle names, as a name only."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Pending:
    """An array or a dtype between its REDUCE and its BUILD, and the memo entries that hold it."""

    dtype: np.dtype[Any] | None = None
    keys: list[int] = field(default_factory=list)


def look_up(module: str, name: str) -> Any:
    """Return what stands for `module.name`: a `Global`, or a torch dtype.

    Raises:
        RefusedError: the name is not allowed.
    """
    module = _OLD_MODULES.get(module, module).replace("numpy.core.", "numpy._core.")
    if module == "torch" and name in _TORCH_DTYPES:
        import torch

        return getattr(torch, name)
    is_storage = module in ("torch", "torch.storage") and name in TORCH_STORAGES
    if not is_storage and (module, name) not in _BUILDERS:
        raise RefusedError(f"{module}.{name}")
    return Global(module, name)


def call(function: Global, arguments: Sequence[Any]) -> Any:
    """Return what the named function makes of the arguments; an array or dtype may still be `Pending`."""
    builder = _BUILDERS.get((function.module, function.name))
    if builder is None:
        raise RefusedError(str(function))
    return builder(*arguments)


def complete(target: Pending, state: Any) -> NDArray[Any] | np.dtype[Any]:
    """Return the array or dtype that `state` makes of what was pending."""
    if target.dtype is None:
        _version, shape, dtype, fortran, data = state
        return _array(data, dtype, shape, "F" if fortran else "C")
    if any(part is not None for part in state[2:5]):
        raise RefusedError("numpy.dtype with fields")
    return target.dtype.newbyteorder(state[1]) if state[1] in ("<", ">") else target.dtype


def _array(data: Any, dtype: Any, shape: Sequence[int], order: str) -> NDArray[Any]:
    raw = data.encode("latin-1") if isinstance(data, str) else data  # Python 2 wrote its bytes as text
    if not isinstance(dtype, np.dtype) or not isinstance(raw, bytes | bytearray):
        raise TypeError("an array without raw data")
    array: NDArray[Any] = np.frombuffer(raw, dtype) if raw else np.empty(0, dtype)
    return array.reshape(tuple(shape), order="F" if order == "F" else "C")


def _reconstruct(kind: Global, _shape: tuple[int, ...], _code: bytes) -> Pending:
    if kind.name != "ndarray":
        raise RefusedError(str(kind))
    return Pending()


def _dtype(code: str, *_flags: Any) -> Pending:
    dtype = np.dtype(code)
    if dtype.kind not in _NUMPY_KINDS:
        raise RefusedError(f"numpy.dtype({code!r})")
    return Pending(dtype=dtype)


def _scalar(dtype: Any, data: Any) -> Any:
    return _array(data, dtype, (1,), "C")[0]


def _from_buffer(data: Any, dtype: Any, shape: Sequence[int], order: str, axes: Any = None) -> NDArray[Any]:
    array = _array(data, dtype, shape, order)
    return array.transpose(axes) if order == "K" and axes is not None else array


def _tensor(storage: Tensor, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any) -> Tensor:
    return storage.as_strided(tuple(size), tuple(stride), offset)


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in _LATIN:
        raise RefusedError(f"_codecs.encode to {encoding}")
    return text.encode("latin-1")


def _bytearray(data: bytes | str = b"", encoding: str = "latin-1") -> bytearray:
    return bytearray(_encode(data, encoding) if isinstance(data, str) else memoryview(data))


def _refuse(*arguments: Any) -> Any:
    raise RefusedError(", ".join(map(str, arguments))[:200])


_BUILDERS: dict[tuple[str, str], Callable[..., Any]] = {
    NESTED: _refuse,
    ("numpy", "dtype"): _dtype,
    ("numpy", "ndarray"): _refuse,  # a name beside an array, never called
    ("copyreg", "_reconstructor"): _refuse,  # old protocols: the class comes after it, and is refused by its name
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): dict,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "complex"): complex,
    ("builtins", "bytearray"): _bytearray,
    ("builtins", "bytes"): lambda: b"",
    ("torch", "Size"): tuple,
    ("torch", "device"): lambda *parts: ":".join(map(str, parts)),
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_rest: tensor,
}
