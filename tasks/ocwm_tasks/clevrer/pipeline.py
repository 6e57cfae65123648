"""The cached stages of a CLEVRER run, each made when it is first asked for.

Shape letters: V videos, T observed frames, K predicted frames, N slots, D slot dimension.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ocwm.distributed import team
from ocwm.encoder_quality import QUALITY_VERSION, frames_to_encode, measure_quality
from ocwm.errors import BenchError
from ocwm.interfaces import RolloutReference, WorldModel
from ocwm.row_files import compute_rows
from ocwm.trainer_config import TrainerConfig
from ocwm.types import ClipSpec
from ocwm_tasks.clevrer.data_stages import NAMES, DataStages, Key
from ocwm_tasks.clevrer.dev_errors import dev_errors
from ocwm_tasks.clevrer.imagined import imagine_rest, prefixes
from ocwm_tasks.clevrer.scene import OBSERVED_FRAMES, ROLLOUT_FRAMES
from ocwm_tasks.clevrer.symbolic.reasoner import SymbolicReasoner
from ocwm_tasks.clevrer.windows import ClipSet, extend_all
from ocwm_tasks.clevrer.world_model import Curve, load_world_model, train_world_model

Float32 = NDArray[np.float32]

# Trajectories are estimated every fifth frame: 20 samples are observed (frames 0..95), 6 are predicted (100..125).
TRAJECTORY_OBSERVED, TRAJECTORY_STEPS = 20, 6

ROLLED_TOGETHER = 64  # videos of a batch
GIVEN = ("future", "stored_rollout")  # privileges whose rollout is read from the latents after the observed frames


class Pipeline(DataStages):
    """Data, latents, fitted parts and rollouts of one run."""

    @property
    def model(self) -> WorldModel | RolloutReference:
        """What is measured."""
        model = self.context.model
        assert isinstance(model, WorldModel | RolloutReference)  # the task refuses others
        return model

    # Keys

    def keys(self) -> dict[str, Key]:
        """Key of every cached stage of a run, in order."""
        learned = self.workspace.config.method.kind == "method"
        data: dict[str, Key] = {} if self.task.root is not None else {"data": self.data_key}
        model: dict[str, Key] = {"world_model": self.model_key} if learned else {}
        probe: dict[str, Key] = {"probe": self.probe_key} if self.task.objects_known else {}
        quality: dict[str, Key] = {"quality": self.quality_key} if self.measures_quality else {}
        return {
            **data,
            **{f"frames.{name}": self.frames_key(name) for name in NAMES if self.renders(name)},
            **{f"slots.{name}": self.slots_key(name) for name in NAMES},
            **quality,
            **probe,
            **model,
        }

    @property
    def quality_key(self) -> Key:
        """Of the encoder's quality gates."""
        return {**self.latents_key(), "videos": self.task.quality_videos, "version": QUALITY_VERSION}

    @property
    def probe_key(self) -> Key:
        """Of the symbolic reasoner's fitted parts."""
        return {**self.slots_key("train"), "version": SymbolicReasoner.version}

    @property
    def model_key(self) -> Key:
        """Of the trained world model."""
        parts = self.latents_key("method", "trainer", "seeds.model")
        return {**parts, "entry_filter": self.task.entry_filter, "dev_videos": self.task.dev_videos}

    def rollout_key(self, name: str) -> Key:
        """Of the rollout of a split."""
        learned = isinstance(self.model, WorldModel)
        model = self.model_key if learned else self.latents_key("method")
        return {**model, "split": name}

    # Frames

    @property
    def native(self) -> bool:
        """Whether the latents come at the data's own steps instead of every video frame."""
        return self.task.objects_known and self.task.scene_source == "trajectories"

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
        """Whether latents of videos go on after the observed frames, as they really were."""
        return self.task.future == "real"

    @property
    def known_from(self) -> int:
        """First latent frame that rollouts are compared with; slots of videos may end with the observed frames."""
        return self.observed if self.task.objects_known or self.future_known else self.observed - self.steps

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

    @property
    def measures_quality(self) -> bool:
        """Whether there is anything about the encoder to measure."""
        encoder = self.task.encoder
        if encoder is None or not self.task.reads_videos or not self.task.quality_videos:
            return False
        return self.task.objects_known or encoder.decodes

    def quality(self) -> dict[str, Any]:
        """The quality gates of the encoder on dev videos, see `EncoderQuality`."""

        def build(folder: Path) -> None:
            context, count = self.context, self.task.quality_videos
            train, dev = self.videos("train"), self.videos("dev")
            total = frames_to_encode(context.encoder, train, dev, videos=count)
            with context.progress("encoder quality (frames)", total) as bar:
                measured = measure_quality(
                    context.encoder,
                    train,
                    dev,
                    videos=count,
                    device=context.device,
                    readers=context.workers,
                    progress=bar,
                )
            (folder / "quality.json").write_text(json.dumps(measured.as_dict()), encoding="utf-8")

        folder = self.context.stage("quality", self.quality_key, build)
        found: dict[str, Any] = json.loads((folder / "quality.json").read_text(encoding="utf-8"))
        return found

    @cached_property
    def symbolic(self) -> SymbolicReasoner:
        """The symbolic reasoner with probe and rules fitted on training videos."""

        def build(folder: Path) -> None:
            train = self.latents("train")
            fitted = SymbolicReasoner.fit(train.latents, self.splits["train"].scenes, train.slot_of)
            fitted.save(folder)

        return SymbolicReasoner.load(self.context.stage("probe", self.probe_key, build, together=True))

    def train(self) -> Curve:
        """Train the world model, or load it, and return its learning curve; a reference has none."""
        model = self.model
        if isinstance(model, RolloutReference):
            return []
        if model.wants_images and not (self.task.reads_videos and self.context.encoder.decodes):
            raise BenchError(
                f"method.image_loss=true needs frames, and the encoder {self.context.config.encoder.name} has no decoder "
                "of slots to images",
                "Choose an encoder that has one, or set method.image_loss=false.",
            )
        config = TrainerConfig(**self.context.config.trainer)

        def build(folder: Path) -> None:
            train = self.latents("train")
            seen = train.latents if self.native else train.latents[:, : self.observed]
            visible = train.visible[:, : seen.shape[1]] if self.task.entry_filter else None
            images = self.images("train") if model.wants_images else None
            clips = ClipSet(seen, self.clip, visible=visible, images=images)
            work = self.context.work("world_model", self.model_key)
            with self.context.progress("world model", config.max_steps) as bar:
                report = train_world_model(
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
            self.context.count_before(report.seconds_before)

        folder = self.context.stage("world_model", self.model_key, build, together=True)
        return load_world_model(model, folder, device=self.context.device)

    @property
    def clip(self) -> ClipSpec:
        """The model's clips, at the data's own steps where it has such."""
        clip = self.model.clip
        return clip if self.stride is None else replace(clip, stride=self.stride)

    # Rollouts

    def rollout(self, name: str) -> Float32 | None:
        """Predicted latents (V, K, N, D) of a split; None for references that have no rollout."""
        model = self.model
        if isinstance(model, RolloutReference) and not model.sees_rollout:
            return None

        return self._rolled_on(f"rollout.{name}", self.rollout_key(name), name, observed=self.observed)

    def held_back(self, name: str) -> Float32 | None:
        """Predicted latents (V, K, N, D) of the last K observed frames, from the frames before; None as in `rollout`.

        A rollout that is given to a reference, real or stored, begins after the observed frames: None there too.
        """
        model = self.model
        if isinstance(model, RolloutReference) and (not model.sees_rollout or model.privileged in GIVEN):
            return None
        observed = self.observed - self.steps
        key = {**self.rollout_key(name), "observed": observed}
        return self._rolled_on(f"held_back.{name}", key, name, observed=observed)

    def _rolled_on(self, stage: str, key: Key, name: str, *, observed: int) -> Float32:
        """The K frames (V, K, N, D) that the model puts after the first `observed` ones of a split, from a cached stage."""
        model = self.model

        def build(folder: Path) -> None:
            videos = self.latents(name).latents
            truth = None
            if isinstance(model, RolloutReference) and model.privileged in GIVEN:
                truth = videos[:, observed : observed + self.steps]
            own = len(team().share(len(videos), unit=ROLLED_TOGETHER))
            with self.context.progress(f"rollout {name}", own) as bar:

                def predict(rows: slice) -> Float32:
                    return extend_all(
                        model,
                        videos[rows, :observed],
                        steps=self.steps,
                        stride=self.stride,
                        device=self.context.device,
                        truth=None if truth is None else truth[rows],
                        batch=ROLLED_TOGETHER,
                        advance=bar.update,
                    )

                work = self.context.work(stage, key)
                compute_rows(len(videos), predict, unit=ROLLED_TOGETHER, work=work, out=folder / "predicted.npy")

        folder = self.context.stage(stage, key, build, together=True)
        return cast("Float32", np.load(folder / "predicted.npy", mmap_mode="r"))

    def prefix(self, name: str) -> NDArray[np.int64]:
        """(V,) observed frames of each video under the imagined protocol."""
        clip = self.model.clip
        least = clip.history * clip.stride
        return prefixes(self.splits[name].scenes, fixed=self.task.prefix, least=least)

    def imagined(self, name: str) -> Float32:
        """Under the imagined protocol: the prefix of each video and the rollout of the rest, (V, 160, N, D)."""

        key = {**self.rollout_key(name), "prefix": self.task.prefix}

        def build(folder: Path) -> None:
            videos, prefix = self.latents(name).latents, self.prefix(name)
            order = np.argsort(prefix, kind="stable")  # videos of like prefixes are rolled on together
            work = self.context.work(f"imagined.{name}", key)
            ordered = work / "ordered.npy"
            own = len(team().share(len(videos), unit=ROLLED_TOGETHER))
            with self.context.progress(f"rollout {name}", own) as bar:

                def imagine(rows: slice) -> Float32:
                    chosen = order[rows]
                    return imagine_rest(
                        self.model,
                        videos[chosen],
                        prefix[chosen],
                        device=self.context.device,
                        batch=ROLLED_TOGETHER,
                        advance=bar.update,
                    )

                compute_rows(len(videos), imagine, unit=ROLLED_TOGETHER, work=work, out=ordered)
            if team().first:
                np.save(folder / "imagined.npy", np.load(ordered, mmap_mode="r")[np.argsort(order)])

        folder = self.context.stage(f"imagined.{name}", key, build, together=True)
        return cast("Float32", np.load(folder / "imagined.npy", mmap_mode="r"))

    def rolled(self, name: str) -> Float32:
        """Observed frames followed by the rollout, (V, T + K, N, D); observed frames alone where there is none."""
        observed = self.latents(name).latents[:, : self.observed]
        predicted = self.rollout(name)
        return np.asarray(observed) if predicted is None else np.concatenate([observed, predicted], axis=1)
