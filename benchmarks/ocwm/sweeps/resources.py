"""What jobs ask a cluster for: settings of the site, of the suite, and of the command, the last one counting."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ocwm import registry
from ocwm.errors import BenchError, suggest
from ocwm.overrides import parse
from ocwm.sweeps.suite import Variant

CLUSTERS = ("local", "slurm")
_WHEN = ("method", "task", "preset", "encoder")


@dataclass(frozen=True)
class Resources:
    """What one job asks for; jobs with equal resources form one array.

    Attributes:
        partition, account, qos, constraint: as `sbatch` has them; "" leaves them out.
        nodes, gpus, cpus, memory_gb: nodes of a job, and GPUs, CPUs and memory of each; memory 0 leaves it out.
        processes: of a node; more than one train data-parallel (`docs/several_gpus.md`).
        minutes: time limit. A job that reaches it is started again and goes on, at most `timeouts` times.
        parallel: jobs of an array that run at a time; on this machine, of all.
        array_limit: longest array; 0 asks the site.
        signal_seconds: how long before the limit a job is told to stop.
        timeouts: how often.
        setup: shell lines before the job starts.
        sbatch: further options of `sbatch`, by name without dashes.
    """

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    nodes: int = 1
    processes: int = 1
    gpus: int = 0
    cpus: int = 2
    memory_gb: float = 0.0
    minutes: int = 240
    parallel: int = 0
    array_limit: int = 0
    signal_seconds: int = 90
    timeouts: int = 10
    setup: tuple[str, ...] = ()
    sbatch: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for key, least in (("nodes", 1), ("processes", 1), ("gpus", 0), ("cpus", 1), ("minutes", 1), ("parallel", 0)):
            if getattr(self, key) < least:
                raise BenchError(f"cluster.{key}={getattr(self, key)} is too small", f"Choose {least} or more.")

    def with_(self, settings: Mapping[str, Any], place: str) -> Resources:
        """Return these with some settings changed.

        Raises:
            BenchError: an unknown key, or a value of another type; `place` is named.
        """
        known = {field.name: field for field in fields(self)}
        changed: dict[str, Any] = {}
        for key, value in settings.items():
            if key not in known:
                raise BenchError(f"{place}: unknown key '{key}'", suggest(key, known))
            default = getattr(Resources, key)
            changed[key] = _converted(default, value, f"{place}.{key}")
        return dataclasses.replace(self, **changed)

    def words(self) -> str:
        """What is asked for, for people."""
        parts = [f"{self.cpus} CPUs" if self.cpus > 1 else "1 CPU"]
        if self.nodes > 1:
            parts.insert(0, f"{self.nodes} nodes")
        if self.gpus:
            parts.append(f"{self.gpus} GPU{'s' * (self.gpus > 1)}")
        if self.memory_gb:
            parts.append(f"{self.memory_gb:g} GB")
        parts.append(f"{self.minutes} min")
        for key in ("partition", "account", "qos", "constraint"):
            if value := getattr(self, key):
                parts.append(f"{key} {value}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Cluster:
    """Where jobs run, and what they ask for.

    Attributes:
        kind: "local" or "slurm".
        default: for every job.
        blocks: of the site's file, then of the suite.
        overrides: of the command.
    """

    kind: str
    default: Resources
    blocks: tuple[tuple[Mapping[str, Any], str], ...]
    overrides: Mapping[str, Any]

    def resources(self, variant: Variant) -> Resources:
        """What the jobs of a variant ask for."""
        found = self.default
        for block, place in self.blocks:
            wanted = block.get("when", {})
            if all(getattr(variant, key) in _listed(value) for key, value in wanted.items()):
                found = found.with_({key: value for key, value in block.items() if key != "when"}, place)
        return found.with_(self.overrides, "cluster")


def read_cluster(name: str, *, suite: Sequence[Mapping[str, Any]] = (), overrides: Sequence[str] = ()) -> Cluster:
    """Read what a cluster is.

    Args:
        name: "local", "slurm", or a YAML file with `kind: slurm`, any key of `Resources`, and a list `resources` of
            blocks like those of suites.
        suite: the suite's blocks.
        overrides: `cluster.KEY=VALUE`.

    Raises:
        BenchError: no such cluster, or a setting is wrong.
    """
    content: dict[str, Any] = {"kind": name}
    place = name
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise BenchError(f"there is no cluster file {path}", f"Give one, or {' or '.join(CLUSTERS)}.")
        content, place = registry.read_yaml(path), str(path)
    kind = content.pop("kind", None)
    if kind not in CLUSTERS:
        raise BenchError(f"the cluster '{kind}' is not known", suggest(str(kind), CLUSTERS))
    blocks = [
        *((block, place) for block in content.pop("resources", [])),
        *((block, "the suite's resources") for block in suite),
    ]
    for block, where in blocks:
        if not isinstance(block, Mapping) or not isinstance(block.get("when", {}), Mapping):
            raise BenchError(f"{where}: 'resources' must be a list of mappings")
        for key in block.get("when", {}):
            if key not in _WHEN:
                raise BenchError(f"{where}: 'when' has the unknown key '{key}'", suggest(str(key), _WHEN))
    given = {}
    for text in overrides:
        override = parse(text)
        group, _, key = override.key.partition(".")
        if group != "cluster" or not key:
            raise BenchError(f"'{text}' is no setting of a cluster", "Use cluster.KEY=VALUE.")
        given[key] = override.value
    cluster = Cluster(kind, Resources().with_(content, place), tuple(blocks), given)
    cluster.default.with_(given, "cluster")  # wrong ones are told at once
    return cluster


def _converted(default: Any, value: Any, place: str) -> Any:
    if isinstance(default, tuple):
        if isinstance(value, Mapping):
            return tuple((str(key), str(inner)) for key, inner in value.items())
        if isinstance(value, list) and all(isinstance(line, str) for line in value):
            return tuple(value)
    elif isinstance(default, str) and isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    elif isinstance(default, int) and type(value) is int:
        return value
    elif isinstance(default, float) and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    wanted = {tuple: "a list or a mapping", str: "a word", int: "a whole number", float: "a number"}[type(default)]
    raise BenchError(f"{place} must be {wanted}, not {value!r}")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
