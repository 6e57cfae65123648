"""One run of a method on a task: compose, refuse what can't work, say what will happen, run, record."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from ocwm import registry, store
from ocwm.artifacts import Cache, locked, sha256_of_file
from ocwm.checkpoint import initial_weights, load, load_weights
from ocwm.config import Config, Node, import_class, instantiate
from ocwm.context import DataReport, Evaluation, RunContext, Workspace
from ocwm.costs import Costs
from ocwm.device import available_cores, choose_device, keep_freed_memory, set_threads
from ocwm.distributed import team
from ocwm.errors import BenchError
from ocwm.folders import results_folder, work_folder
from ocwm.identity import identity, run_id
from ocwm.interfaces import Encoder, Reference, Task, WorldModel
from ocwm.places import recorded_config, recorded_override
from ocwm.progress import say
from ocwm.provenance import provenance
from ocwm.store import Record
from ocwm.trainer_config import TRAINER_VERSION
from ocwm.types import LatentSpec, Metric, MetricValue

__all__ = ["Cell", "DataReport", "Evaluation", "Outcome", "RunContext", "Workspace", "prepare", "run", "workspace"]


@dataclass(frozen=True)
class Cell:
    """A run that is possible: everything about it that is known before anything is computed.

    Attributes:
        config: the resolved configuration.
        method_class: the world model's or reference's class.
        encoder, task: built.
        device: to run on.
        versions: of every component that can change numbers.
        data: what identifies the data; None while it is absent.
        id: identity of the run; None while the data is absent.
        results: folder for the record.
        records: what is there already: the record and its repeats.
    """

    config: Config
    method_class: type[WorldModel] | type[Reference]
    encoder: Encoder
    task: Task
    device: torch.device
    versions: Mapping[str, Any]
    data: Mapping[str, str] | None
    id: str | None
    results: Path
    records: tuple[Record, ...]


@dataclass(frozen=True)
class Outcome:
    """The record of a run, and whether it is new."""

    record: Record
    new: bool


def prepare(config: Config) -> Cell:
    """Build encoder and task and find out the run's identity.

    Raises:
        BenchError: the pair can't work (the missing capability is named), or a value is out of its range.
    """
    values = config.values
    device = choose_device(config.runtime.device)
    method_class = import_class(values.method)
    task: Task = instantiate(values.task)
    encoder: Encoder = instantiate(values.encoder)
    task.encoder = encoder
    if reason := refusal(values, method_class, task, encoder):
        names = {group: plugin.name for group, plugin in config.plugins.items()}
        raise BenchError(
            f"{names['method']} with encoder {names['encoder']} can't run on {names['task']}: {reason}",
            "Choose another pair (bench list).",
        )
    versions = component_versions(values, method_class, task, encoder)
    data = task.data_identity(config.seeds)
    this_id = None if data is None else run_id(values, versions=versions, data=data)
    preset = registry.read_yaml(config.plugins["preset"].path)
    results = results_folder(
        config.runtime.results, home=work_folder(config.runtime.home), publish=bool(preset.get("publish", True))
    )
    records = [] if this_id is None else _records(config, results, this_id)
    return Cell(config, method_class, encoder, task, device, versions, data, this_id, results, tuple(records))


def workspace(
    config: Config, *, versions: Mapping[str, Any], data: Mapping[str, str] | None, rebuild: bool = False
) -> Workspace:
    """Return what a task needs to make its data or to say what a run would do."""
    return Workspace(
        config=config.values,
        seeds=config.seeds,
        workers=config.runtime.workers or available_cores(),
        cache=Cache(work_folder(config.runtime.home)),
        costs=Costs(),
        versions=versions,
        data=data,
        rebuild=rebuild,
    )


def run(cell: Cell, *, force: bool = False, rebuild: bool = False) -> Outcome:
    """Run a cell and write its record; where the record exists already, return that.

    Several processes may run the same cell together; the first writes the record.

    Args:
        cell: what to run.
        force: run anew, as a repeat with a record of its own; only data and slots are taken from the cache.
        rebuild: make every stage anew, also data and slots.

    Raises:
        BenchError: anything that the user can mend.
    """
    if cell.id is None or cell.data is None:
        root = OmegaConf.select(cell.config.values, "task.root")
        raise BenchError(f"the data is absent: task.root={root}", "Give an existing folder with task.root=DIR.")
    processes = team()
    processes.next_turn()
    if len(ids := set(processes.gather(cell.id))) > 1:
        raise BenchError(
            f"the processes would compute different runs: {', '.join(sorted(map(str, ids)))}",
            "Give all of them the same command, code and data.",
        )
    with _only_run(cell):
        # Looked up again under the lock: another process may have finished the same run in the meantime.
        this_id = cell.id
        existing = processes.by_first(lambda: _records(cell.config, cell.results, this_id))
        if existing and not force and not rebuild:
            return Outcome(existing[0], new=False)
        return Outcome(_run_new(cell, repeat=existing[-1].repeat + 1 if existing else 1, rebuild=rebuild), new=True)


@contextmanager
def _only_run(cell: Cell) -> Iterator[None]:
    """Hold the lock of a run; of several processes that share it the first does."""
    if not team().first:
        yield
        return
    with locked(work_folder(cell.config.runtime.home) / "locks" / f"{cell.id}.lock", f"run {cell.id}"):
        yield


def make_shared(cell: Cell) -> None:
    """Make the stages that a run shares with others (data, latents), and nothing else."""
    context, _ = _context(cell)
    cell.task.make_shared(context)


def _context(cell: Cell, *, repeat: int = 1, rebuild: bool = False) -> tuple[RunContext, int]:
    """Return what the task gets to run, and the number of threads."""
    config, task = cell.config, cell.task
    threads = set_threads(config.runtime.threads)
    keep_freed_memory()
    spec = LatentSpec(
        num_slots=cell.encoder.num_slots,
        slot_dim=cell.encoder.slot_dim,
        action_dim=task.action_dim,
        proprio_dim=task.proprio_dim,
        decoder=cell.encoder.decoder if cell.encoder.decodes else None,
    )
    torch.manual_seed(config.seeds.model)  # a model draws its first weights from the global generator
    base = workspace(config, versions=cell.versions, data=cell.data, rebuild=rebuild)
    base.repeat = repeat
    context = RunContext(
        **{name: value for name, value in vars(base).items() if not name.startswith("_")},
        device=cell.device,
        model=_model(config, spec),
        encoder=cell.encoder,
    )
    return context, threads


def _run_new(cell: Cell, *, repeat: int, rebuild: bool) -> Record:
    wall_start = time.time()
    config = cell.config
    context, threads = _context(cell, repeat=repeat, rebuild=rebuild)
    _announce(cell, context, threads=threads)
    with context.measure("total"):
        evaluation = cell.task.run(context)
    if isinstance(context.model, WorldModel):
        parameters = sum(p.numel() for p in context.model.parameters())
        context.costs.note("total", parameters=parameters, tokens_per_frame=cell.encoder.num_slots)
    packages = {plugin.package for plugin in config.plugins.values()}

    def write() -> Path:
        record = _record(
            cell,
            evaluation,
            repeat=repeat,
            costs=context.costs.stages,
            provenance=provenance(
                distributions=[registry.distributions()[package] for package in packages],
                threads=threads,
                device=str(cell.device),
                wall_start=wall_start,
            ),
        )
        return store.write_record(cell.results, record, items=evaluation.items)

    return store.read_record(team().by_first(write))


def component_versions(
    values: Node, method_class: type[WorldModel] | type[Reference], task: Task, encoder: Encoder
) -> dict[str, Any]:
    """Return the version of everything in a run that can change its numbers.

    Raises:
        BenchError: the weights that the training starts from are absent.
    """
    init = _init(values)
    return {
        "method": method_class.version,
        "encoder": encoder.version,
        "task": task.version,
        **({"trainer": TRAINER_VERSION} if issubclass(method_class, WorldModel) else {}),
        **({"init": sha256_of_file(init)} if init is not None else {}),
        **({"weights": encoder.weights} if encoder.weights else {}),
        **task.versions(),
    }


def refusal(values: Node, method_class: type[WorldModel] | type[Reference], task: Task, encoder: Encoder) -> str:
    """Return why method and encoder can't work on the task, before anything is computed; "" where they can.

    Raises:
        BenchError: the class is not what its YAML says, or a reference is to start from weights.
    """
    method = values["method"]
    base = WorldModel if method["kind"] == "method" else Reference
    if not issubclass(method_class, base):
        raise BenchError(f"{method['name']} is a {method['kind']} but its class is no {base.__name__}")
    if base is Reference and values["trainer"]["init"] is not None:
        raise BenchError(f"trainer.init is set, and the reference {method['name']} has no weights", "Leave it out.")
    lacking = sorted(task.needs - method_class.capabilities) if issubclass(method_class, WorldModel) else []
    return f"it lacks the capability {', '.join(lacking)}" if lacking else task.refuses(method_class, encoder)


def _init(values: Node) -> Path | None:
    """Return the file of weights that the training starts from."""
    init: str | None = values["trainer"]["init"]
    return None if init is None else initial_weights(init, key="trainer.init")


def _model(config: Config, spec: LatentSpec) -> WorldModel | Reference:
    model: WorldModel | Reference = instantiate(config.values.method, spec)
    if isinstance(model, WorldModel) and (path := _init(config.values)) is not None:
        load_weights(model, load(path).tensors, source=path)
    return model


def _records(config: Config, results: Path, this_id: str) -> list[Record]:
    return store.find_records(
        results, task=config.plugins["task"].name, method=config.plugins["method"].name, run_id=this_id
    )


def _announce(cell: Cell, context: RunContext, *, threads: int) -> None:
    plugins, seeds = cell.config.plugins, cell.config.seeds
    preset = registry.read_yaml(plugins["preset"].path)
    label = f" ({preset['label']})" if preset.get("label") else ""
    say(
        f"run {cell.id}: {plugins['method'].name} on {plugins['task'].name}, encoder {plugins['encoder'].name}, "
        f"preset {plugins['preset'].name}{label}, seed {seeds.model}"
    )
    if duration := preset.get("duration"):
        shared = f" in each of {team().size} processes" if team().size > 1 else ""
        say(f"expected to take {duration}; on {context.device} with {threads} thread{'s' * (threads > 1)}{shared}")
    if stages := cell.task.stages(context):
        cached = {name: context.cached(name, key) for name, key in stages.items()}
        say("stages: " + ", ".join(f"{name} (cached)" if hit else name for name, hit in cached.items()))


def _record(
    cell: Cell, evaluation: Evaluation, *, repeat: int, costs: Mapping[str, Any], provenance: Mapping[str, Any]
) -> Record:
    assert cell.id is not None
    assert cell.data is not None
    config = cell.config
    plugins = config.plugins
    not_measured = [name for name, value in evaluation.metrics.items() if value.n == 0]
    resolved = recorded_config(config.values)
    return Record(
        id=cell.id,
        repeat=repeat,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        method=plugins["method"].name,
        kind=plugins["method"].kind,
        privileged=getattr(cell.method_class, "privileged", "none"),
        task=plugins["task"].name,
        encoder=plugins["encoder"].name,
        encoder_reads=cell.encoder.reads,
        preset=plugins["preset"].name,
        seeds=resolved["seeds"],
        overrides=list(map(recorded_override, config.overrides)),
        config=resolved,
        identity=identity(config.values, versions=cell.versions, data=cell.data),
        data=dict(cell.data),
        split=dict(evaluation.split),
        section={
            "data": cell.data["kind"],
            "encoder_reads": cell.encoder.reads,
            "preset": plugins["preset"].name,
            "protocol": evaluation.protocol,
        },
        metrics=_metrics(cell.task.metrics(), evaluation.metrics, plugins["task"].name),
        notes={**evaluation.notes, **({"not_measured": not_measured} if not_measured else {})},
        warnings=list(evaluation.warnings),
        collapsed=list(evaluation.collapsed),
        curves={name: [dict(row) for row in rows] for name, rows in evaluation.curves.items()},
        costs=costs,
        provenance=provenance,
    )


def _metrics(declared: tuple[Metric, ...], measured: Mapping[str, MetricValue], task: str) -> dict[str, dict[str, Any]]:
    """Return the metrics of a record: those that the task declares, in that order, without those of no item."""
    names = [metric.name for metric in declared]
    if wrong := sorted(set(names) ^ set(measured)):
        raise BenchError(f"the task {task} does not give exactly the metrics that it declares: {', '.join(wrong)}")
    found = {}
    for metric in declared:
        value = measured[metric.name]
        if value.n == 0:
            continue
        if not math.isfinite(value.value):
            raise BenchError(f"the metric {metric.name} is {value.value} over {value.n} items")
        found[metric.name] = {
            "value": float(value.value),
            "low": None if value.low is None else float(value.low),
            "high": None if value.high is None else float(value.high),
            "n": int(value.n),
            "unit": metric.unit,
            "higher_is_better": metric.higher_is_better,
            "interval": value.interval,
        }
    return found
