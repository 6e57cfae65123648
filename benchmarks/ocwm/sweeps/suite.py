"""Suites: YAML files that name methods, tasks, encoders, ablations and seeds, and what cells they make.

description: one line
preset: mini
tasks: {pusht: [task.pairs=50]}            # overrides for every run on a task
needs_data: true                           # runs without a data folder (--data TASK=DIR) lack something
blocks:
  - methods: [cjepa, ocjepa]
    tasks: [clevrer, pusht]
    encoders: [state]                      # without: the one that the preset chooses
    preset: standard                       # another one than the suite's
    seeds: [0, 1, 2]                       # training seeds: seeds.model and seeds.reasoner
    overrides: [task.pairs=100]            # for every run of the block
    ablations:                             # without: one, with no override
      masks 2: [method.num_masked=2]
      masks 3: [method.num_masked=3]
resources:                                 # what jobs ask for (see `resources.py`); the last that fits counts
  - {when: {preset: paper}, gpus: 1, minutes: 600}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ocwm import registry
from ocwm.config import base_of
from ocwm.errors import BenchError, suggest
from ocwm.overrides import parse

_KEYS = ("description", "preset", "tasks", "needs_data", "blocks", "resources")
_BLOCK_KEYS = ("methods", "tasks", "encoders", "preset", "seeds", "overrides", "ablations")


@dataclass(frozen=True)
class Variant:
    """Cells that differ by their training seed only.

    Attributes:
        method, task, preset: names.
        encoder: a name, or None for the one that the preset chooses.
        ablation: what it is called; "" where there is none.
        overrides: of the configuration, without the encoder.
        seeds: training seeds.
    """

    method: str
    task: str
    preset: str
    encoder: str | None
    ablation: str
    overrides: tuple[str, ...]
    seeds: tuple[int, ...]

    @property
    def all_overrides(self) -> tuple[str, ...]:
        """The overrides with the encoder's."""
        return self.overrides if self.encoder is None else (f"encoder={self.encoder}", *self.overrides)

    @property
    def name(self) -> str:
        """Its name in tables."""
        parts = [self.method, self.task, self.encoder or "", self.preset, self.ablation]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Suite:
    """What a suite's file holds.

    Attributes:
        name: the file's name without its ending.
        description: one line.
        variants: in the file's order, none twice.
        resources: blocks of what jobs ask for, unchecked.
        needs_data: runs on data that a task makes itself are no part of it.
    """

    name: str
    description: str
    variants: tuple[Variant, ...]
    resources: tuple[Mapping[str, Any], ...]
    needs_data: bool = False

    @property
    def cells(self) -> int:
        """Number of runs."""
        return sum(len(variant.seeds) for variant in self.variants)


def read_suite(
    name: str,
    *,
    overrides: Sequence[str] = (),
    roots: Mapping[str, str] | None = None,
    weights: Mapping[str, str] | None = None,
) -> Suite:
    """Read a suite.

    Args:
        name: of a registered suite, or a path to a YAML file.
        overrides: for every run, after the suite's own.
        roots: data folder by task (`task.root`).
        weights: file or folder by encoder (`encoder.weights`).

    Raises:
        BenchError: no such suite, or its content is wrong; file and key are named.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else registry.find("suite", name).path
    if not path.is_file():
        raise BenchError(f"there is no suite {path}", "Give a YAML file, or a name (bench list suites).")
    content = registry.read_yaml(path)
    _known(content, _KEYS, f"{path}")
    blocks = content.get("blocks")
    if not isinstance(blocks, list) or not blocks:
        raise BenchError(f"{path}: 'blocks' must be a list of blocks", "See a shipped one (bench list suites).")
    by_task = {
        task: tuple(_texts(given, f"{path}: tasks.{task}")) for task, given in (content.get("tasks") or {}).items()
    }
    for task in (*by_task, *(roots or {})):
        registry.find("task", task)
    for encoder in weights or {}:
        registry.find("encoder", encoder)
    for task, root in (roots or {}).items():
        by_task[task] = (*by_task.get(task, ()), f"task.root={_quoted(root)}")
    found: dict[Variant, None] = {}
    for number, block in enumerate(blocks):
        place = f"{path}: blocks[{number}]"
        for variant in _variants(block, content.get("preset", "mini"), by_task, tuple(overrides), place):
            found.setdefault(_with_weights(variant, weights or {}))
    return Suite(
        name=path.stem,
        description=str(content.get("description", "")),
        variants=tuple(found),
        resources=tuple(content.get("resources") or ()),
        needs_data=bool(content.get("needs_data", False)),
    )


def _variants(
    block: Any, preset: str, by_task: Mapping[str, tuple[str, ...]], more: tuple[str, ...], place: str
) -> Iterator[Variant]:
    if not isinstance(block, Mapping):
        raise BenchError(f"{place} must be a mapping", f"Its keys: {', '.join(_BLOCK_KEYS)}.")
    _known(block, _BLOCK_KEYS, place)
    preset = registry.find("preset", str(block.get("preset", preset))).name
    methods = [registry.find("method", name).name for name in _texts(block.get("methods"), f"{place}.methods")]
    tasks = [registry.find("task", name).name for name in _texts(block.get("tasks"), f"{place}.tasks")]
    encoders: list[str | None] = [None]
    if block.get("encoders"):
        encoders = [registry.find("encoder", name).name for name in _texts(block["encoders"], f"{place}.encoders")]
    seeds = block.get("seeds", [0])
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise BenchError(f"{place}.seeds must be a list of whole numbers, not {seeds!r}", "For example [0, 1, 2].")
    own = tuple(_texts(block.get("overrides") or [], f"{place}.overrides"))
    ablations = block.get("ablations") or {"": []}
    if not isinstance(ablations, Mapping):
        raise BenchError(f"{place}.ablations must map names to lists of overrides")
    for task in tasks:
        for encoder in encoders:
            for ablation, changed in ablations.items():
                texts = tuple(_texts(changed or [], f"{place}.ablations.{ablation}"))
                overrides = (*by_task.get(task, ()), *own, *texts, *more)
                for method in methods:
                    yield Variant(method, task, preset, encoder, str(ablation), overrides, tuple(dict.fromkeys(seeds)))


def _with_weights(variant: Variant, weights: Mapping[str, str]) -> Variant:
    """The variant with the weights of its encoder, where some are given."""
    if not weights:
        return variant
    overrides = [parse(text) for text in variant.all_overrides]
    base = base_of(method=variant.method, task=variant.task, preset=variant.preset, overrides=overrides)
    given = weights.get(base.plugins["encoder"].name)
    if given is None:
        return variant
    return replace(variant, overrides=(*variant.overrides, f"encoder.weights={_quoted(given)}"))


def _texts(given: Any, place: str) -> list[str]:
    if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
        raise BenchError(f"{place} must be a list of words, not {given!r}")
    return given


def _known(content: Mapping[str, Any], keys: Sequence[str], place: str) -> None:
    for key in content:
        if key not in keys:
            raise BenchError(f"{place} has the unknown key '{key}'", suggest(str(key), keys))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
