"""What the suites share: one line of the list, and what holds for every plugin with a YAML and a class."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from ocwm.config import NOT_FOR_CLASS, import_class
from ocwm.registry import Plugin
from ocwm.schemas import Runtime, Seeds

_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Check:
    """One line of the list: what was checked, whether it holds, and what was seen."""

    name: str
    passed: bool
    detail: str = ""


class PromiseError(Exception):
    """A promise that is not kept."""


def attempt(name: str, check: Callable[[], str | None]) -> Check:
    """Run a check, which raises where the promise is not kept and may return what it saw."""
    try:
        return Check(name, passed=True, detail=check() or "")
    except PromiseError as broken:
        return Check(name, passed=False, detail=str(broken))
    except Exception as error:  # whatever the author's code raises is what the author wants to see
        return Check(name, passed=False, detail=f"{type(error).__name__}: {error}".splitlines()[0])


def own_node(plugin: Plugin, *, preset: str | None = None) -> DictConfig:
    """Return a plugin's own configuration, without a task; with the sizes of a preset where it has some."""
    group = "method" if plugin.kind == "reference" else plugin.kind
    around = {"seeds": vars(Seeds()), "runtime": vars(Runtime())}
    root = OmegaConf.create({**around, group: OmegaConf.load(plugin.path)})
    node: DictConfig = root[group]
    presets = node.pop("presets", None) or {}
    node.pop("description", None)
    blocks = (presets.get(preset) if preset else None) or {}
    for block in [blocks] if isinstance(blocks, DictConfig) else blocks:
        if "when" not in block:
            node.merge_with(block.get(group, {}))
    OmegaConf.resolve(root)
    return node


def described(plugin: Plugin, node: DictConfig) -> str:
    """Check the version of the class; return description and version."""
    version = import_class(node).__dict__.get("version", import_class(node).version)
    if not isinstance(version, int) or version < 1:
        raise PromiseError(f"version is {version!r}; it must be a whole number from 1")
    return f"{plugin.description} (version {version})"


def same_keys(plugin: Plugin, node: DictConfig, *, positional: int) -> str:
    """Compare the keys of the YAML with the constructor's parameters, the first `positional` of which are the engine's."""
    parameters = list(inspect.signature(import_class(node)).parameters.values())[positional:]
    if loose := [p.name for p in parameters if p.kind is p.VAR_KEYWORD]:
        raise PromiseError(f"the constructor takes **{loose[0]}, which hides misspelt keys")
    wanted, have = {p.name for p in parameters}, {str(key) for key in node} - set(NOT_FOR_CLASS)
    if wanted != have:
        missing, surplus = ", ".join(sorted(wanted - have)), ", ".join(sorted(have - wanted))
        raise PromiseError(f"{plugin.path}: missing: {missing or 'none'}; surplus: {surplus or 'none'}")
    return ", ".join(sorted(have))


def apart(one: Tensor, other: Tensor) -> float:
    """Return the largest difference where it is more than rounding (or not a number), else 0."""
    difference = float((one - other).abs().max())
    return 0.0 if difference <= _TOLERANCE * max(1.0, float(one.abs().max())) else difference


def unchanged(after: object, before: object, what: str) -> None:
    """Raise where a tensor of a batch or of observations is not what it was."""
    for name, value in vars(before).items():
        if isinstance(value, Tensor) and not bool(((getattr(after, name) == value) | (value != value)).all()):
            raise PromiseError(f"{what} changes the {name} that it is given")
