"""References that belong to CLEVRER: ceilings and floors of question answering.

Shape letters: B batch, K predicted frames, N slots, D slot dimension.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ocwm.interfaces import Privilege, RolloutReference
from ocwm.types import ClipSpec, LatentBatch


class TrueFuture(RolloutReference):
    """The encoder's latents of the real future: the ceiling of every rollout. Exists for generated data only."""

    version: ClassVar[int] = 1
    privileged: ClassVar[Privilege] = "future"

    @property
    def clip(self) -> ClipSpec:
        """One frame of history, which is not read."""
        return ClipSpec(history=1, future=0)

    def rollout(self, history: LatentBatch, *, steps: int, truth: Tensor | None = None) -> LatentBatch:
        """Return `truth` (B, K, N, D)."""
        assert truth is not None, "the task gives the truth to references whose privilege is the future"
        return LatentBatch(truth[:, :steps], present=history.present)


class StoredRollout(TrueFuture):
    """The frames that are stored behind the observed ones: what another model has imagined, as in published rollouts."""

    version: ClassVar[int] = 1
    privileged: ClassVar[Privilege] = "stored_rollout"


class NoRollout(RolloutReference):
    """Observed frames only: what the reasoner knows without any imagined frame."""

    version: ClassVar[int] = 1
    sees_rollout: ClassVar[bool] = False

    @property
    def clip(self) -> ClipSpec:
        """One frame of history."""
        return ClipSpec(history=1, future=0)

    def rollout(self, history: LatentBatch, *, steps: int, truth: Tensor | None = None) -> LatentBatch:
        """There is none: (B, 0, N, D)."""
        return LatentBatch(history.latents[:, :0], present=history.present)


class QuestionOnly(NoRollout):
    """The text alone: what can be guessed from how questions are asked."""

    version: ClassVar[int] = 1
    sees_video: ClassVar[bool] = False
