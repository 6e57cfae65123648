"""The Push-T task: data, latents, world model, planning in the simulator, figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, get_args

from ocwm.context import DataReport, Evaluation, RunContext, Workspace
from ocwm.errors import BenchError, suggest
from ocwm.evidence import Evidence, Shown
from ocwm.extraction import EXTRACTION_VERSION
from ocwm.goal_cost import Frames
from ocwm.interfaces import Encoder, Reference, Task, WorldModel
from ocwm.planning import PLANNING_VERSION, Objective, PlannerConfig
from ocwm.planning.config import PlannerName
from ocwm.schemas import Seeds
from ocwm.types import Metric, Observations
from ocwm.videos import Videos
from ocwm_tasks.pusht import measures
from ocwm_tasks.pusht.episodes import Episodes
from ocwm_tasks.pusht.evidence import episodes
from ocwm_tasks.pusht.observe import drawn_states
from ocwm_tasks.pusht.pairs import PAIRS_VERSION, Pairs, Protocol, draw_pairs
from ocwm_tasks.pusht.play.config import PlayConfig, play_config
from ocwm_tasks.pusht.play.make import play_identity
from ocwm_tasks.pusht.readers.data_set import SPLITS as DATA_SPLITS
from ocwm_tasks.pusht.readers.data_set import PushtData
from ocwm_tasks.pusht.references import ControlReference, SimulatorModel
from ocwm_tasks.pusht.simulator import SIMULATOR_VERSION
from ocwm_tasks.pusht.stages import Stages
from ocwm_tasks.pusht.state import ACTION_DIM, PROPRIO_DIM

SPLITS = ("test", "dev")  # that can be planned on
MATCHING = ("auto", "matched", "plain")


class PushtTask(Task):
    """Pushing a T to a goal pose by planning in a world model's imagination.

    Args:
        root: folder with recorded episodes (see docs/pusht_data.md); None for play data, which is made where it is missing.
        protocol: "held_out", or a published one: "cjepa", "dino_wm" (see `pairs.py`).
        split: where held-out pairs are drawn from: "test", or "dev" for decisions.
        pairs: number of starts and goals.
        goal_offset: actions from start to goal in the episode.
        action_block: actions between two latent frames; the method's frameskip must be the same.
        budget: actions that a controller may take.
        history: latent frames that a planner sees at most.
        take: action blocks of a plan that are carried out before the next plan.
        planner: "cem", "icem", "mppi" or "gradient".
        planning: settings of the planner, see `ocwm.planning.PlannerConfig`.
        matching: compare slots with the goal's "plain"ly in their order, or "matched" to them; "auto": matched for methods
            that do not depend on the slots' order.
        proprio_weight: of the proprioception in a plan's cost.
        cost_frames: "last" frame of a plan, or "all" of them.
        plans_together: problems whose plans share a batch.
        latency_plans: plans that are made one by one to measure the time of a single one; 0 for none.
        curve: further planner budgets [samples, iterations] to measure success at.
        horizons: action blocks after which rollout errors are given.
        dev_clips: dev clips that the learning curve is measured on.
        gallery: problems of which a strip of real and imagined frames is drawn.
        frame_size: side in px of the frames that encoders of pixels read.
        play: settings of the play data, see `PlayConfig`.
        draws: resamples of the bootstrap over episodes.
    """

    version: ClassVar[int] = 1
    needs: ClassVar[frozenset[str]] = frozenset({"actions"})

    def __init__(
        self,
        *,
        root: str | None = None,
        protocol: Protocol = "held_out",
        split: str = "test",
        pairs: int = 100,
        goal_offset: int = 25,
        action_block: int = 5,
        budget: int = 50,
        history: int = 1,
        take: int = 5,
        planner: str = "cem",
        planning: Mapping[str, Any] | None = None,
        matching: str = "auto",
        proprio_weight: float = 1.0,
        cost_frames: str = "last",
        plans_together: int = 50,
        latency_plans: int = 3,
        curve: Sequence[Sequence[int]] = (),
        horizons: Sequence[int] = (1, 3, 5),
        dev_clips: int = 200,
        gallery: int = 0,
        frame_size: int = 64,
        play: Mapping[str, Any] | None = None,
        draws: int = 2000,
    ) -> None:
        for key, value, known in (
            ("protocol", protocol, get_args(Protocol)),
            ("split", split, SPLITS),
            ("matching", matching, MATCHING),
            ("cost_frames", cost_frames, ("last", "all")),
        ):
            if value not in known:
                raise BenchError(f"task.{key}={value} is not known", suggest(str(value), known))
        for key, number, least in (
            ("pairs", pairs, 1),
            ("goal_offset", goal_offset, 2),
            ("action_block", action_block, 1),
            ("history", history, 1),
            ("take", take, 1),
            ("plans_together", plans_together, 1),
            ("latency_plans", latency_plans, 0),
            ("gallery", gallery, 0),
            ("frame_size", frame_size, 8),
        ):
            if number < least:
                raise BenchError(f"task.{key}={number} is too small", f"Choose {least} or more.")
        self.planning = _planner_config(planner, planning or {})
        if take > self.planning.horizon:
            raise BenchError(
                f"task.take={take} blocks are more than a plan of task.planning.horizon={self.planning.horizon} has",
                f"Choose 1..{self.planning.horizon}.",
            )
        if self.planning.horizon * action_block > budget:
            raise BenchError(
                f"a plan of {self.planning.horizon} blocks of {action_block} actions is longer than task.budget={budget}",
                f"Set task.budget={self.planning.horizon * action_block} or more, or plan less far.",
            )
        if budget % action_block:
            raise BenchError(
                f"task.budget={budget} is no whole number of blocks of task.action_block={action_block}",
                f"Choose a multiple of {action_block}.",
            )
        if not horizons or min(horizons) < 1:
            raise BenchError(f"task.horizons={list(horizons)} is not possible", "Choose values of 1 or more.")
        self.root = None if root is None else Path(root)
        self.protocol: Protocol = protocol
        self.split = split
        self.number = pairs
        self.goal_offset, self.action_block, self.budget = goal_offset, action_block, budget
        self.history, self.take = history, take
        self.matching, self.cost_frames = matching, cost_frames
        self.proprio_weight = proprio_weight
        self.plans_together, self.latency_plans = plans_together, latency_plans
        self.curve = tuple((int(samples), int(iterations)) for samples, iterations in curve)
        self.horizons = tuple(horizons)
        self.dev_clips = dev_clips
        self.gallery = gallery
        self.frame_size = frame_size
        self.play: PlayConfig = play_config(play or {})
        self.draws = draws

    @property
    def action_dim(self) -> int:
        """Width of an action block."""
        return ACTION_DIM * self.action_block

    @property
    def proprio_dim(self) -> int:
        """Agent position and velocity."""
        return PROPRIO_DIM

    @property
    def reads_frames(self) -> bool:
        """Whether the encoder reads pixels."""
        return self.encoder is not None and self.encoder.reads == "pixels"

    @property
    def objects_known(self) -> bool:
        """Whether it is known which slots hold agent and block."""
        return not self.reads_frames or (self.encoder is not None and self.encoder.segments)

    @property
    def source_split(self) -> str:
        """The split that pairs are drawn from."""
        return {"held_out": self.split, "cjepa": "train", "dino_wm": "dev"}[self.protocol]

    @property
    def label(self) -> str:
        """What rows of one table have in common: protocol and planner budget."""
        search = f"{self.planning.planner} {self.planning.samples} x {self.planning.iterations}"
        plan = f"{search}, {self.planning.horizon} x {self.action_block} actions"
        cost = f"cost of {self.cost_frames}, proprioception x {self.proprio_weight:g}"
        return f"{self.protocol}, {plan}, a plan every {self.take * self.action_block}, history {self.history}, {cost}"

    def objective(self, model: type[WorldModel] | type[Reference]) -> Objective:
        """What plans are searched for."""
        order_free = not issubclass(model, WorldModel) or "permutation_equivariant" in model.capabilities
        matched = order_free if self.matching == "auto" else self.matching == "matched"
        frames: Frames = "all" if self.cost_frames == "all" else "last"
        return Objective(matching="hungarian" if matched else "none", alpha=self.proprio_weight, frames=frames)

    def metrics(self) -> tuple[Metric, ...]:
        """Success, errors at the end, rollout errors."""
        return measures.declare(blocks=self.horizons, objects_known=self.objects_known)

    def versions(self) -> Mapping[str, Any]:
        """Versions of simulator, pairs and planners, and of the extraction for slots of frames."""
        extraction = {"extraction": EXTRACTION_VERSION} if self.reads_frames else {}
        return {"simulator": SIMULATOR_VERSION, "pairs": PAIRS_VERSION, "planning": PLANNING_VERSION, **extraction}

    def data_identity(self, seeds: Seeds) -> Mapping[str, str] | None:
        """Play settings and seed, or what lies in the folder."""
        if self.root is None:
            return play_identity(self.play, seed=seeds.data)
        return self.recorded.identity

    def read(self) -> dict[str, Episodes]:
        """Read train, dev and test from the folder."""
        data = self.recorded
        return {name: data.episodes(name) for name in DATA_SPLITS}

    @cached_property
    def recorded(self) -> PushtData:
        """The data at `task.root`."""
        from ocwm_tasks.pusht.readers.detect import open_data

        assert self.root is not None
        return open_data(self.root)

    def draw(self, splits: Mapping[str, Episodes], *, seed: int) -> Pairs:
        """Draw starts and goals."""
        return draw_pairs(
            splits[self.source_split], count=self.number, offset=self.goal_offset, seed=seed, protocol=self.protocol
        )

    def stages(self, workspace: Workspace) -> Mapping[str, Mapping[str, Any]]:
        """Keys of the cached stages."""
        return Stages(self, workspace).keys()

    def shared(self, workspace: Workspace) -> Mapping[str, Mapping[str, Any]]:
        """Keys of episodes and latents."""
        return {name: key for name, key in self.stages(workspace).items() if name != "world_model"}

    def make_shared(self, context: RunContext) -> None:
        """Make episodes and, for world models, latents."""
        stages = Stages(self, context)
        if context.config.method.kind != "method":
            _ = stages.splits
            return
        for name in dict.fromkeys(("train", "dev", self.split)):
            stages.latents(name)

    def refuses(self, model: type[WorldModel] | type[Reference], encoder: Encoder) -> str:
        """Say what this pair lacks."""
        if issubclass(model, SimulatorModel):
            return "" if encoder.reads == "state" else "it plans on states (set encoder=state)"
        if issubclass(model, Reference) and not issubclass(model, ControlReference):
            return "it can't act: it stands in for a world model, and no action changes what it imagines"
        if encoder.reads == "state" and encoder.num_slots < 2:
            return f"there are two objects, and encoder.num_slots={encoder.num_slots}"
        return ""

    def run(self, context: RunContext) -> Evaluation:
        """Do all stages and measure."""
        from ocwm_tasks.pusht.evaluation import evaluate

        return evaluate(self, context)

    def videos(self, workspace: Workspace, split: str) -> Videos:
        """Return the episodes of "train", "dev" or "test" as videos."""
        from ocwm_tasks.pusht.encoded import WholeEpisodes

        splits = Stages(self, workspace).splits
        if split not in splits:
            raise BenchError(f"there is no split '{split}'", f"Known: {', '.join(splits)}.")
        return WholeEpisodes(splits[split], size=self.frame_size)

    def evidence(self, runs: Sequence[Shown], workspace: Workspace, *, count: int) -> Sequence[Evidence]:
        """Strips of episodes, from what the runs kept."""
        return episodes(runs, count=count, block=self.action_block)

    def states(self, *, videos: int, frames: int) -> Observations:
        """Agent and block on straight lines."""
        return drawn_states(videos, frames)

    def data_make(self, workspace: Workspace, *, out: Path | None) -> DataReport:
        """Make the play data in the folder `out`, or in the cache."""
        from ocwm_tasks.pusht.data_commands import make

        return make(self, workspace, out=out)

    def data_check(self, workspace: Workspace, *, out: Path | None) -> DataReport:
        """Read everything; the manifest goes to `out`."""
        from ocwm_tasks.pusht.data_commands import check

        return check(self, workspace, out=out)

    def data_describe(self, workspace: Workspace, *, out: Path | None) -> DataReport:
        """Statistics beside the published ones; a sheet of frames goes to the folder `out`."""
        from ocwm_tasks.pusht.data_commands import describe

        return describe(self, workspace, out=out)


def _planner_config(planner: str, settings: Mapping[str, Any]) -> PlannerConfig:
    """The planner's settings. Errors: BenchError for an unknown name, or a value that can't be."""
    known = [entry.name for entry in fields(PlannerConfig) if entry.name != "planner"]
    for name in settings:
        if name not in known:
            raise BenchError(f"unknown key task.planning.{name}", suggest(name, known))
    if planner not in get_args(PlannerName):
        raise BenchError(f"task.planner={planner} is not known", suggest(planner, get_args(PlannerName)))
    return PlannerConfig(**{**settings, "planner": planner})
