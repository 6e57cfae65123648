"""Overrides `group.key=value`: parsed by Hydra's grammar, checked against the keys and types that are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf

from ocwm.errors import BenchError, suggest


@dataclass(frozen=True)
class Override:
    """One override: its text as given, its dotted key, its value."""

    text: str
    key: str
    value: Any


def parse(text: str) -> Override:
    """Parse one override.

    Raises:
        BenchError: it is no `key=value`.
    """
    if "=" not in text:
        raise BenchError(f"can't read '{text}'", "An override has the form group.key=value.")
    try:
        parsed = OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise BenchError(
            f"can't read the override '{text}'", "Quote values with spaces or brackets: 'task.root=\"my folder\"'."
        ) from error
    if parsed.type is not OverrideType.CHANGE or parsed.is_sweep_override():
        raise BenchError(f"'{text}' is no plain override", "Use group.key=value: one value, for a key that exists.")
    return Override(text=text, key=parsed.key_or_group, value=_builtin(parsed.value()))


def assign(root: DictConfig, override: Override, *, fixed: tuple[str, ...]) -> None:
    """Set the key of an override in `root`, as `checked_value` gives it."""
    way, _, last = override.key.rpartition(".")
    value = checked_value(root, override, fixed=fixed)
    (OmegaConf.select(root, way) if way else root)[last] = value


def checked_value(root: DictConfig, override: Override, *, fixed: tuple[str, ...]) -> Any:
    """Return the value of an override in the type of the default that stands in `root`.

    Args:
        root: the configuration.
        override: its key must exist, its value be of the type that is there.
        fixed: keys below a group that can't be set.

    Raises:
        BenchError: unknown or fixed key, wrong type.
    """
    parts = override.key.split(".")  # `in` is asked of lists of keys: a key whose value is missing is not "in" a node
    node: Any = root
    for depth, part in enumerate(parts):
        if not isinstance(node, DictConfig) or part not in list(node) or (depth == 1 and part in fixed):
            raise _unknown(root, override.key, node, ".".join(parts[:depth]), part, fixed if depth == 1 else ())
        if depth < len(parts) - 1:
            node = node[part]
    return _checked(node, parts[-1], override.value, place=override.key)


def merge(node: DictConfig, part: Mapping[Any, Any], *, place: str) -> None:
    """Merge a preset's keys into `node`, level by level.

    Raises:
        BenchError: unknown key, wrong type; `place` is named.
    """
    for key, value in part.items():
        if key not in list(node):
            raise BenchError(f"{place}.{key} is set by a preset but does not exist", suggest(str(key), map(str, node)))
        if isinstance(node[key], DictConfig) and isinstance(value, Mapping) and node[key]:
            merge(node[key], value, place=f"{place}.{key}")
        else:
            node[key] = _checked(node, str(key), value, place=f"{place}.{key}")


def _checked(node: DictConfig, key: str, value: Any, *, place: str) -> Any:
    """Return the value in the type of the default that stands in `node`."""
    default = None if OmegaConf.is_missing(node, key) else node[key]
    if default is None:
        return value
    if isinstance(default, DictConfig):
        if isinstance(value, Mapping) and not default:
            return value
        raise BenchError(f"{place} is a group of keys", f"Set one of them: {place}.KEY=VALUE ({', '.join(default)}).")
    if isinstance(default, ListConfig):
        if not isinstance(value, list | ListConfig):
            raise _wrong(place, value, "a list", "for example [1,2]")
        return value
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)  # so that 1 and 1.0 are the same run
    if type(value) is not type(default):
        names = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
        raise _wrong(place, value, names[type(default)], f"for example {_example(default)}")
    return value


def _wrong(place: str, value: Any, wanted: str, example: str) -> BenchError:
    return BenchError(f"{place} must be {wanted}, not {value!r}", f"Write it {example}.")


def _example(default: Any) -> str:
    return str(default).lower() if isinstance(default, bool) else repr(default) if default == "" else str(default)


def _unknown(root: DictConfig, key: str, node: Any, place: str, part: str, fixed: tuple[str, ...]) -> BenchError:
    known = [str(name) for name in node if name not in fixed] if isinstance(node, DictConfig) else []
    message = f"unknown key '{key}'" + (f" ({place} has no '{part}')" if place else "")
    same_leaf = sorted(leaf for leaf in _leaves(root) if leaf.rpartition(".")[2] == key.rpartition(".")[2])
    hint = suggest(part, known)
    if not hint.startswith("Did you") and same_leaf:
        hint = f"Did you mean '{same_leaf[0]}'?"
    return BenchError(message, hint)


def _leaves(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, node):
        inner = None if OmegaConf.is_missing(node, key) else node[key]
        if isinstance(inner, DictConfig):
            yield from _leaves(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _builtin(value: Any) -> Any:
    """Turn Hydra's quoted strings into plain ones, also inside lists and mappings."""
    if isinstance(value, Mapping):
        return {str(_builtin(key)): _builtin(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_builtin(inner) for inner in value]
    return getattr(value, "text", value) if not isinstance(value, bool | int | float | str) else value
