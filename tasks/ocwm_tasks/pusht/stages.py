"""The cached stages of a Push-T run, each made when it is first asked for.

Shape letters: E episodes, F rows of all episodes, T frames, N slots, D slot dimension, k actions of a block.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ocwm.checkpoint import load, save
from ocwm.context import RunContext, Workspace
from ocwm.distributed import team
from ocwm.extraction import EXTRACTION_VERSION, extract_all
from ocwm.interfaces import WorldModel
from ocwm.trainer import fit
from ocwm.trainer_config import TrainerConfig
from ocwm_tasks.pusht.clips import ClipSet
from ocwm_tasks.pusht.encoded import WholeEpisodes, encode_episodes, rows_of
from ocwm_tasks.pusht.episodes import Episodes, open_episodes
from ocwm_tasks.pusht.normalisation import Normalisation, column_statistics
from ocwm_tasks.pusht.pairs import Pairs
from ocwm_tasks.pusht.play.make import make_play
from ocwm_tasks.pusht.probe import PoseProbe

if TYPE_CHECKING:
    from ocwm_tasks.pusht.task import PushtTask

Key = dict[str, Any]
Curve = list[dict[str, float]]
NAMES = ("train", "dev", "test")
LATENTS, SLOT_OF = "latents.npy", "slot_of.npy"
WEIGHTS, CURVE = "model.safetensors", "curve.json"


@dataclass(frozen=True)
class Latents:
    """Encoded episodes of a split.

    Attributes:
        latents: (F, N, D) float32, a memory map.
        slot_of: (E, 2) which slot holds the agent and the block, -1 where that is not known.
    """

    latents: NDArray[np.float32]
    slot_of: NDArray[np.int64]

    @property
    def objects_known(self) -> bool:
        """Whether it is known which slots hold agent and block."""
        return bool((self.slot_of >= 0).any())


class Stages:
    """Data, latents, statistics and the trained model of one run.

    Args:
        task: settings.
        workspace: for making data and for asking about stages a workspace will do; to encode it must be a `RunContext`.
    """

    def __init__(self, task: PushtTask, workspace: Workspace) -> None:
        self.task = task
        self.workspace = workspace
        self._latents: dict[str, Latents] = {}

    @property
    def context(self) -> RunContext:
        """The workspace of a run."""
        assert isinstance(self.workspace, RunContext)
        return self.workspace

    # Keys

    def keys(self) -> dict[str, Key]:
        """Key of every cached stage of a run, in order."""
        data: dict[str, Key] = {"data": self.data_key}
        if self.workspace.config.method.kind != "method":
            return data
        slots = {f"slots.{name}": self.slots_key(name) for name in ("train", "dev")}
        return {**data, **slots, "world_model": self.model_key}

    @property
    def data_key(self) -> Key:
        """Of the episodes."""
        return self.workspace.part("data")

    def slots_key(self, name: str) -> Key:
        """Of the latents of a split."""
        return {**self.latents_key(), "split": name}

    def latents_key(self, *more: str) -> Key:
        """What all latents depend on, with more parts of the configuration."""
        pixels: Key = {}
        if self.task.reads_frames:
            pixels = {"extraction": EXTRACTION_VERSION, "frame_size": self.task.frame_size}
        return {**self.workspace.part("data", "encoder", "seeds.encoder", *more), **pixels}

    @property
    def model_key(self) -> Key:
        """Of the trained world model."""
        parts = self.latents_key("method", "trainer", "seeds.model")
        return {
            **parts,
            "block": self.task.action_block,
            "dev": self.task.dev_clips,
            "horizons": list(self.task.horizons),
        }

    # Data

    @cached_property
    def splits(self) -> dict[str, Episodes]:
        """Train, dev and test."""
        if self.task.root is not None:
            return self.task.read()
        return {name: open_episodes(self.root / name) for name in NAMES}

    @cached_property
    def root(self) -> Path:
        """Folder of the play data, made where it is missing."""
        return self.workspace.stage("data", self.data_key, self._make)

    def _make(self, folder: Path) -> None:
        config = self.task.play
        with self.workspace.progress("data (episodes)", sum(map(config.episodes, NAMES))) as bar:
            make_play(
                folder, config, seed=self.workspace.seeds.data, workers=self.workspace.workers, progress=bar.update
            )

    @cached_property
    def pairs(self) -> Pairs:
        """The starts and goals that are measured on."""
        return self.task.draw(self.splits, seed=self.workspace.seeds.eval)

    @cached_property
    def action_statistics(self) -> Normalisation:
        """Of single actions of the training episodes (2,)."""
        train = self.splits["train"]
        # The last row of an episode has no action that belongs to it.
        kept = np.ones(train.rows, dtype=np.bool_)
        kept[train.offsets[1:] - 1] = False
        return column_statistics(train.actions[kept])

    @cached_property
    def proprio_statistics(self) -> Normalisation:
        """Of the proprioception of the training episodes (4,)."""
        return column_statistics(self.splits["train"].proprio)

    # Latents

    def latents(self, name: str) -> Latents:
        """Encoded episodes of a split."""
        if name not in self._latents:
            frames = self.task.reads_frames
            build = self._extract if frames else self._encode
            folder = self.context.stage(
                f"slots.{name}", self.slots_key(name), lambda folder: build(name, folder), together=frames
            )
            mapped = cast("NDArray[np.float32]", np.load(folder / LATENTS, mmap_mode="r"))
            self._latents[name] = Latents(mapped, np.load(folder / SLOT_OF))
        return self._latents[name]

    def _encode(self, name: str, folder: Path) -> None:
        episodes = self.splits[name]
        with self.context.progress(f"encoding {name} (episodes)", len(episodes)) as bar:
            latents, slot_of = encode_episodes(self.context.encoder, episodes, advance=bar.update)
        np.save(folder / LATENTS, latents)
        np.save(folder / SLOT_OF, slot_of)

    def _extract(self, name: str, folder: Path) -> None:
        context, episodes = self.context, self.splits[name]
        videos = WholeEpisodes(episodes, size=self.task.frame_size)
        work = context.work(f"slots.{name}", self.slots_key(name))
        with context.progress(f"encoding {name} (frames)", len(videos) * videos.length // team().size) as bar:
            found = extract_all(
                context.encoder, videos, work, folder, device=context.device, readers=context.own_workers, progress=bar
            )
        if found is None:
            return
        padded = np.load(folder / LATENTS, mmap_mode="r")
        rows = rows_of(padded, episodes)
        del padded
        np.save(folder / LATENTS, rows)
        known = found.slot_of if found.slot_of.shape[1] == 2 else np.full((len(episodes), 2), -1)
        np.save(folder / SLOT_OF, known)
        context.say(
            f"slots.{name}: {found.frames:,} frames encoded in {found.seconds:,.1f} s, "
            f"{found.frames_per_second:,.0f} frames/s on {context.device}"
        )

    @cached_property
    def probe(self) -> PoseProbe | None:
        """Reads positions from latents; None where it is not known which slots hold agent and block."""
        train = self.latents("train")
        if not train.objects_known:
            return None
        return PoseProbe.fit(train.latents, self.splits["train"], train.slot_of)

    # World model

    def clips(self, name: str, model: WorldModel) -> ClipSet:
        """The training clips of a split."""
        episodes = self.splits[name]
        return ClipSet(
            self.latents(name).latents,
            episodes.actions,
            episodes.proprio,
            episodes.offsets,
            model.clip,
            action_normalisation=self.action_statistics,
            proprio_normalisation=self.proprio_statistics,
        )

    def train(self, model: WorldModel, validate: Callable[[WorldModel], dict[str, float]]) -> Curve:
        """Train the world model, or load it, and return its learning curve."""
        context = self.context
        config = TrainerConfig(**context.config.trainer)

        def build(folder: Path) -> None:
            clips = self.clips("train", model)
            work = context.work("world_model", self.model_key)
            with context.progress("world model", config.max_steps) as bar:
                report = fit(
                    model,
                    clips,
                    config,
                    seed=context.seeds.model,
                    folder=work,
                    device=context.device,
                    progress=bar,
                    validate=validate,
                )
            context.count_before(report.seconds_before)
            save(folder / WEIGHTS, model.state_dict(), {"steps": report.steps})
            (folder / CURVE).write_text(json.dumps(report.curve))

        folder = context.stage("world_model", self.model_key, build, together=True)
        model.load_state_dict(load(folder / WEIGHTS).tensors)
        model.to(context.device).eval()
        curve: Curve = json.loads((folder / CURVE).read_text())
        return curve
