"""Finds the weights in a published torch file, whatever they are nested in: state dicts, trainers, pickled modules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ocwm.errors import BenchError
from ocwm.importer import Dropped
from ocwm.pickle_builders import Record
from ocwm.unpickle import load_torch

_WRAPPERS = ("state_dict", "model_state_dict", "predictor_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")  # of data-parallel and of compiled modules
_EXPANSION = 16  # tensors may share memory, but a small file that claims to hold terabytes is an attack
_REASONS = (
    (r"optim|opt_state", "state of an optimiser"),
    (r"sched|warmup", "learning-rate schedule"),
    (r"scaler", "scale of fp16 training"),
    (r"hyper_?param|hparams|config|^args$", "settings of the training"),
    (r"epoch|^it$|step|iteration", "progress of the training"),
    (r"callback|loop|version", "state of the trainer"),
)


@dataclass(frozen=True)
class ForeignFile:
    """The weights of a published file.

    Attributes:
        tensors: by dotted name, without the prefixes of wrappers.
        nesting: where they were, e.g. "state_dict".
        dropped: what else the file holds at its top.
        classes: names of the foreign classes and functions whose results it holds, read as plain data.
    """

    tensors: dict[str, Tensor]
    nesting: str
    dropped: tuple[Dropped, ...]
    classes: tuple[str, ...]

    @property
    def shared(self) -> int:
        """How many tensors lie in memory that an earlier one lies in."""
        places = {tensor.untyped_storage().data_ptr() for tensor in self.tensors.values() if tensor.numel()}
        return sum(bool(tensor.numel()) for tensor in self.tensors.values()) - len(places)


def read_foreign(path: Path) -> ForeignFile:
    """Read a file of `torch.save`; nothing that it names is imported or called.

    Raises:
        BenchError: the file is missing, damaged, truncated or harmful, or holds no weights.
    """
    classes: set[str] = set()
    content = load_torch(path, foreign=classes)
    dropped: list[Dropped] = []
    nesting = "a bare state dict"
    if isinstance(content, Record):
        tensors = _weights(content)
        nesting = f"an object of the class {content.kind}"
    elif isinstance(content, dict):
        inside = [key for key in _WRAPPERS if _weights(content.get(key))]
        if inside:
            nesting = f"'{inside[0]}'"
            tensors = _weights(content[inside[0]])
            rest = {key: value for key, value in content.items() if key != inside[0]}
        else:
            tensors, rest = _parts(content)
            if len(rest) < len(content) and not any(isinstance(value, Tensor) for value in content.values()):
                nesting = "the parts " + ", ".join(f"'{key}'" for key in content if key not in rest)
        dropped = _dropped(rest)
    else:
        tensors = {}
    if not tensors:
        raise BenchError(
            f"{path} holds no weights ({_kind(content)})", "Give a checkpoint: a state dict, or what a trainer saved."
        )
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if total > _EXPANSION * path.stat().st_size:
        raise BenchError(f"{path} claims to hold {total / 1e9:.1f} GB of tensors, which can't be in it")
    return ForeignFile(_without_prefix(tensors), nesting, tuple(dropped), tuple(sorted(classes)))


def _weights(value: Any) -> dict[str, Tensor]:
    """Return the tensors of a state dict or of a pickled module by name; none where it is neither."""
    if isinstance(value, Record):
        return _without_prefix(dict(_module_tensors(value, "", frozenset())))
    mapping = _mapping(value)
    if not mapping or not all(isinstance(key, str) for key in mapping):
        return {}
    return {key: tensor for key, tensor in mapping.items() if isinstance(tensor, Tensor)}


def _parts(content: Mapping[Any, Any]) -> tuple[dict[str, Tensor], dict[Any, Any]]:
    """Return the tensors of a dict of tensors, state dicts and modules, and the entries that are none of them."""
    tensors: dict[str, Tensor] = {}
    rest: dict[Any, Any] = {}
    for key, value in content.items():
        if isinstance(value, Tensor):
            tensors[str(key)] = value
        elif inner := _weights(value):
            tensors |= {f"{key}.{name}": tensor for name, tensor in inner.items()}
        else:
            rest[key] = value
    return tensors, rest


def _module_tensors(record: Record, prefix: str, above: frozenset[int]) -> Iterator[tuple[str, Tensor]]:
    """Walk a pickled module as its `state_dict` would."""
    if id(record) in above:
        raise BenchError(f"the module '{prefix}' of the file holds itself", "The file is damaged.")
    attributes = record.attributes
    transient = attributes.get("_non_persistent_buffers_set") or ()
    for kind in ("_parameters", "_buffers"):
        for name, tensor in _mapping(attributes.get(kind)).items():
            if isinstance(tensor, Tensor) and not (kind == "_buffers" and name in transient):
                yield f"{prefix}{name}", tensor
    for name, module in _mapping(attributes.get("_modules")).items():
        if isinstance(module, Record):
            yield from _module_tensors(module, f"{prefix}{name}.", above | {id(record)})


def _mapping(value: Any) -> Mapping[Any, Any]:
    if isinstance(value, Record):
        return value.entries
    return value if isinstance(value, dict) else {}


def _without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    while prefix := next((p for p in _PREFIXES if tensors and all(name.startswith(p) for name in tensors)), ""):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _dropped(rest: Mapping[Any, Any]) -> list[Dropped]:
    by_reason: dict[str, list[str]] = {}
    for key in map(str, rest):
        reason = next((text for pattern, text in _REASONS if re.search(pattern, key, re.IGNORECASE)), "not read")
        by_reason.setdefault(reason, []).append(key)
    return [Dropped(tuple(names), reason) for reason, names in by_reason.items()]


def _kind(content: Any) -> str:
    if isinstance(content, Record):
        return f"an object of the class {content.kind}"
    if isinstance(content, dict):
        return f"a dict with the keys {', '.join(map(repr, list(content)[:5]))}" if content else "an empty dict"
    return f"a {type(content).__name__}"
