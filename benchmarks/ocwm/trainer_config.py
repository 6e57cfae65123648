"""The settings of the training loop; imports no torch, so that listing and showing configs stays quick."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ocwm.errors import BenchError, suggest
from ocwm.schedules import SCHEDULES

TRAINER_VERSION = 1  # part of a run's identity; goes up whenever the loop changes a number
OPTIMIZERS = ("adam", "adamw", "muon")
PRECISIONS = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class TrainerConfig:
    """Settings of one training.

    Attributes:
        max_steps: number of updates.
        batch_size: items of an update; the incomplete batch at an epoch's end is dropped.
        lr: highest learning rate.
        weight_decay: decoupled for `adamw` and `muon`, added to the gradient for `adam`.
        optimizer: `adamw` or `adam`, with torch's default betas and epsilon; `muon` is AdamW with orthogonal updates
            of the matrices in repeated blocks (see muon.py), and plain AdamW for a model without such blocks.
        schedule: `constant`, `cosine`, `warmup_cosine` or `warmup_exponential` (see schedules.py).
        warmup_fraction: warm-up updates of the last two as a share of max_steps.
        min_lr_ratio: lowest learning rate as a share of lr, for all but `constant`.
        grad_clip: largest norm of the whole gradient, 0 for no clipping.
        precision: `fp32`, or autocast in `bf16` or (CUDA only, with loss scaling) `fp16`.
        checkpoint_seconds: seconds between checkpoints; cannot change a number.
        log_every: updates that one point of the learning curve averages over.
        eval_every: updates between validations, 0 for none.
        init: file of weights to start from, of `bench import` or of another run; with max_steps 0 they are evaluated as
            they are. Its sha256 stands for it in a run's identity. None starts from the seed.

    Raises:
        BenchError: for a value outside its range, naming the key.
    """

    max_steps: int = 1000
    batch_size: int = 64
    lr: float = 5e-4
    weight_decay: float = 0.01
    optimizer: str = "adamw"
    schedule: str = "constant"
    warmup_fraction: float = 0.0
    min_lr_ratio: float = 0.01
    grad_clip: float = 0.0
    precision: str = "fp32"
    checkpoint_seconds: float = 30.0
    log_every: int = 50
    eval_every: int = 0
    init: str | None = None

    def __post_init__(self) -> None:
        for key, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("precision", PRECISIONS)):
            if (value := getattr(self, key)) not in known:
                raise BenchError(f"unknown trainer.{key} '{value}'", suggest(str(value), known))
        for key, low in (("max_steps", 0 if self.init else 1), ("batch_size", 1), ("log_every", 1), ("eval_every", 0)):
            if (value := getattr(self, key)) < low:
                raise BenchError(f"trainer.{key} is {value}", f"It must be at least {low}.")
        for key in ("weight_decay", "grad_clip", "checkpoint_seconds"):
            if not (value := getattr(self, key)) >= 0:
                raise BenchError(f"trainer.{key} is {value}", "It must be 0 or more.")
        for key in ("warmup_fraction", "min_lr_ratio"):
            if not 0 <= (value := getattr(self, key)) <= 1:
                raise BenchError(f"trainer.{key} is {value}", "It is a share: from 0 to 1.")
        if not self.lr > 0:
            raise BenchError(f"trainer.lr is {self.lr}", "It must be more than 0.")

    def scientific(self) -> dict[str, Any]:
        """Return the settings that can change a number: all but checkpoint_seconds, and `init`, whose contents can."""
        settings = asdict(self)
        del settings["checkpoint_seconds"], settings["init"]
        return settings
