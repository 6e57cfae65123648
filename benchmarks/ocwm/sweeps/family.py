"""Configurations of many runs that differ by seed and overrides, without composing each of them.

Composing takes tens of milliseconds, and a sweep may have ten thousand runs. Here one configuration is composed and
resolved for each choice of method, task, preset, encoder and trainer; overrides are then checked against the same keys
and types and set in a plain copy, and the keys that refer to others follow. What can't be done so is composed.
"""

from __future__ import annotations

import functools
import pickle
import re
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from ocwm.config import NOT_FOR_CLASS, Base, base_of, compose
from ocwm.errors import BenchError
from ocwm.overrides import Override, checked_value, parse
from ocwm.trainer_config import TrainerConfig

_REFERENCE = re.compile(r"\$\{([A-Za-z_][\w]*(?:\.[\w]+)*)\}")  # ${group.key}, and nothing beside it

Path = tuple[str, ...]


class Family:
    """What the configurations of runs with equal choices of plugins have in common."""

    def __init__(self, base: Base, resolved: Mapping[str, Any]) -> None:
        self._base = base
        self._frozen = pickle.dumps(dict(resolved))  # the fastest deep copy of plain values
        self._references: dict[Path, Path] = {}
        self._plain = True
        self._find_references((), OmegaConf.to_container(base.root, resolve=False))

    def values(self, *, seed: int, overrides: Sequence[Override]) -> dict[str, Any] | None:
        """Return the resolved configuration as plain values; None where it must be composed."""
        if not self._plain or any("${" in override.text for override in overrides):
            return None
        found: dict[str, Any] = pickle.loads(self._frozen)
        for key in self._base.seeds:
            found["seeds"][key] = seed
        own = set()
        for override in overrides:
            way = tuple(override.key.split("."))
            if len(way) == 1:
                continue  # the choice of an encoder or a trainer
            try:
                value = checked_value(self._base.root, override, fixed=NOT_FOR_CLASS)
            except BenchError:
                return None  # an earlier override may have made it possible; else composing says what is wrong
            _set(found, way, value)
            own.add(way)
        for place, source in self._references.items():
            if place not in own:
                _set(found, place, _get(found, source))
        TrainerConfig(**found["trainer"])  # raises for a value outside its range
        return found

    def _find_references(self, way: Path, node: Any) -> None:
        if isinstance(node, Mapping):
            for key, value in node.items():
                self._find_references((*way, str(key)), value)
        elif isinstance(node, list):
            self._plain = self._plain and not any("${" in str(value) for value in node)
        elif isinstance(node, str) and "${" in node:
            if named := _REFERENCE.fullmatch(node):
                self._references[way] = tuple(named[1].split("."))
            else:
                self._plain = False


def values_of(*, method: str, task: str, preset: str, seed: int, overrides: Sequence[str]) -> dict[str, Any]:
    """Return the resolved configuration of a run as `compose` gives it, in plain values.

    Raises:
        BenchError: as `compose`.
    """
    parsed = parsed_overrides(tuple(overrides))
    base = base_of(method=method, task=task, preset=preset, overrides=parsed)
    found = _family(method, task, preset, tuple(o.text for o in parsed if "." not in o.key), id(base)).values(
        seed=seed, overrides=parsed
    )
    if found is None:
        config = compose(method=method, task=task, preset=preset, seed=seed, overrides=overrides)
        found = _container(config.values)
    return found


@functools.lru_cache(maxsize=4096)
def parsed_overrides(texts: tuple[str, ...]) -> tuple[Override, ...]:
    """Parse overrides once for all runs that have them."""
    return tuple(parse(text) for text in texts)


@functools.lru_cache(maxsize=256)
def _family(method: str, task: str, preset: str, choices: tuple[str, ...], base_id: int) -> Family:
    """Make a family; `base_id` keeps those of other plugins apart."""
    base = base_of(method=method, task=task, preset=preset, overrides=[parse(text) for text in choices])
    config = compose(method=method, task=task, preset=preset, overrides=choices)
    return Family(base, _container(config.values))


def _container(values: Any) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(values, resolve=True)
    return dict(plain)


def _get(values: Mapping[str, Any], way: Path) -> Any:
    node: Any = values
    for key in way:
        node = node[key]
    return node


def _set(values: dict[str, Any], way: Path, value: Any) -> None:
    *above, last = way
    node = values
    for key in above:
        node = node[key]
    node[last] = value
