"""Plugins by kind and name. The config tree of a package is its registry; nothing is imported to read it.

A package takes part with one entry point in the group "ocwm.plugins" whose value is the name of the package that
holds a `conf/` folder: `conf/method/x.yaml` registers the method "x". The engine's own presets are read the same way.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ocwm.errors import BenchError, suggest

GROUP = "ocwm.plugins"
KINDS = ("method", "reference", "encoder", "task", "importer", "trainer", "preset", "suite")
_BUILT = ("method", "reference", "encoder", "task", "importer")  # kinds whose YAML names a class


@dataclass(frozen=True)
class Plugin:
    """One YAML file of a config tree.

    Attributes:
        kind: one of KINDS.
        name: the file's name without its ending.
        package: the package that registered it.
        description: one line.
        path: the file.
        target: the class that it builds, "module.Class"; "" for kinds without one.
    """

    kind: str
    name: str
    package: str
    description: str
    path: Path
    target: str = ""


@functools.cache
def conf_folders() -> dict[str, Path]:
    """Return package name -> its conf folder, for the engine and every registered package.

    Raises:
        BenchError: a registered package can't be found or has no conf folder.
    """
    folders = {"ocwm": Path(__file__).parent / "conf"}
    for entry in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda entry: entry.name):
        package = entry.value
        if package in folders:
            continue
        top, _, rest = package.partition(".")
        spec = importlib.util.find_spec(top)  # of the top package only: finding it imports nothing
        if spec is None or not spec.submodule_search_locations:
            raise BenchError(
                f"the plugin package '{package}' (entry point '{entry.name}' in group '{GROUP}') can't be found",
                "Install it again, or remove it.",
            )
        places = [Path(place, *rest.split(".")) if rest else Path(place) for place in spec.submodule_search_locations]
        folder = next((place / "conf" for place in places if (place / "conf").is_dir()), None)
        if folder is None:
            raise BenchError(f"the plugin package '{package}' has no conf folder in {places[0]}", "Reinstall it.")
        folders[package] = folder
    return folders


@functools.cache
def distributions() -> dict[str, str]:
    """Return package name -> the distribution that registered it."""
    entries = importlib.metadata.entry_points(group=GROUP)
    return {"ocwm": "ocwm-bench", **{entry.value: entry.dist.name for entry in entries if entry.dist is not None}}


@functools.cache
def plugins(kind: str) -> dict[str, Plugin]:
    """Return every plugin of a kind by name, sorted.

    Raises:
        BenchError: two packages register the same name (methods and references share theirs), or a file is malformed.
    """
    assert kind in KINDS, kind
    found: dict[str, Plugin] = {}
    for package, folder in conf_folders().items():
        for path in sorted((folder / kind).glob("*.yaml")):
            plugin = _read(kind, package, path)
            if (other := found.get(plugin.name)) is not None:
                raise _twice(plugin, other)
            found[plugin.name] = plugin
    if kind == "reference":  # `--method` answers to both
        for name in found.keys() & plugins("method").keys():
            raise _twice(found[name], plugins("method")[name])
    return dict(sorted(found.items()))


def find(kind: str, name: str) -> Plugin:
    """Return one plugin; "method" finds references too.

    Raises:
        BenchError: there is none of that name; the nearest name is in the hint.
    """
    known = plugins(kind)
    if kind == "method":
        known = {**known, **plugins("reference")}
    if name not in known:
        raise BenchError(f"no {kind} '{name}'", f"{suggest(name, known)} (bench list {kind}s)")
    return known[name]


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        BenchError: the file can't be read or holds something else; file and line are named.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except OSError as error:
        raise BenchError(f"can't read {path}: {error.strerror or error}") from error
    except yaml.YAMLError as error:
        raise BenchError(f"malformed YAML in {path}: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise BenchError(f"{path} must hold a mapping, not a {type(content).__name__}")
    return content


_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _read(kind: str, package: str, path: Path) -> Plugin:
    content = read_yaml(path)
    target = content.get("_target_", "")
    if kind in _BUILT and (not isinstance(target, str) or "." not in target):
        raise BenchError(f"{path} must name its class: `_target_: package.module.Class`")
    description = content.get("description", "")
    if not isinstance(description, str) or not description.strip():
        raise BenchError(f"{path} lacks its description", "Add one line: `description: what it is`.")
    return Plugin(
        kind=kind,
        name=path.stem,
        package=package,
        description=" ".join(description.split()),
        path=path,
        target=target if kind in _BUILT else "",
    )


def _twice(plugin: Plugin, other: Plugin) -> BenchError:
    return BenchError(
        f"the name '{plugin.name}' is registered twice: {other.kind} {other.path} and {plugin.kind} {plugin.path}",
        "Rename one of them or uninstall its package.",
    )
