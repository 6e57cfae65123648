"""The ALOE reasoner as a task uses it: trained on the latents of videos, then asked.

Shape letters: V videos, T latent frames, N slots, D slot dimension, S sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ocwm.checkpoint import initial_weights, load, load_weights, save
from ocwm.errors import BenchError, suggest
from ocwm.progress import Progress
from ocwm.trainer import FitReport, fit
from ocwm.trainer_config import TrainerConfig
from ocwm_tasks.clevrer.accuracy import Outcome, figures
from ocwm_tasks.clevrer.aloe.batches import AloeData, VideoLatents
from ocwm_tasks.clevrer.aloe.network import Aloe, AloeSizes
from ocwm_tasks.clevrer.aloe.tokens import (
    ANSWER_NAMES,
    UNKNOWN,
    WORD_IDS,
    FrameChoice,
    QuestionSet,
    encode_questions,
)

VERSION = 1  # part of a run's identity; goes up whenever the numbers change

WHITEN_VIDEOS = 512
WHITEN_EVERY = 8  # frames
DROPPED_VARIANCE = 1e-4  # directions with less than this share of the largest variance carry noise only


@dataclass(frozen=True)
class AloeConfig:
    """Sizes and training of the reasoner; the defaults are the published ones for CLEVRER.

    Attributes:
        head_dim, heads, layers, ffn_dim, dropout, word_dim, mlp_dim, question_len, choice_len, drawn_init: see `AloeSizes`.
        frames: frames that are read of a video.
        share_video: let all questions of a video share one pass over its frames (see `Aloe`); an item of the trainer
            is then a video, not a question.
        random_start: draw the first frame in evaluation too, as the published code does; else the middle start.
        whiten: scale the latents so that all directions have the same variance over the training videos, none dropped
            to noise. The published reasoner reads raw slots; where positions outweigh attributes it then takes long to
            see the attributes.
        sequences_per_video: with share_video, draw at most this many questions and choices of a video for an update;
            0 = all.
        choice_weight: of the choices' part of the loss against that of the descriptive answers; published 1. Where
            choices stay at chance, as they do in short trainings, their part is noise.
        eval_items: questions (with share_video: videos) that are answered at a time.
        trainer: settings of the training, see `TrainerConfig`.
    """

    frames: int = 25
    head_dim: int = 18
    heads: int = 8
    layers: int = 12
    ffn_dim: int = 512
    dropout: float = 0.1
    word_dim: int | None = None
    mlp_dim: int = 128
    question_len: int = 20
    choice_len: int = 12
    drawn_init: bool = False
    share_video: bool = False
    random_start: bool = False
    whiten: bool = False
    sequences_per_video: int = 0
    choice_weight: float = 1.0
    eval_items: int = 64
    trainer: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> AloeConfig:
        """Build from a configuration node.

        Raises:
            BenchError: for a key that does not exist.
        """
        known = [f.name for f in fields(cls)]
        for key in settings:
            if key not in known:
                raise BenchError(f"task.aloe.{key} is unknown", suggest(str(key), known))
        return cls(**settings)

    def sizes(self, *, num_slots: int, slot_dim: int) -> AloeSizes:
        """Sizes of the network for the latents at hand."""
        return AloeSizes(
            frames=self.frames,
            num_slots=num_slots,
            slot_dim=slot_dim,
            head_dim=self.head_dim,
            heads=self.heads,
            layers=self.layers,
            ffn_dim=self.ffn_dim,
            dropout=self.dropout,
            word_dim=self.word_dim,
            mlp_dim=self.mlp_dim,
            words=1 + len(WORD_IDS),
            answers=len(ANSWER_NAMES),
            question_len=self.question_len,
            choice_len=self.choice_len,
            drawn_init=self.drawn_init,
        )


class AloeReasoner:
    """Learns to answer questions from latents, or from the text alone.

    Args:
        config: sizes and training.
        num_slots, slot_dim: of the latents.
        sees_video: False gives the reasoner that reads only the text.
        window: "published": all types but predictive read observed frames; "full": every question reads frames
            spread over all latent frames. See `FrameChoice`.
        seed: of weights, data order and dropout.
    """

    def __init__(
        self,
        config: AloeConfig,
        *,
        num_slots: int,
        slot_dim: int,
        sees_video: bool = True,
        window: str = "published",
        seed: int = 0,
    ) -> None:
        self.config = config
        self.sees_video = sees_video
        self.seed = seed
        self.frame_choice = FrameChoice(config.frames, window)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = Aloe(
                config.sizes(num_slots=num_slots, slot_dim=slot_dim),
                share_video=config.share_video,
                choice_weight=config.choice_weight,
            )

    @property
    def trainer(self) -> TrainerConfig:
        """Settings of the training."""
        return TrainerConfig(**self.config.trainer)

    def encode(self, scenes: Sequence[Mapping[str, Any]]) -> QuestionSet:
        """Turn question scenes of the official format into arrays."""
        return encode_questions(scenes, question_len=self.config.question_len, choice_len=self.config.choice_len)

    def fit(
        self,
        latents: VideoLatents | None,
        questions: QuestionSet,
        *,
        folder: Path,
        device: torch.device,
        progress: Progress | None = None,
        dev: tuple[VideoLatents | None, QuestionSet] | None = None,
    ) -> FitReport:
        """Train; goes on from the checkpoint in `folder` where there is one.

        Args:
            latents: of the training videos; not looked at without `sees_video`.
            questions: with answers.
            folder: for checkpoints.
            device: CPU or CUDA.
            progress: counts updates.
            dev: latents and questions that the learning curve is measured on, every `trainer.eval_every` updates:
                `dev.<type>.<unit>` in percent.

        Raises:
            BenchError: questions without answers, or without latents.
        """
        unknown = np.flatnonzero(questions.label == UNKNOWN)
        if len(unknown):
            row = questions.question[unknown[0]]
            raise BenchError(
                f"{len(unknown)} training questions have no answer, the first is scene {questions.scene[row]}, "
                f"question {questions.question_id[row]}",
                "Train on a split with answers.",
            )
        data = self._data(latents, questions, training=True)
        if (init := self.trainer.init) is not None:
            self.load(initial_weights(init, key="task.aloe.trainer.init"))
        if self.config.whiten and latents is not None and self.sees_video:
            self.network.slot_scale = whitening(latents.latents)

        def validate(network: Aloe) -> dict[str, float]:
            assert dev is not None
            found = figures(self.answer(*dev, device=device, rng=np.random.default_rng(self.seed)))
            return {f"dev.{name}": 100 * items.share() for name, items in found.items()}

        return fit(
            self.network,
            data,
            self.trainer,
            seed=self.seed,
            folder=folder,
            device=device,
            progress=progress,
            validate=None if dev is None else validate,
        )

    @torch.no_grad()
    def answer(
        self,
        latents: VideoLatents | None,
        questions: QuestionSet,
        *,
        device: torch.device,
        rng: np.random.Generator,
        advance: Callable[[int], object] | None = None,
    ) -> Outcome:
        """Answer questions: the likeliest class; a choice is correct where its logit is positive.

        Args:
            latents: of the videos; not looked at without `sees_video`.
            questions: answers may be unknown.
            device: CPU or CUDA.
            rng: start frames come from it, with `random_start`; nothing else is drawn.
            advance: told how many questions and choices have been answered.
        """
        data = self._data(latents, questions, training=False)
        training = self.network.training
        self.network.to(device).eval()
        prediction = np.full(len(questions.question), UNKNOWN, dtype=np.int64)
        for low in range(0, len(data), self.config.eval_items):
            items = np.arange(low, min(low + self.config.eval_items, len(data)))
            batch = data.gather(data.sequences(items), rng).to(device)
            answers, choices = self.network(batch)
            chosen = torch.where(batch.is_choice, (choices > 0).long(), answers.argmax(dim=-1))
            prediction[batch.sequence.cpu().numpy()] = chosen.cpu().numpy()
            if advance is not None:
                advance(len(batch))
        self.network.train(training)
        return Outcome.of(questions, prediction)

    def save(self, path: Path) -> None:
        """Write the weights, under the published names, and the scaling of the latents."""
        scale = self.network.slot_scale
        extra = {} if scale is None else {"slot_scale": scale}
        save(path, {**self.network.state_dict(), **extra}, {"version": VERSION, "sees_video": self.sees_video})

    def load(self, path: Path) -> None:
        """Read what `save` wrote.

        Raises:
            BenchError: the file is missing, damaged, or of other sizes.
        """
        tensors = load(path).tensors
        self.network.slot_scale = tensors.pop("slot_scale", None)
        load_weights(self.network, tensors, source=path)

    def _data(self, latents: VideoLatents | None, questions: QuestionSet, *, training: bool) -> AloeData:
        if self.sees_video and latents is None:
            raise ValueError("a reasoner that sees the video needs latents")
        return AloeData(
            questions,
            latents if self.sees_video else None,
            frame_choice=self.frame_choice,
            share_video=self.config.share_video,
            random_start=training or self.config.random_start,
            sequences_per_item=self.config.sequences_per_video or None if self.config.share_video else None,
        )


def whitening(latents: NDArray[np.float32]) -> Tensor:
    """The symmetric (D, D) matrix that gives every direction of the latents (V, T, N, D) the same second moment.

    Directions that hardly occur are dropped rather than blown up. Nothing is shifted, so that an empty slot stays zero.
    """
    step = max(1, len(latents) // WHITEN_VIDEOS)
    slots = np.asarray(latents[::step, ::WHITEN_EVERY], dtype=np.float64).reshape(-1, latents.shape[-1])
    moments, basis = np.linalg.eigh(slots.T @ slots / len(slots))
    kept = moments > DROPPED_VARIANCE * moments[-1]
    scale = (basis[:, kept] / np.sqrt(moments[kept])) @ basis[:, kept].T
    return torch.from_numpy(scale.astype(np.float32))
