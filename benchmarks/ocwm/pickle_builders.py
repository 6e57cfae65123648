"""Builds by hand the few things that a pickle may hold besides plain values: arrays, tensors, containers.

Nothing here imports or calls what a pickle names: a name is looked up in a table, everything else is refused or, where
that is asked for, kept as a `Record`.
"""

from __future__ import annotations

import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
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
_FROM_TYPE = ("torch._tensor", "_rebuild_from_type_v2")
NESTED = ("torch.storage", "_load_from_bytes")  # a torch file inside a plain pickle
_TORCH_DTYPES = frozenset(TORCH_STORAGES.values())
_NUMPY_KINDS = "biufcSU"  # numbers and text; nothing that holds pointers
_LATIN = ("latin1", "latin-1")
RECONSTRUCTOR = ("copyreg", "_reconstructor")
# Where objects of foreign classes are kept as records, the standard library is still refused (that is what harmful
# pickles call, though nothing would be called here), but for modules whose objects model files do hold.
_HARMLESS = frozenset(
    {"abc", "argparse", "array", "builtins", "collections", "contextlib", "copy", "copyreg", "dataclasses", "datetime"}
    | {"decimal", "enum", "fractions", "functools", "inspect", "itertools", "logging", "math", "numbers", "operator"}
    | {"_operator", "pathlib", "random", "re", "string", "types", "typing", "uuid", "warnings", "weakref"}
)
_HARMFUL = frozenset({"eval", "exec", "execfile", "compile", "open", "__import__", "input", "breakpoint"})


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


@dataclass(eq=False)
class Record:
    """An object of a foreign class as plain data: its class was neither imported nor called.

    Attributes:
        kind: the name of its class, or of the function that would have made it.
        arguments: what it would have been made from.
        state: what it would have been given then, mostly its attributes.
        items, entries: what it holds as a list or as a dict.
    """

    kind: str
    arguments: tuple[Any, ...] = ()
    state: Any = None
    items: list[Any] = field(default_factory=list)
    entries: dict[Any, Any] = field(default_factory=dict)

    @property
    def attributes(self) -> dict[str, Any]:
        """Its attributes by name; none where its state is something else."""
        parts = self.state if isinstance(self.state, tuple) else (self.state,)  # a class with slots has two parts
        return {key: value for part in parts if isinstance(part, dict) for key, value in part.items()}


def look_up(module: str, name: str, *, foreign: set[str] | None = None) -> Any:
    """Return what stands for `module.name`: a `Global`, or a torch dtype.

    Args:
        module: as the pickle names it.
        name: as the pickle names it.
        foreign: None refuses unknown names; else they are `Global` too, but for what a harmful pickle would call.

    Raises:
        RefusedError: the name is not allowed.
    """
    # Old protocols write the names of Python 2: subprocess.Popen is commands.Popen there.
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    module = module.replace("numpy.core.", "numpy._core.")
    if module == "torch" and name in _TORCH_DTYPES:
        import torch

        return getattr(torch, name)
    is_storage = module in ("torch", "torch.storage") and name in TORCH_STORAGES
    known = is_storage or (module, name) in _BUILDERS
    if not known and (foreign is None or _is_harmful(module, name)):
        raise RefusedError(f"{module}.{name}")
    return Global(module, name)


def _is_harmful(module: str, name: str) -> bool:
    top = module.partition(".")[0]
    if top == "builtins":
        return name.partition(".")[0] in _HARMFUL
    return top in sys.stdlib_module_names and top not in _HARMLESS


def call(function: Global, arguments: Sequence[Any], *, foreign: set[str] | None = None) -> Any:
    """Return what the named function makes of the arguments; an array or dtype may still be `Pending`.

    Args:
        function: of `look_up`.
        arguments: of the call.
        foreign: takes the names of unknown functions and classes, whose results come as `Record`; None refuses them.
    """
    name = function.module, function.name
    if foreign is not None and name == RECONSTRUCTOR:  # old protocols: the class is the first argument
        return record(arguments[0], arguments[1:], foreign=foreign)
    if name == _FROM_TYPE:  # a tensor with attributes
        rebuild, _kind, parts, _attributes = arguments
        return call(rebuild, parts, foreign=foreign)
    builder = _BUILDERS.get(name)
    if builder is None:
        return record(function, arguments, foreign=foreign)
    return builder(*arguments)


def record(kind: Any, arguments: Sequence[Any], *, foreign: set[str] | None) -> Record:
    """Return the record of an object; the name of its class is added to `foreign`.

    Raises:
        RefusedError: `foreign` is None.
    """
    name = kind.kind if isinstance(kind, Record) else str(kind)
    if foreign is None:
        raise RefusedError(name)
    if not isinstance(kind, Global | Record):
        raise TypeError(f"a {type(kind).__name__} is called")
    foreign.add(name)
    return Record(name, tuple(arguments))


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
    _FROM_TYPE: _refuse,  # see `call`
    ("numpy", "dtype"): _dtype,
    ("numpy", "ndarray"): _refuse,  # a name beside an array, never called
    RECONSTRUCTOR: _refuse,  # old protocols: the class comes after it, and is refused by its name
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
    ("torch._utils", "_rebuild_parameter_with_state"): lambda tensor, *_rest: tensor,
}
