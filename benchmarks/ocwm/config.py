"""The configuration of a run: Hydra composes the groups, then presets and the user's overrides are merged and checked.

Preset blocks stand in the YAML of the plugin that they belong to:

    presets:
      all: {encoder: state}                        # under every preset
      mini:
        task: {train_videos: 1000}                 # any group, keys that exist only
        encoder: {name: state, num_slots: 6}       # chooses an encoder; the keys hold for that one only
      paper:
        - {when: {task: clevrer}, trainer: {max_steps: 40000}}   # a list of blocks, each for some tasks or methods

They are merged in the order task, encoder, method; the user comes last.

The YAML of an encoder that can be trained has a node `training`: the class that trains it, that class's settings, and
under `trainer` what differs from the default trainer. It takes part only where the encoder is trained, not in runs.
"""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ocwm import registry
from ocwm.errors import BenchError, suggest
from ocwm.identity import never_numbers
from ocwm.overrides import Override, assign, merge, parse
from ocwm.registry import Plugin
from ocwm.schemas import Runtime, Seeds
from ocwm.trainer_config import TrainerConfig

_FLAGS = {"method": "--method", "task": "--task", "preset": "--preset"}
_CHOSEN_BY_KEY = ("encoder", "trainer")
_ORDER = ("method", "task", "encoder", "training", "preset", "trainer", "seeds", "runtime")
_NEVER_NUMBERS = ("runtime.", "seeds.", "task.root")
NOT_FOR_CLASS = ("_target_", "name", "kind")

Node = DictConfig | Mapping[str, Any]  # one resolved group


@dataclass(frozen=True)
class Config:
    """A resolved configuration and where it comes from.

    Attributes:
        values: the groups method, task, encoder, trainer, seeds, runtime, and the preset's name.
        plugins: what it was made of, by group ("method", "task", "encoder", "trainer", "preset").
        overrides: what the user changed that can change the numbers.
    """

    values: DictConfig
    plugins: Mapping[str, Plugin]
    overrides: tuple[str, ...]

    @property
    def seeds(self) -> Seeds:
        """The seeds, typed."""
        return Seeds(**_plain(self.values.seeds))

    @property
    def runtime(self) -> Runtime:
        """The runtime settings, typed."""
        return Runtime(**_plain(self.values.runtime))


def compose(
    *,
    method: str | None,
    task: str,
    preset: str = "mini",
    seed: int | None = None,
    overrides: Sequence[str] = (),
    trains: str | None = None,
) -> Config:
    """Return the configuration of a run, or of the training of an encoder.

    Args:
        method: a method or a reference; None where only the task's data matters (the group is absent then).
        task: a task.
        preset: bundle of sizes and schedules.
        seed: sets seeds.model and seeds.reasoner, or seeds.encoder where an encoder is trained.
        overrides: `group.key=value` or `encoder=name`, `trainer=name`.
        trains: the encoder to be trained: there is a group `training` then, and `trainer` is the one for it.

    Raises:
        BenchError: unknown name or key (with the nearest known one), wrong type, missing value.
    """
    parsed = [parse(text) for text in overrides]
    base = base_of(method=method, task=task, preset=preset, overrides=parsed, trains=trains)
    root = copy.deepcopy(base.root)
    if seed is not None:
        for key in base.seeds:
            root.seeds[key] = seed
    for override in parsed:
        if override.key not in _CHOSEN_BY_KEY:
            assign(root, override, fixed=NOT_FOR_CLASS)
    return Config(values=_resolve(root), plugins=base.plugins, overrides=base.numbers(parsed))


@dataclass(frozen=True)
class Base:
    """A configuration before a run's own seed and overrides.

    Attributes:
        root: with references between keys; not to be changed.
        plugins: what it was made of, by group.
        trains: the encoder that is to be trained, if any.
    """

    root: DictConfig
    plugins: Mapping[str, Plugin]
    trains: str | None

    @property
    def seeds(self) -> tuple[str, ...]:
        """The seeds that `--seed` sets."""
        return ("model", "reasoner") if self.trains is None else ("encoder",)

    def numbers(self, overrides: Sequence[Override]) -> tuple[str, ...]:
        """Return the texts of those overrides that can change the numbers."""
        names = {group: plugin.name for group, plugin in self.plugins.items()}
        return tuple(
            o.text for o in overrides if not o.key.startswith(_NEVER_NUMBERS) and not never_numbers(o.key, names)
        )


def base_of(
    *, method: str | None, task: str, preset: str, overrides: Sequence[Override], trains: str | None = None
) -> Base:
    """Return what the configurations of runs have in common that differ by seed and overrides only.

    Raises:
        BenchError: as `compose`.
    """
    folders = tuple(map(str, registry.conf_folders().values()))  # what is kept holds for these only
    return _base(folders, method, task, preset, tuple(sorted(_choices(overrides).items())), trains)


@functools.lru_cache(maxsize=256)
def _base(
    folders: tuple[str, ...],
    method: str | None,
    task: str,
    preset: str,
    named: tuple[tuple[str, str], ...],
    trains: str | None,
) -> Base:
    chosen = {} if method is None else {"method": registry.find("method", method)}
    chosen |= {"task": registry.find("task", task), "preset": registry.find("preset", preset)}
    groups = dict(named)
    if trains is not None:
        if "encoder" in groups:
            raise BenchError(
                f"'encoder={groups['encoder']}' is no override here", f"Use --encoder {groups['encoder']}."
            )
        groups = {"trainer": "default", **groups, "encoder": trains}
    chosen["encoder"] = _choose(chosen, "encoder", groups)
    chosen["trainer"] = _choose(chosen, "trainer", groups)
    root = _hydra(chosen)
    names = {group: plugin.name for group, plugin in chosen.items()}
    groups_in_order = [group for group in ("task", "encoder", "method") if group in chosen]
    training = root.encoder.pop("training", None)
    if trains is not None:
        root.training = _training(root, training, chosen["encoder"])
    for group in groups_in_order:
        presets = root[group].pop("presets", None) or {}
        # A task's trainer is that of world models; an encoder's own training is no matter of runs.
        skipped = "training" if trains is None else "trainer"
        for block in _blocks(presets, preset, names, chosen[group].path):
            part = {key: value for key, value in block.items() if key != skipped}
            _merge_block(root, part, names, chosen[group].path)
    if trains is not None:
        root.trainer = root.training.pop("trainer")
    for group in groups_in_order:
        root[group] = OmegaConf.merge({"name": chosen[group].name, "kind": chosen[group].kind}, root[group])
    for described in (*groups_in_order, "trainer"):
        del root[described]["description"]
    root.task.pop("headline", None)  # for tables only
    root.preset = preset
    return Base(root, chosen, trains)


def instantiate(node: Node, *positional: Any) -> Any:
    """Build the class that a node names with the node's keys as keyword arguments.

    Raises:
        BenchError: the class can't be imported, or its parameters are not the node's keys.
    """
    cls = import_class(node)
    arguments = {key: value for key, value in _plain(node).items() if key not in NOT_FOR_CLASS}
    try:
        inspect.signature(cls).bind(*positional, **arguments)
    except TypeError as error:
        raise BenchError(
            f"the keys of '{node['name']}' are not the parameters of {node['_target_']}: {error}",
            "Mend its YAML or its constructor.",
        ) from error
    return cls(*positional, **arguments)


def import_class(node: Node) -> type[Any]:
    """Import the class that a node names.

    Raises:
        BenchError: there is no such module or class, or one of its own imports is missing.
    """
    module, _, name = str(node["_target_"]).rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise BenchError(
            f"'{node['name']}' can't be imported from {module}: {error}", "--debug shows where."
        ) from error
    if not isinstance(found, type):
        raise BenchError(f"'{node['name']}' names the class {node['_target_']}, which does not exist", "Mend its YAML.")
    return found


def _choices(overrides: Sequence[Override]) -> dict[str, str]:
    """Return the groups that the user chose by name."""
    found = {}
    for override in overrides:
        if "." in override.key:
            continue
        if flag := _FLAGS.get(override.key):
            raise BenchError(f"'{override.text}' is no override", f"Use {flag} {override.value}.")
        if override.key in _CHOSEN_BY_KEY:
            found[override.key] = str(override.value)
    return found


def _choose(chosen: Mapping[str, Plugin], group: str, groups: Mapping[str, str]) -> Plugin:
    """Return the encoder or trainer that the user, else the method's, else the task's preset names."""
    name = groups.get(group, "default" if group == "trainer" else "")
    names = {kind: plugin.name for kind, plugin in chosen.items()}
    if group not in groups:
        for plugin in (chosen[kind] for kind in ("task", "method") if kind in chosen):
            presets = registry.read_yaml(plugin.path).get("presets") or {}
            for block in _blocks(presets, chosen["preset"].name, names, plugin.path):
                part = block.get(group, {})
                name = part if isinstance(part, str) else part.get("name", name)
    if not name:
        known = ", ".join(registry.plugins(group))
        raise BenchError(
            f"{chosen['task'].name} names no {group} for this preset", f"Add {group}=NAME. Known: {known}."
        )
    return registry.find(group, name)


def _blocks(presets: Any, preset: str, names: Mapping[str, str], path: Path) -> list[Mapping[str, Any]]:
    """Return the blocks of a plugin that hold for a preset and the chosen plugins."""
    if not isinstance(presets, Mapping):
        raise BenchError(f"{path}: 'presets' must map the names of presets to blocks")
    found: list[Mapping[str, Any]] = []
    for key in ("all", preset):
        blocks = presets.get(key) or []
        for block in [blocks] if isinstance(blocks, Mapping) else blocks:
            if not isinstance(block, Mapping):
                raise BenchError(f"{path}: preset '{key}' must hold groups with their keys, or a list of such blocks")
            wanted = block.get("when", {})
            if all(
                names.get(group) in ([value] if isinstance(value, str) else value) for group, value in wanted.items()
            ):
                found.append(block)
    return found


def _merge_block(root: DictConfig, block: Mapping[str, Any], names: Mapping[str, str], path: Path) -> None:
    for group, part in block.items():
        if group == "when" or isinstance(part, str):
            continue
        if group not in ("method", "task", "encoder", "training", "trainer", "seeds"):
            raise BenchError(
                f"{path}: a preset can't set '{group}'", suggest(str(group), ("method", "task", "encoder"))
            )
        if "name" in part and part["name"] != names[group]:
            continue
        merge(root[group], {key: part[key] for key in part if key != "name"}, place=f"{path}: {group}")


def _training(root: DictConfig, node: DictConfig | None, encoder: Plugin) -> DictConfig:
    """Return an encoder's node `training`, with all keys of the trainer."""
    if node is None:
        known = [
            name for name, one in registry.plugins("encoder").items() if "training" in registry.read_yaml(one.path)
        ]
        raise BenchError(
            f"the encoder '{encoder.name}' can't be trained: it is frozen as published",
            f"Encoders that can: {', '.join(known) or 'none'}.",
        )
    own: Any = OmegaConf.to_container(node)  # references between keys are resolved at the very end
    trainer = OmegaConf.create(_plain(root.trainer))
    merge(trainer, own.pop("trainer", {}), place=f"{encoder.path}: training.trainer")
    return OmegaConf.create({"name": encoder.name, "kind": "training", **own, "trainer": trainer})


def _hydra(chosen: Mapping[str, Plugin]) -> DictConfig:
    """Compose the groups out of the config trees of all packages."""
    folders = registry.conf_folders()
    places = ",".join(f"'file://{folder}'" for package, folder in folders.items() if package != "ocwm")
    arguments = [
        f"hydra.searchpath=[{places}]",
        f"+task={chosen['task'].name}",
        f"+encoder={chosen['encoder'].name}",
        f"trainer={chosen['trainer'].name}",
    ]
    if method := chosen.get("method"):
        arguments.append(f"+{method.kind}@method={method.name}")
    root = copy.deepcopy(_composed(str(folders["ocwm"]), tuple(arguments)))
    OmegaConf.set_struct(root, False)
    return root


@functools.lru_cache(maxsize=64)
def _composed(folder: str, arguments: tuple[str, ...]) -> DictConfig:
    """Compose once for each choice of groups: it takes a tenth of a second, and sweeps ask again and again."""
    try:
        GlobalHydra.instance().clear()  # so that programs that use Hydra themselves can call this too
        with initialize_config_dir(folder, version_base="1.3"):
            return hydra_compose("config", list(arguments))
    except (HydraException, OmegaConfBaseException) as error:
        raise BenchError(f"the configuration can't be composed: {error}") from error


def _resolve(root: DictConfig) -> DictConfig:
    """Fill in the references between keys and check the groups that have a schema."""
    if missing := sorted(OmegaConf.missing_keys(root)):
        raise BenchError(f"{missing[0]} has no value", f"Add {missing[0]}=VALUE.")
    try:
        OmegaConf.resolve(root)
        for group, schema in (("seeds", Seeds), ("runtime", Runtime), ("trainer", TrainerConfig)):
            checked = OmegaConf.merge(OmegaConf.structured(schema), root[group])
            root[group] = OmegaConf.to_container(checked)
    except OmegaConfBaseException as error:
        where = getattr(error, "full_key", None)
        raise BenchError(f"{where or 'the configuration'}: {str(error).splitlines()[0]}") from error
    TrainerConfig(**_plain(root.trainer))  # raises for a value outside its range
    ordered = OmegaConf.create({group: root[group] for group in _ORDER if group in root})
    OmegaConf.set_readonly(ordered, True)
    return ordered


def _plain(node: Node) -> dict[str, Any]:
    content = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else dict(node)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}
