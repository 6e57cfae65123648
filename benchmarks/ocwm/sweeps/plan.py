"""What a suite means: which runs are done, which are to do, which can't work, what is missing. Nothing is computed."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf

from ocwm import registry
from ocwm.artifacts import Cache, digest
from ocwm.config import import_class, instantiate
from ocwm.context import Workspace
from ocwm.costs import Costs
from ocwm.errors import BenchError
from ocwm.folders import results_folder, work_folder
from ocwm.identity import identity
from ocwm.interfaces import Encoder, Task
from ocwm.run import component_versions, refusal
from ocwm.schemas import Seeds
from ocwm.sweeps.family import values_of
from ocwm.sweeps.suite import Suite, Variant

State = Literal["done", "todo", "refused", "missing"]


@dataclass(frozen=True)
class Shared:
    """Stages that several runs have in common.

    Attributes:
        id: digest of their keys.
        names: of the stages.
        cached: whether all of them are there.
    """

    id: str
    names: tuple[str, ...]
    cached: bool


@dataclass(frozen=True)
class PlannedCell:
    """One run of a suite.

    Attributes:
        variant, seed: what is to be run.
        state: "done" (there is a record), "todo", "refused" (the pair can't work), or "missing" (data, weights or the
            plugin's own imports).
        id: of the run; None where it is not known yet.
        reason: why it is refused, or what is missing.
        shared: what it has in common with others; None where nothing.
    """

    variant: Variant
    seed: int
    state: State
    id: str | None = None
    reason: str = ""
    shared: Shared | None = None

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.variant.name}, seed {self.seed}"

    @property
    def command(self) -> list[str]:
        """The arguments of `bench` that run it."""
        variant = self.variant
        chosen = ["--method", variant.method, "--task", variant.task, "--preset", variant.preset]
        return ["run", *chosen, "--seed", str(self.seed), *variant.all_overrides]


@dataclass(frozen=True)
class Plan:
    """A suite's runs, in its order, none twice.

    Attributes:
        suite: what was planned.
        cells: of it.
        home: the work folder.
        results: the folder for records that was asked for, if any.
    """

    suite: Suite
    cells: tuple[PlannedCell, ...]
    home: Path
    results: Path | None

    def of(self, state: State) -> list[PlannedCell]:
        """The cells in a state."""
        return [cell for cell in self.cells if cell.state == state]

    def results_of(self, cell: PlannedCell) -> Path:
        """Where the record of a cell lies or will lie."""
        return _results(cell.variant.preset, self.results, self.home)


def plan(suite: Suite, *, home: Path | None = None, results: Path | None = None) -> Plan:
    """Find out what a suite means.

    Args:
        suite: what to run.
        home: work folder; None as for `bench run`.
        results: folder for records; None as for `bench run`.

    Raises:
        BenchError: an override that no run could have.
    """
    folder = work_folder(None if home is None else str(home))
    planner = _Planner(home=folder, results=results, needs_data=suite.needs_data)
    cells: dict[tuple[str, str | None], PlannedCell] = {}
    for variant in suite.variants:
        for cell in planner.cells(variant):
            # Two blocks may ask for the same run in different words; its id tells.
            cells.setdefault((cell.id or cell.name, cell.variant.method), cell)
    return Plan(suite, tuple(cells.values()), planner.home, results)


@dataclass(frozen=True)
class _Known:
    """What is known of one run, and holds for all that differ by their seeds only."""

    values: Mapping[str, Any]
    identity: Mapping[str, Any]
    shared: Shared | None
    recorded: frozenset[str]

    def id_with(self, values: Mapping[str, Any]) -> str | None:
        """The id of a run with this configuration; None where more than the seeds is different."""
        if any(values[group] != self.values[group] for group in values if group not in ("seeds", "runtime")):
            return None
        config = {**self.identity["config"], "seeds": values["seeds"]}
        return digest({**self.identity, "config": config}, length=12)


@dataclass
class _Planner:
    """Plans cells and remembers what many of them have in common."""

    home: Path
    results: Path | None
    needs_data: bool
    _built: dict[str, Task] = field(default_factory=dict)
    _recorded: dict[Path, frozenset[str]] = field(default_factory=dict)
    _shared: dict[str, Shared | None] = field(default_factory=dict)

    def cells(self, variant: Variant) -> Iterator[PlannedCell]:
        """The runs of a variant."""
        known: _Known | None = None
        for seed in variant.seeds:
            values = _values(variant, seed)
            this_id = None if known is None else known.id_with(values)
            if this_id is None:
                try:
                    known = self._look(variant, values)
                except _Impossible as reason:
                    yield PlannedCell(variant, seed, reason.state, reason=str(reason))
                    continue
                this_id = digest(known.identity, length=12)
            assert known is not None
            done = this_id in known.recorded
            yield PlannedCell(variant, seed, "done" if done else "todo", id=this_id, shared=known.shared)

    def _look(self, variant: Variant, values: dict[str, Any]) -> _Known:
        """Build what a run is made of and find out its identity."""
        try:
            method_class = import_class(values["method"])
            task, encoder = self._parts(values)
            if reason := refusal(values, method_class, task, encoder):
                raise _Impossible("refused", reason)
            data = task.data_identity(Seeds(**values["seeds"]))
            lacking = [] if data is not None else [f"the data is absent: task.root={values['task'].get('root')}"]
            if self.needs_data and data is not None and data["kind"] == "embedded":
                lacking = [f"recorded data of {variant.task} (--data {variant.task}=DIR)"]
            versions = _versions(values, method_class, task, encoder, lacking)
            if lacking:
                raise _Impossible("missing", "; ".join(lacking))
            assert data is not None
        except BenchError as error:
            raise _Impossible("missing", str(error)) from error
        shared = self._shared_stages(values, task, versions, data)
        results = _results(variant.preset, self.results, self.home)
        recorded = self._records(results / "runs" / variant.task / variant.method)
        return _Known(values, identity(values, versions=versions, data=data), shared, recorded)

    def _parts(self, values: Mapping[str, Any]) -> tuple[Task, Encoder]:
        """Task and encoder, built once for equal settings."""
        key = digest([values["task"], values["encoder"]])
        if key not in self._built:
            task: Task = instantiate(values["task"])
            task.encoder = instantiate(values["encoder"])
            self._built[key] = task
        task = self._built[key]
        assert task.encoder is not None
        return task, task.encoder

    def _records(self, folder: Path) -> frozenset[str]:
        if folder not in self._recorded:
            self._recorded[folder] = frozenset(path.name.partition(".")[0] for path in folder.glob("*.json"))
        return self._recorded[folder]

    def _shared_stages(
        self,
        values: dict[str, Any],
        task: Task,
        versions: Mapping[str, Any],
        data: Mapping[str, str],
    ) -> Shared | None:
        seeds = {name: values["seeds"][name] for name in ("data", "encoder", "eval")}
        key = digest([values["method"]["kind"], values["task"], values["encoder"], values["trainer"]["init"], seeds])
        if key not in self._shared:
            cache = Cache(self.home)
            workspace = Workspace(
                config=OmegaConf.create(values),
                seeds=Seeds(**values["seeds"]),
                workers=1,
                cache=cache,
                costs=Costs(),
                versions=versions,
                data=data,
            )
            stages = task.shared(workspace)
            cached = all(cache.has(name, key) for name, key in stages.items())
            self._shared[key] = Shared(digest(stages, length=12), tuple(stages), cached) if stages else None
        return self._shared[key]


class _Impossible(Exception):
    """A run that can't be, or not yet."""

    def __init__(self, state: State, reason: str) -> None:
        super().__init__(reason)
        self.state = state


def _versions(
    values: Mapping[str, Any], method_class: type[Any], task: Task, encoder: Encoder, lacking: list[str]
) -> dict[str, Any]:
    """Versions of a run's parts; weights that are absent are added to what is lacking."""
    try:
        return component_versions(values, method_class, task, encoder)
    except BenchError as error:
        hint = f"{error.message} (--weights {values['encoder']['name']}=FILE)"
        lacking.append(hint if values["encoder"].get("weights", "") is None else str(error))
        return {}


def _values(variant: Variant, seed: int) -> dict[str, Any]:
    try:
        return values_of(
            method=variant.method, task=variant.task, preset=variant.preset, seed=seed, overrides=variant.all_overrides
        )
    except BenchError as error:
        raise BenchError(f"run '{variant.name}' of the suite: {error.message}", error.hint) from error


@functools.lru_cache(maxsize=64)
def _results(preset: str, results: Path | None, home: Path) -> Path:
    settings = registry.read_yaml(registry.find("preset", preset).path)
    publish = bool(settings.get("publish", True))
    return results_folder(None if results is None else str(results), home=home, publish=publish)
