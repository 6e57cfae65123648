"""The identity of a run: the hash of everything that can change its numbers, and of nothing else.

That is the resolved configuration of method, encoder, task, trainer (methods only: a reference trains nothing) and
seeds, the preset, the version of every component, and the manifest of the data. The runtime group, `task.root` and
keys that have their neutral value or are neutral at any value (see conf/identity_neutral.yaml) are left out. So is the
place of an encoder's weights (`encoder.weights`), and of those that a training starts from (`trainer.init`): their sha256
stands for them, and they may be moved.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ocwm import registry
from ocwm.artifacts import digest
from ocwm.errors import BenchError
from ocwm.trainer_config import TrainerConfig

IDENTITY_SCHEMA = 1
_NAMED = ("method", "encoder", "task")
_NO_NUMBERS = ("_target_", "kind")
_ANY = "*"  # a neutral value: whatever the key says can't change the numbers


Values = DictConfig | Mapping[str, Any]  # a resolved configuration


def identity(config: Values, *, versions: Mapping[str, Any], data: Mapping[str, str]) -> dict[str, Any]:
    """Return what the id of a run is the hash of, as JSON values."""
    groups = scientific(config)
    _without_place_of_weights(groups, versions)
    if config["method"]["kind"] == "reference":
        del groups["trainer"]
    return {
        "schema": IDENTITY_SCHEMA,
        "config": groups,
        "versions": _without_neutral({"versions": dict(versions)})["versions"],
        "data": dict(data),
    }


def run_id(config: Values, *, versions: Mapping[str, Any], data: Mapping[str, str]) -> str:
    """Return the identity of a run as 12 hexadecimal digits."""
    return digest(identity(config, versions=versions, data=data), length=12)


def scientific(config: Values) -> dict[str, Any]:
    """Return the part of a resolved configuration that can change the numbers."""
    if isinstance(config, DictConfig):
        plain: Any = OmegaConf.to_container(config, resolve=True)
    else:
        plain = pickle.loads(pickle.dumps(config))  # the fastest copy: what is neutral is taken out of it below
    groups = {
        group: {key: value for key, value in plain[group].items() if key not in _NO_NUMBERS}
        for group in _NAMED
        if group in plain
    }
    groups["task"].pop("root", None)
    groups["seeds"] = plain["seeds"]
    groups["trainer"] = TrainerConfig(**plain["trainer"]).scientific()
    return {**_without_neutral(groups), "preset": plain["preset"]}


def identity_part(config: Values, name: str, *, versions: Mapping[str, Any], data: Mapping[str, str] | None) -> Any:
    """Return the share of one part in a run's identity: a group, a node in one, one seed, or "data".

    Raises:
        KeyError: there is no such part.
    """
    if name == "data":
        return None if data is None else dict(data)
    group, *rest = name.split(".")
    groups = scientific(config)
    _without_place_of_weights(groups, versions)
    value: Any = groups[group]
    for key in rest:
        value = value[key]
    if rest:
        return value
    part = {"config": value, "version": versions.get(group)}
    hashed = {"encoder": "weights", "trainer": "init"}.get(group, "")
    return {**part, hashed: versions[hashed]} if versions.get(hashed) else part


def never_numbers(key: str, names: Mapping[str, str]) -> bool:
    """Say whether a key such as "encoder.slots" can't change the numbers at any value.

    Args:
        key: dotted, as in an override.
        names: of the chosen plugins, by group.
    """
    group, _, rest = key.partition(".")
    dotted = f"{group}.{names.get(group)}.{rest}" if group in _NAMED else key
    return neutral_values().get(dotted) == _ANY


@functools.cache
def neutral_values() -> dict[str, Any]:
    """Return dotted key -> neutral value, from the identity_neutral.yaml of every package.

    Raises:
        BenchError: two packages name the same key.
    """
    found: dict[str, Any] = {}
    for folder in registry.conf_folders().values():
        path = folder / "identity_neutral.yaml"
        if not path.is_file():
            continue
        for key, value in registry.read_yaml(path).items():
            if key in found:
                raise BenchError(f"{path}: '{key}' has a neutral value already", "Remove one of the two.")
            found[str(key)] = value
    return found


def _without_place_of_weights(groups: dict[str, Any], versions: Mapping[str, Any]) -> None:
    if versions.get("weights"):
        groups.get("encoder", {}).pop("weights", None)


def _without_neutral(groups: dict[str, Any]) -> dict[str, Any]:
    for dotted, neutral in neutral_values().items():
        group, *rest = dotted.split(".")
        if group in _NAMED and group in groups:
            name, *rest = rest
            if name != groups[group]["name"]:
                continue
        _drop(groups.get(group, {}), rest, neutral)
    return groups


def _drop(node: Any, keys: list[str], neutral: Any) -> None:
    *way, last = keys
    for key in way:
        node = node.get(key) if isinstance(node, dict) else None
    if isinstance(node, dict) and last in node:
        value = node[last]
        if neutral == _ANY or (value == neutral and isinstance(value, bool) == isinstance(neutral, bool)):
            del node[last]
