"""What a task gets to work with (`Workspace`, `RunContext`) and what it gives back (`Evaluation`, `DataReport`)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ocwm.distributed import DONE, FAILED, JOIN, ProcessFailed, alone, team, whole_team
from ocwm.errors import BenchError
from ocwm.progress import Progress, progress, say

if TYPE_CHECKING:
    import torch
    from omegaconf import DictConfig

    from ocwm.artifacts import Cache
    from ocwm.costs import Costs
    from ocwm.interfaces import Encoder, Reference, WorldModel
    from ocwm.schemas import Seeds
    from ocwm.types import MetricValue

_LOOKS = 60  # for a finished stage: half a minute
_KEPT_BY_REPEATS = ("data", "frames", "images", "slots", "quality")


@dataclass(frozen=True)
class Evaluation:
    """What one run measured.

    Attributes:
        metrics: one value for exactly the metrics that the task declares.
        items: per-item outcomes (one entry for each question or episode), stored beside the record as npz.
        notes: free facts for the record, e.g. the share of imagined frames by question type.
        curves: learning curves, name -> rows such as {"step": 100, "loss": 0.1}.
        data: {"kind", "name", "manifest"}; the same as the task's `data_identity` gave.
        split: {"name", "hash"} of the split that was measured on.
        warnings: one sentence each; shown under the table.
        collapsed: keys of metrics that stand at their floor.
        protocol: what separates tables of one task, e.g. "published" or "imagined"; "" where there is one only.
    """

    metrics: Mapping[str, MetricValue]
    items: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, list[dict[str, float]]] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    split: Mapping[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    collapsed: list[str] = field(default_factory=list)
    protocol: str = ""


@dataclass(frozen=True)
class DataReport:
    """What a data command found.

    Attributes:
        facts: for `--json`.
        text: the same for people.
        ok: False where something is wrong with the data (exit code 1).
    """

    facts: Mapping[str, Any]
    text: str
    ok: bool = True


@dataclass(kw_only=True)
class Workspace:
    """What a task needs to make its data and to say what a run would do.

    Attributes:
        config: the resolved configuration (groups method, task, encoder, trainer, seeds, runtime; preset).
        seeds: the five seed axes (data, encoder, model, reasoner, eval).
        workers: number of processes to make data with; where several processes share the run, that of them all on one
            machine.
        cache: the stage cache; `stage` is the way to it.
        costs: what each stage cost.
        versions: version of every component that can change numbers, by component name.
        data: {"kind", "name", "manifest"} of the data, as the task's `data_identity` gave it; None while absent.
        rebuild: build every stage anew, also where it is cached.
        repeat: 1 for the first run of a configuration, 2 for its first repeat, and so on.
    """

    config: DictConfig
    seeds: Seeds
    workers: int
    cache: Cache
    costs: Costs
    versions: Mapping[str, Any]
    data: Mapping[str, str] | None
    rebuild: bool = False
    repeat: int = 1
    _fresh: set[Path] = field(default_factory=set, repr=False)
    _seconds_before: float = field(default=0.0, repr=False)

    def part(self, *names: str) -> dict[str, Any]:
        """Return the part of the run's identity that belongs to some of its parts, for the key of a stage.

        Args:
            names: groups of the configuration ("encoder", "method", "trainer", "task", or a node in them such as
                "task.reasoner"), "data", or one seed such as "seeds.model".

        Returns:
            name -> {"config": ..., "version": ...} for a group (with "weights" for an encoder that has some), the
            plain value for the others. Values that are neutral for identities are left out.
        """
        from ocwm.identity import identity_part

        return {name: identity_part(self.config, name, versions=self.versions, data=self.data) for name in names}

    @property
    def own_workers(self) -> int:
        """This process's share of the workers, for work that several processes do at the same time."""
        return max(1, self.workers // team().sharing)

    def stage(
        self, name: str, key: Mapping[str, Any], build: Callable[[Path], None], *, together: bool = False
    ) -> Path:
        """Return the folder of a cached stage; build it first where it is not there.

        Args:
            name: of the stage; its costs are recorded under it. What comes before a dot groups stages ("slots.train"):
                "data", "frames", "images", "slots" and "quality" have nothing to do with training, so that a repeat of a run
                uses them again.
            key: everything that the result depends on (JSON values); see `part`.
            build: writes the result into the (empty) folder that it is given.
            together: where several processes share the run, all of them build, so that they can share the work
                (training, extraction); what the first one leaves in its folder is the result. Else the first builds
                while the others wait.

        Raises:
            BenchError: the cached entry is damaged, or the disk is full.
        """
        key = self._key(name, key)
        place = self.cache.path(name, key)
        rebuild = self.rebuild and place not in self._fresh
        if whole_team().first:
            with _told(place):
                self._lead(name, key, place, build, rebuild=rebuild, together=together)
        else:
            self._follow(name, key, place, build, rebuild=rebuild)
        self._fresh.add(place)
        return place

    def count_before(self, seconds: float) -> None:
        """Add the time of earlier, interrupted sessions to the cost of the stage that is being built."""
        self._seconds_before += seconds

    def _lead(
        self,
        name: str,
        key: Mapping[str, Any],
        place: Path,
        build: Callable[[Path], None],
        *,
        rebuild: bool,
        together: bool,
    ) -> None:
        cost: dict[str, Any] = {}
        built = False

        def measured(folder: Path) -> None:
            nonlocal built
            built = True
            self._seconds_before = 0.0
            with self.costs.measure(name) as spent:
                if together and (size := team().size) > 1:
                    spent["processes"] = size
                    team().say(str(place), JOIN)
                    build(folder)
                else:
                    with alone():
                        build(folder)
            self.costs.add(name, {"seconds": self._seconds_before}, cached=False)
            cost.update({**spent, "seconds": spent["seconds"] + self._seconds_before})

        self.cache.stage(name, key, measured, rebuild=rebuild, notes=cost)
        if not built and place not in self._fresh:
            self.costs.add(name, self.cache.notes(place), cached=True)

    def _follow(
        self, name: str, key: Mapping[str, Any], place: Path, build: Callable[[Path], None], *, rebuild: bool
    ) -> None:
        """Take part in the building where the first process asks for it, and wait until the stage is there."""
        joined = False
        for _ in whole_team().waiting(f"stage '{name}'"):
            word = whole_team().heard(str(place))
            if word == DONE or (not word and not rebuild and self.cache.has(name, key)):
                break
            if word.startswith(FAILED):
                raise ProcessFailed(word.removeprefix(FAILED))
            if word == JOIN and not joined:
                with tempfile.TemporaryDirectory() as folder:
                    build(Path(folder))
                joined = True
        for _ in zip(whole_team().waiting(f"stage '{name}'"), range(_LOOKS), strict=False):
            if self.cache.has(name, key):  # a file system on several machines may take a moment
                return
        raise BenchError(f"stage '{name}' is not at {place}", "Several processes need one work folder: set OCWM_HOME.")

    def cached(self, name: str, key: Mapping[str, Any]) -> bool:
        """Say whether `stage` would find its result."""
        return not self.rebuild and self.cache.has(name, self._key(name, key))

    def work(self, name: str, key: Mapping[str, Any]) -> Path:
        """Return a folder that survives an interruption (for training checkpoints); gone once its stage is complete."""
        return self.cache.work(name, self._key(name, key))

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Measure the cost of work that is not a cached stage."""
        with self.costs.measure(name):
            yield

    def progress(self, label: str, total: int) -> AbstractContextManager[Progress]:
        """Show a bar on a terminal: `with context.progress("training", 1000) as bar: bar.update(1)`."""
        return progress(label, total)

    def say(self, text: str) -> None:
        """Tell the user one line (on stderr)."""
        say(text)

    def _key(self, name: str, key: Mapping[str, Any]) -> dict[str, Any]:
        """Return the key of a stage, apart for each repeat of a run."""
        kept = self.repeat == 1 or name.partition(".")[0] in _KEPT_BY_REPEATS
        return dict(key) if kept else {**key, "repeat": self.repeat}


@dataclass(kw_only=True)
class RunContext(Workspace):
    """Everything that a task needs for one run: a workspace and

    Attributes:
        device: where tensors belong.
        model: the built world model (not trained, on the CPU) or reference.
        encoder: the built encoder.
    """

    device: torch.device
    model: WorldModel | Reference
    encoder: Encoder


@contextmanager
def _told(place: Path) -> Iterator[None]:
    """Tell the other processes of a run what came of a stage."""
    whole = whole_team()
    try:
        yield
    except BenchError as error:
        whole.say(str(place), f"{FAILED}{error}")
        raise
    except OSError as error:
        whole.say(str(place), f"{FAILED}{type(error).__name__}: {error}")
        raise
    whole.say(str(place), DONE)
