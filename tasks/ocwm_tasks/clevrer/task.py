"""The CLEVRER task: data, latents, world model, rollouts, reasoners, figures.

Shape letters: V videos, T frames, N slots, D slot dimension, n objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from ocwm.artifacts import sha256_of_file
from ocwm.checkpoint import initial_weights
from ocwm.context import DataReport, Evaluation, RunContext, Workspace
from ocwm.errors import BenchError, suggest
from ocwm.interfaces import Encoder, Reference, Task, WorldModel
from ocwm.schemas import Seeds
from ocwm.types import Metric
from ocwm_tasks.clevrer import measures
from ocwm_tasks.clevrer.aloe.reasoner import VERSION as ALOE_VERSION
from ocwm_tasks.clevrer.dataset import Dataset, Source
from ocwm_tasks.clevrer.evaluation import evaluate
from ocwm_tasks.clevrer.generator.config import GeneratorConfig, generator_config
from ocwm_tasks.clevrer.generator.make import VERSION
from ocwm_tasks.clevrer.manifest import data_identity, generator_identity, slots_identity
from ocwm_tasks.clevrer.pipeline import TRAJECTORY_STEPS, Pipeline
from ocwm_tasks.clevrer.precomputed import PrecomputedSlots
from ocwm_tasks.clevrer.reader import open_dataset
from ocwm_tasks.clevrer.scene import OBSERVED_FRAMES, ROLLOUT_FRAMES
from ocwm_tasks.clevrer.splits import choose_source
from ocwm_tasks.clevrer.symbolic.reasoner import SymbolicReasoner

PROTOCOLS = ("published", "imagined")
REASONERS = ("symbolic", "aloe")
SOURCES = ("auto", "annotation", "trajectories")


class ClevrerTask(Task):
    """Video question answering on CLEVRER, and the error of the rollouts behind it.

    Args:
        root: folder in the official layout; None for the embedded data, which is made where it is missing.
        source: where states come from: "annotation", "trajectories", or "auto" for whatever there is more of.
        protocol: "published": the reasoner sees observed frames, only predictive questions see imagined ones.
            "imagined": it sees the first frames of a video and the model's rollout of the rest, for every question.
        prefix: observed frames under "imagined"; 0 = each video's last entrance + 12.
        reasoner_train: latents that ALOE is trained on. "imagined": the model's own rollouts of the training videos (the
            published way; every model gets a reasoner of its own). "true": the encoder's latents of the real future, so
            that one reasoner judges all models and its own training can't differ between them. "auto": "imagined"
            under the published protocol, "true" under the other.
        split: what is measured on: "test", or "dev" for decisions.
        reasoners: of "symbolic" and "aloe".
        horizons: predicted frames after which rollout errors are given.
        entry_filter: leave out training clips in which an object enters (SlotFormer's filter; C-JEPA has none).
        dev_videos: dev videos that the learning curve is measured on.
        generator: settings of the embedded data, see `GeneratorConfig`.
        aloe: sizes and training of the ALOE reasoner, see `aloe.reasoner.AloeConfig`.
        draws: resamples of the bootstrap over videos.
    """

    version: ClassVar[int] = 1

    def __init__(
        self,
        *,
        root: str | None = None,
        source: str = "auto",
        protocol: str = "published",
        prefix: int = 0,
        reasoner_train: str = "auto",
        split: str = "test",
        reasoners: Sequence[str] = REASONERS,
        horizons: Sequence[int] = (1, 4, 8, 16, 31),
        entry_filter: bool = False,
        dev_videos: int = 100,
        generator: Mapping[str, Any] | None = None,
        aloe: Mapping[str, Any] | None = None,
        draws: int = 2000,
    ) -> None:
        for key, value, known in (
            ("source", source, SOURCES),
            ("protocol", protocol, PROTOCOLS),
            ("reasoner_train", reasoner_train, ("auto", "true", "imagined")),
            ("split", split, ("test", "dev")),
            *(("reasoners", name, REASONERS) for name in reasoners),
        ):
            if value not in known:
                raise BenchError(f"task.{key}={value} is not known", suggest(value, known))
        most = ROLLOUT_FRAMES - OBSERVED_FRAMES
        if not horizons or not all(1 <= h <= most for h in horizons):
            raise BenchError(f"task.horizons={list(horizons)} is not possible", f"Choose values from 1 to {most}.")
        self.root = None if root is None else Path(root)
        self.source = source
        self.protocol = protocol
        self.prefix = prefix
        if reasoner_train == "auto":
            reasoner_train = "imagined" if protocol == "published" else "true"
        self.reasoner_train = reasoner_train
        self.split = split
        self.reasoners = tuple(reasoners)
        self.horizons = tuple(horizons)
        self.entry_filter = entry_filter
        self.dev_videos = dev_videos
        self.generator: GeneratorConfig = generator_config(generator or {})
        self.aloe = dict(aloe or {})
        self.draws = draws

    @cached_property
    def dataset(self) -> Dataset:
        """The folder at `task.root`; embedded data lies in the cache and is opened by the pipeline."""
        if self.root is None:
            raise ValueError("embedded data has no root")
        return open_dataset(self.root)

    @cached_property
    def scene_source(self) -> Source:
        """Where states are read from."""
        return "annotation" if self.root is None else choose_source(self.dataset, self.source)

    @property
    def stored(self) -> PrecomputedSlots | None:
        """The slots that exist already, where the run uses such."""
        return self.encoder if isinstance(self.encoder, PrecomputedSlots) else None

    def metrics(self) -> tuple[Metric, ...]:
        """Rollout errors, then each reasoner's accuracies."""
        if self.stored is not None:
            steps = ROLLOUT_FRAMES - OBSERVED_FRAMES
            return measures.declare_stored(
                self.reasoners,
                horizons=self.horizons_for(steps),
                future_known=self.stored.future == "real",
                observed=OBSERVED_FRAMES,
                steps=steps,
            )
        steps = TRAJECTORY_STEPS if self.scene_source == "trajectories" else ROLLOUT_FRAMES - OBSERVED_FRAMES
        return measures.declare(self.reasoners, horizons=self.horizons_for(steps), unit=self.unit)

    def horizons_for(self, steps: int) -> tuple[int, ...]:
        """The horizons that a rollout of so many steps reaches; its last step where it is too short for some of them."""
        reached = tuple(h for h in self.horizons if h <= steps)
        return reached if len(reached) == len(self.horizons) else tuple(dict.fromkeys((*reached, steps)))

    @property
    def unit(self) -> str:
        """Unit of positions."""
        return "image-plane units" if self.scene_source == "trajectories" else "world units"

    def versions(self) -> Mapping[str, Any]:
        """Versions of the reasoners and of the weights that they start from, and of the generator for embedded data."""
        known = {"symbolic": SymbolicReasoner.version, "aloe": ALOE_VERSION}
        generator = {"generator": VERSION} if self.root is None else {}
        weights = {"aloe_init": self.aloe_init} if self.aloe_init and "aloe" in self.reasoners else {}
        return {**{name: known[name] for name in self.reasoners}, **weights, **generator}

    @cached_property
    def aloe_init(self) -> str:
        """The sha256 of the weights that ALOE starts from, shortened; "" where it starts from a seed."""
        init: str | None = self.aloe.get("trainer", {}).get("init")
        return "" if init is None else sha256_of_file(initial_weights(init, key="task.aloe.trainer.init"))[:12]

    def data_identity(self, seeds: Seeds) -> Mapping[str, str] | None:
        """Generator settings and seed, or what lies in the folder."""
        if self.root is None:
            return generator_identity(self.generator, version=VERSION, seed=seeds.data)
        if self.stored is not None:
            return slots_identity(self.dataset, slots=self.stored.store.identity)
        return data_identity(self.dataset, source=self.scene_source)

    def stages(self, workspace: Workspace) -> Mapping[str, Mapping[str, Any]]:
        """Keys of the cached stages."""
        return Pipeline(self, workspace).keys()

    def refuses(self, model: type[WorldModel] | type[Reference], encoder: Encoder) -> str:
        """Say what this pair lacks."""
        if self.stored is not None:
            return self._refuses_stored(model, self.stored)
        if issubclass(model, Reference) and model.privileged == "stored_rollout":
            return "it plays back a rollout that is stored with slots (set encoder=precomputed)"
        if encoder.reads != "state":
            return "the encoder reads pixels, and only encoders of states and precomputed slots are supported so far"
        if issubclass(model, Reference) and model.privileged == "future" and self.root is not None:
            return "it reads the real future, which only embedded data has"
        if self.root is not None and self.protocol == "imagined":
            return "task.protocol=imagined needs data whose future is known; only embedded data has that"
        if issubclass(model, Reference) and model.sees_video and not model.sees_rollout and self.protocol == "imagined":
            return "it has no rollout, and task.protocol=imagined shows nothing else after the prefix"
        unknown_future = self.root is not None and self.scene_source != "trajectories"
        if unknown_future and self.reasoner_train == "true" and "aloe" in self.reasoners:
            return "task.reasoner_train=true needs the real future, which official data lacks (set it to imagined)"
        return ""

    def _refuses_stored(self, model: type[WorldModel] | type[Reference], stored: PrecomputedSlots) -> str:
        """The same for slots that exist already: nothing is known about objects there."""
        future = stored.future
        if self.root is None:
            return "stored slots belong to the videos of a folder (set task.root)"
        if "symbolic" in self.reasoners:
            return "the symbolic reasoner must know which object a slot holds (set task.reasoners=[aloe])"
        if self.protocol == "imagined":
            return "task.protocol=imagined must know which object a slot holds (set it to published)"
        if self.entry_filter:
            return "task.entry_filter=true must know when objects come into view (set it to false)"
        if self.source != "auto":
            return f"task.source={self.source} chooses states, and stored slots need none (set it to auto)"
        privileged = model.privileged if issubclass(model, Reference) else "none"
        if privileged == "future" and future != "real":
            return "it reads the real future, which these slots lack (encoder.future=real says that they have it)"
        if privileged == "stored_rollout" and future != "imagined":
            return (
                "it reads an imagined future, which these slots lack (encoder.future=imagined says that they have it)"
            )
        if self.reasoner_train == "true" and future != "real" and "aloe" in self.reasoners:
            return "task.reasoner_train=true needs the real future, which these slots lack (set it to imagined)"
        return ""

    def run(self, context: RunContext) -> Evaluation:
        """Do all stages and measure."""
        return evaluate(self, context)

    def data_make(self, workspace: Workspace, *, out: Path | None) -> DataReport:
        """Make the embedded data in the folder `out`, or in the cache."""
        from ocwm_tasks.clevrer.data_commands import make

        return make(self, workspace, out=out)

    def data_check(self, workspace: Workspace, *, out: Path | None) -> DataReport:
        """Read everything, run every program whose truth is known; the manifest goes to `out`."""
        from ocwm_tasks.clevrer.data_commands import check

        return check(self, workspace, out=out)

    def data_describe(self, workspace: Workspace, *, out: Path | None) -> DataReport:
        """Counts, balance of the questions, text-only score; contact sheets of frames go to the folder `out`."""
        from ocwm_tasks.clevrer.data_commands import describe

        return describe(self, workspace, out=out)
