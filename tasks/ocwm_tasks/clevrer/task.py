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
from ocwm.evidence import Evidence, Shown
from ocwm.extraction import EXTRACTION_VERSION
from ocwm.interfaces import Encoder, Reference, Task, WorldModel
from ocwm.schemas import Seeds
from ocwm.types import Metric, Observations
from ocwm.videos import Videos
from ocwm_tasks.clevrer import measures
from ocwm_tasks.clevrer.aloe.reasoner import VERSION as ALOE_VERSION
from ocwm_tasks.clevrer.data_stages import NAMES, DataStages
from ocwm_tasks.clevrer.dataset import Dataset, Source
from ocwm_tasks.clevrer.evaluation import evaluate
from ocwm_tasks.clevrer.evidence import questions
from ocwm_tasks.clevrer.generator.config import GeneratorConfig, generator_config
from ocwm_tasks.clevrer.generator.make import VERSION
from ocwm_tasks.clevrer.manifest import data_identity, generator_identity, slots_identity
from ocwm_tasks.clevrer.observe import drawn_states
from ocwm_tasks.clevrer.pipeline import TRAJECTORY_STEPS, Pipeline
from ocwm_tasks.clevrer.precomputed import PrecomputedSlots
from ocwm_tasks.clevrer.reader import open_dataset
from ocwm_tasks.clevrer.refusals import refusal
from ocwm_tasks.clevrer.scene import MAX_OBJECTS, OBSERVED_FRAMES, ROLLOUT_FRAMES
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
        quality_videos: dev videos that the quality of an encoder of pixels is measured on; 0 for none.
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
        quality_videos: int = 50,
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
        if quality_videos < 0:
            raise BenchError(f"task.quality_videos={quality_videos} is negative", "Use 0 for no measurement.")
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
        self.quality_videos = quality_videos
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

    @property
    def reads_videos(self) -> bool:
        """Whether the encoder reads videos as pixels."""
        return self.encoder is not None and self.encoder.reads == "pixels" and self.stored is None

    @property
    def embedded(self) -> bool:
        """Whether the data is generated: the future, masks and what removals do are known."""
        return self.root is None or self.dataset.kind == "embedded"

    @property
    def objects_known(self) -> bool:
        """Whether it is known which slot holds which object; positions and the symbolic reasoner need that."""
        if self.stored is not None:
            return False
        return not self.reads_videos or (self.embedded and self.encoder is not None and self.encoder.segments)

    @property
    def future(self) -> str:
        """What latents of videos hold after the observed frames: "real", "imagined" by another model, or "" (nothing)."""
        if self.stored is not None:
            return self.stored.future or ""
        return "real" if self.embedded else ""

    @property
    def most_objects(self) -> int:
        """The largest number of objects that a video can have."""
        return self.generator.max_objects if self.root is None else MAX_OBJECTS

    def metrics(self) -> tuple[Metric, ...]:
        """Rollout errors, then each reasoner's accuracies."""
        if not self.objects_known:
            steps = ROLLOUT_FRAMES - OBSERVED_FRAMES
            return measures.declare_unmatched(
                self.reasoners,
                horizons=self.horizons_for(steps),
                future_known=self.future == "real",
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
        """Versions of the reasoners and of the weights that they start from, of the generator for embedded data, and of
        the extraction for slots of videos.
        """
        known = {"symbolic": SymbolicReasoner.version, "aloe": ALOE_VERSION}
        generator = {"generator": VERSION} if self.root is None else {}
        extraction = {"extraction": EXTRACTION_VERSION} if self.reads_videos else {}
        weights = {"aloe_init": self.aloe_init} if self.aloe_init and "aloe" in self.reasoners else {}
        return {**{name: known[name] for name in self.reasoners}, **weights, **generator, **extraction}

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
        has_states = any(self.dataset.sources(split) for split in self.dataset.splits)
        if self.reads_videos or not has_states:
            return data_identity(self.dataset)
        return data_identity(self.dataset, source=self.scene_source)

    def stages(self, workspace: Workspace) -> Mapping[str, Mapping[str, Any]]:
        """Keys of the cached stages."""
        return Pipeline(self, workspace).keys()

    def shared(self, workspace: Workspace) -> Mapping[str, Mapping[str, Any]]:
        """Keys of data, rendered frames and latents."""
        parts = ("data", "frames", "slots")
        return {name: key for name, key in self.stages(workspace).items() if name.partition(".")[0] in parts}

    def make_shared(self, context: RunContext) -> None:
        """Make data, rendered frames and latents."""
        pipeline = Pipeline(self, context)
        for name in NAMES:
            pipeline.latents(name)

    def refuses(self, model: type[WorldModel] | type[Reference], encoder: Encoder) -> str:
        """Say what this pair lacks."""
        return refusal(self, model, encoder)

    def run(self, context: RunContext) -> Evaluation:
        """Do all stages and measure."""
        return evaluate(self, context)

    def videos(self, workspace: Workspace, split: str) -> Videos:
        """Return the videos of "train", "dev" or "test"; those that the embedded data came without are rendered."""
        return Pipeline(self, workspace).videos(split)

    def evidence(self, runs: Sequence[Shown], workspace: Workspace, *, count: int) -> Sequence[Evidence]:
        """Questions with their videos; embedded data is made where it is missing."""
        if dict(workspace.data or {}) != dict(runs[0].record.data):
            raise BenchError("their data is not here, or not what it was")
        stages = DataStages(self, workspace)
        return questions(runs, stages.dataset, stages.measured.origin, count=count)

    def states(self, *, videos: int, frames: int) -> Observations:
        """Objects on straight lines that come and go."""
        return drawn_states(videos, frames)

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
