"""What a task gets to work with (`RunContext`) and what it gives back (`Evaluation`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ocwm.progress import Progress, progress, say

if TYPE_CHECKING:
    import torch
    from omegaconf import DictConfig

    from ocwm.artifacts import Cache
    from ocwm.costs import Costs
    from ocwm.interfaces import Encoder, Reference, WorldModel
    from ocwm.schemas import Seeds
    from ocwm.types import MetricValue


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


@dataclass
class RunContext:
    """Everything that a task needs for one run.

    Attributes:
        config: the resolved configuration (groups method, task, encoder, trainer, seeds, runtime; preset).
        device: where tensors belong.
        seeds: the five seed axes (data, encoder, model, reasoner, eval).
        cache: the stage cache; `stage` is the way to it.
        costs: what each stage cost.
        versions: version of every component that can change numbers, by component name.
        data: {"kind", "name", "manifest"} of the data, as the task's `data_identity` gave it.
        model: the built world model or reference.
        encoder: the built encoder.
        rebuild: build every stage anew, also where it is cached.
        repeat: 1 for the first run of a configuration, 2 for its first repeat, and so on.
    """

    config: DictConfig
    device: torch.device
    seeds: Seeds
    cache: Cache
    costs: Costs
    versions: Mapping[str, Any]
    data: Mapping[str, str] | None
    model: WorldModel | Reference
    encoder: Encoder
    rebuild: bool = False
    repeat: int = 1
    _fresh: set[Path] = field(default_factory=set, repr=False)

    def part(self, *names: str) -> dict[str, Any]:
        """Return the part of the run's identity that belongs to some of its parts, for the key of a stage.

        Args:
            names: groups of the configuration ("encoder", "method", "trainer", "task", or a node in them such as
                "task.reasoner"), "data", or one seed such as "seeds.model".

        Returns:
            name -> {"config": ..., "version": ...} for a group, the plain value for the others. Values that are
            neutral for identities are left out.
        """
        from ocwm.identity import identity_part

        return {name: identity_part(self.config, name, versions=self.versions, data=self.data) for name in names}

    def stage(
        self, name: str, key: Mapping[str, Any], build: Callable[[Path], None], *, shared: bool = False
    ) -> Path:
        """Return the folder of a cached stage; build it first where it is not there.

        Args:
            name: of the stage; its costs are recorded under it.
            key: everything that the result depends on (JSON values); see `part`.
            build: writes the result into the (empty) folder that it is given.
            shared: True for what has nothing to do with training or evaluation (data, slots): a repeat of the run
                (`--force`) uses it again.

        Raises:
            BenchError: the cached entry is damaged, or the disk is full.
        """
        key = self._key(key, shared=shared)
        rebuild = self.rebuild and self.cache.path(name, key) not in self._fresh
        hit = self.cache.has(name, key) and not rebuild

        def measured(folder: Path) -> None:
            with self.costs.measure(name):
                build(folder)

        path = self.cache.stage(name, key, measured, rebuild=rebuild, cost=lambda: self.costs.stages.get(name, {}))
        self._fresh.add(path)
        if hit:
            self.costs.add(name, **{**self.cache.cost(path), "cached": True})
        return path

    def work(self, name: str, key: Mapping[str, Any], *, shared: bool = False) -> Path:
        """Return a folder that survives an interruption (for training checkpoints); gone once its stage is complete."""
        return self.cache.work(name, self._key(key, shared=shared))

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

    def _key(self, key: Mapping[str, Any], *, shared: bool) -> dict[str, Any]:
        return dict(key) if shared or self.repeat == 1 else {**key, "repeat": self.repeat}
