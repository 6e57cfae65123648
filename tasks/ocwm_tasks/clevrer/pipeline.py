"""The cached stages of a CLEVRER run, each made when it is first asked for.

Shape letters: V videos, T observed frames, K predicted frames, N slots, D slot dimension.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ocwm.context import RunContext, Workspace
from ocwm.interfaces import Reference, WorldModel
from ocwm.trainer_config import TrainerConfig
from ocwm.types import ClipSpec
from ocwm_tasks.clevrer.dataset import Dataset
from ocwm_tasks.clevrer.dev_errors import dev_errors
from ocwm_tasks.clevrer.generator.make import SPLITS, make_dataset
from ocwm_tasks.clevrer.imagined import imagine_rest, prefixes
from ocwm_tasks.clevrer.latents import Latents, copy_slots, encode_scenes
from ocwm_tasks.clevrer.reader import open_dataset
from ocwm_tasks.clevrer.scene import OBSERVED_FRAMES, ROLLOUT_FRAMES
from ocwm_tasks.clevrer.splits import Split, read_splits, stored_splits
from ocwm_tasks.clevrer.symbolic.reasoner import SymbolicReasoner
from ocwm_tasks.clevrer.windows import ClipSet, extend_all
from ocwm_tasks.clevrer.world_model import Curve, load_world_model, train_world_model

if TYPE_CHECKING:
    from ocwm_tasks.clevrer.task import ClevrerTask

Key = dict[str, Any]
Float32 = NDArray[np.float32]

# Trajectories are estimated every fifth frame: 20 samples are observed (frames 0..95), 6 are predicted (100..125).
TRAJECTORY_OBSERVED, TRAJECTORY_STEPS = 20, 6

GIVEN = ("future", "stored_rollout")  # privileges whose rollout is read from the latents after the observed frames


class Pipeline:
    """Data, latents, fitted parts and rollouts of one run.

    Args:
        task: settings.
        workspace: for making data and for asking about stages a workspace will do; to train it must be a `RunContext`.
    """

    def __init__(self, task: ClevrerTask, workspace: Workspace) -> None:
        self.task = task
        self.workspace = workspace

    @property
    def context(self) -> RunContext:
        """The workspace of a run."""
        assert isinstance(self.workspace, RunContext)
        return self.workspace

    # Keys

    def keys(self) -> dict[str, Key]:
        """Key of every cached stage of a run, in order."""
        learned = self.workspace.config.method.kind == "method"
        data: dict[str, Key] = {} if self.task.root is not None else {"data": self.data_key}
        model: dict[str, Key] = {"world_model": self.model_key} if learned else {}
        probe: dict[str, Key] = {"probe": self.probe_key} if self.task.stored is None else {}
        return {
            **data,
            **{f"slots.{name}": self.slots_key(name) for name in ("train", "dev", "test")},
            **probe,
            **model,
        }

    @property
    def data_key(self) -> Key:
        """Of the embedded data."""
        return self.workspace.part("data")

    def slots_key(self, name: str) -> Key:
        """Of the latents of a split."""
        return {**self.workspace.part("data", "encoder", "seeds.encoder"), "split": name}

    @property
    def probe_key(self) -> Key:
        """Of the symbolic reasoner's fitted parts."""
        return {**self.slots_key("train"), "version": SymbolicReasoner.version}

    @property
    def model_key(self) -> Key:
        """Of the trained world model."""
        parts = self.workspace.part("data", "encoder", "method", "trainer", "seeds.encoder", "seeds.model")
        return {**parts, "entry_filter": self.task.entry_filter, "dev_videos": self.task.dev_videos}

    def rollout_key(self, name: str) -> Key:
        """Of the rollout of a split."""
        learned = isinstance(self.context.model, WorldModel)
        model = self.model_key if learned else self.workspace.part("data", "encoder", "method", "seeds.encoder")
        return {**model, "split": name}

    # Data and latents

    @cached_property
    def root(self) -> Path:
        """Folder of the data; embedded data is made where it is missing."""
        return self.task.root or self.workspace.stage("data", self.data_key, self._make)

    def _make(self, folder: Path) -> None:
        config = self.task.generator
        with self.workspace.progress("data", sum(map(config.videos, SPLITS))) as bar:
            make_dataset(
                folder, config, seed=self.workspace.seeds.data, workers=self.workspace.workers, progress=bar.update
            )

    @cached_property
    def dataset(self) -> Dataset:
        """The opened data."""
        return self.task.dataset if self.task.root is not None else open_dataset(self.root)

    @cached_property
    def splits(self) -> dict[str, Split]:
        """Train, dev and test."""
        if self.task.stored is not None:
            videos = {name: split.videos.tolist() for name, split in self.task.stored.splits.items()}
            return stored_splits(self.dataset, videos, where=str(self.task.stored.path))
        return read_splits(self.dataset, self.task.scene_source)

    @property
    def measured(self) -> Split:
        """The split that is measured on."""
        return self.splits[self.task.split]

    def latents(self, name: str) -> Latents:
        """Encoded videos of a split."""

        def build(folder: Path) -> None:
            split, stored = self.splits[name], self.task.stored
            with self.context.progress(f"encoding {name}", len(split.scenes) or len(split.videos)) as bar:
                if stored is None:
                    encode_scenes(self.context.encoder, split.scenes, folder, advance=bar.update)
                else:
                    copy_slots(stored, split.videos, folder, advance=bar.update)

        return Latents.load(self.context.stage(f"slots.{name}", self.slots_key(name), build))

    @property
    def native(self) -> bool:
        """Whether the latents come at the data's own steps instead of every video frame."""
        return self.task.stored is None and self.task.scene_source == "trajectories"

    @property
    def stride(self) -> int | None:
        """Latent frames between two frames of a model, where the data dictates it."""
        return 1 if self.native else None

    @property
    def observed(self) -> int:
        """Number of latent frames T that may be seen."""
        return TRAJECTORY_OBSERVED if self.native else OBSERVED_FRAMES

    @property
    def steps(self) -> int:
        """Number of latent frames K to predict."""
        return TRAJECTORY_STEPS if self.native else ROLLOUT_FRAMES - OBSERVED_FRAMES

    @property
    def future_known(self) -> bool:
        """Whether stored slots go on after the observed frames, as they really were."""
        return self.task.stored is not None and self.task.stored.future == "real"

    @property
    def known_from(self) -> int:
        """First latent frame that rollouts are compared with; stored slots may have no frames after the observed ones."""
        return self.observed if self.task.stored is None or self.future_known else self.observed - self.steps

    @property
    def frames(self) -> NDArray[np.int64]:
        """Video frame of every latent frame, observed and predicted."""
        if self.native:
            return self.measured.scenes[0].frames
        return np.arange(ROLLOUT_FRAMES)

    def length(self, predicted: Float32 | None) -> int:
        """Number of latent frames, observed and predicted."""
        return self.observed + (0 if predicted is None else predicted.shape[1])

    # Fitted parts

    @cached_property
    def symbolic(self) -> SymbolicReasoner:
        """The symbolic reasoner with probe and rules fitted on training videos."""

        def build(folder: Path) -> None:
            train = self.latents("train")
            fitted = SymbolicReasoner.fit(train.latents, self.splits["train"].scenes, train.slot_of)
            fitted.save(folder)

        return SymbolicReasoner.load(self.context.stage("probe", self.probe_key, build))

    def train(self) -> Curve:
        """Train the world model, or load it, and return its learning curve; a reference has none."""
        model = self.context.model
        if isinstance(model, Reference):
            return []
        config = TrainerConfig(**self.context.config.trainer)

        def build(folder: Path) -> None:
            train = self.latents("train")
            seen = train.latents if self.native else train.latents[:, : self.observed]
            visible = train.visible[:, : seen.shape[1]] if self.task.entry_filter else None
            clips = ClipSet(seen, self.clip, visible=visible)
            work = self.context.work("world_model", self.model_key)
            with self.context.progress("world model", config.max_steps) as bar:
                train_world_model(
                    model,
                    clips,
                    config,
                    seed=self.context.seeds.model,
                    work=work,
                    out=folder,
                    device=self.context.device,
                    progress=bar,
                    validate=lambda model: dev_errors(self, model),
                )

        folder = self.context.stage("world_model", self.model_key, build)
        return load_world_model(model, folder, device=self.context.device)

    @property
    def clip(self) -> ClipSpec:
        """The model's clips, at the data's own steps where it has such."""
        clip = self.context.model.clip
        return clip if self.stride is None else replace(clip, stride=self.stride)

    # Rollouts

    def rollout(self, name: str) -> Float32 | None:
        """Predicted latents (V, K, N, D) of a split; None for references that have no rollout."""
        model = self.context.model
        if isinstance(model, Reference) and not model.sees_rollout:
            return None

        return self._rolled_on(f"rollout.{name}", self.rollout_key(name), name, observed=self.observed)

    def held_back(self, name: str) -> Float32 | None:
        """Predicted latents (V, K, N, D) of the last K observed frames, from the frames before; None as in `rollout`.

        A rollout that is given to a reference, real or stored, begins after the observed frames: None there too.
        """
        model = self.context.model
        if isinstance(model, Reference) and (not model.sees_rollout or model.privileged in GIVEN):
            return None
        observed = self.observed - self.steps
        key = {**self.rollout_key(name), "observed": observed}
        return self._rolled_on(f"held_back.{name}", key, name, observed=observed)

    def _rolled_on(self, stage: str, key: Key, name: str, *, observed: int) -> Float32:
        """The K frames (V, K, N, D) that the model puts after the first `observed` ones of a split, from a cached stage."""
        model = self.context.model

        def build(folder: Path) -> None:
            videos = self.latents(name).latents
            truth = None
            if isinstance(model, Reference) and model.privileged in GIVEN:
                truth = videos[:, observed : observed + self.steps]
            with self.context.progress(f"rollout {name}", len(videos)) as bar:
                predicted = extend_all(
                    model,
                    videos[:, :observed],
                    steps=self.steps,
                    stride=self.stride,
                    device=self.context.device,
                    truth=truth,
                    advance=bar.update,
                )
            np.save(folder / "predicted.npy", predicted)

        folder = self.context.stage(stage, key, build)
        return cast("Float32", np.load(folder / "predicted.npy", mmap_mode="r"))

    def prefix(self, name: str) -> NDArray[np.int64]:
        """(V,) observed frames of each video under the imagined protocol."""
        clip = self.context.model.clip
        least = clip.history * clip.stride
        return prefixes(self.splits[name].scenes, fixed=self.task.prefix, least=least)

    def imagined(self, name: str) -> Float32:
        """Under the imagined protocol: the prefix of each video and the rollout of the rest, (V, 160, N, D)."""

        def build(folder: Path) -> None:
            videos = self.latents(name).latents
            with self.context.progress(f"rollout {name}", len(videos)) as bar:
                rest = imagine_rest(
                    self.context.model, videos, self.prefix(name), device=self.context.device, advance=bar.update
                )
            np.save(folder / "imagined.npy", rest)

        key = {**self.rollout_key(name), "prefix": self.task.prefix}
        folder = self.context.stage(f"imagined.{name}", key, build)
        return cast("Float32", np.load(folder / "imagined.npy", mmap_mode="r"))

    def rolled(self, name: str) -> Float32:
        """Observed frames followed by the rollout, (V, T + K, N, D); observed frames alone where there is none."""
        observed = self.latents(name).latents[:, : self.observed]
        predicted = self.rollout(name)
        return np.asarray(observed) if predicted is None else np.concatenate([observed, predicted], axis=1)
