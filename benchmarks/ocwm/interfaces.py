"""The four things that plug into the engine: encoders, world models, references and tasks.

Shape letters: B batch, T time, H history frames, K predicted frames, N slots, D slot dimension, A action dimension.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from torch import Tensor, nn

from ocwm.errors import BenchError
from ocwm.types import ClipSpec, LatentBatch, LatentSpec, Metric, Observations
from ocwm.videos import Videos

if TYPE_CHECKING:
    from ocwm.evidence import Evidence, Shown
    from ocwm.run import DataReport, Evaluation, RunContext, Workspace
    from ocwm.schemas import Seeds

Privilege = Literal["none", "future", "stored_rollout", "recorded_actions", "simulator"]

# actions, proprio: the model takes them; variable_slots: rollouts of any number of slots; permutation_equivariant:
# slots in another order give the same rollout in that order.
CAPABILITIES = frozenset({"actions", "proprio", "variable_slots", "permutation_equivariant"})


class Encoder(ABC):
    """Turns observations into latent tokens; frozen while a world model trains. Built as `cls(**config)`."""

    version: ClassVar[int] = 1
    reads: ClassVar[Literal["state", "pixels"]]
    deterministic: ClassVar[bool] = True

    @property
    @abstractmethod
    def num_slots(self) -> int:
        """Number of tokens N in every frame."""

    @property
    @abstractmethod
    def slot_dim(self) -> int:
        """Width D of a token."""

    @property
    def weights(self) -> str:
        """The sha256 of the weights that the latents depend on (part of a run's identity); "" where there are none."""
        return ""

    def slot_of(self, ids: Tensor) -> Tensor | None:
        """Return which slot holds each object (B, n), where the encoder knows that by construction; else None."""
        return None

    @abstractmethod
    def encode(self, observations: Observations, carry: Any = None) -> tuple[LatentBatch, Any]:
        """Encode frames in order.

        Args:
            observations: B videos of T frames.
            carry: what an earlier call returned, for recurrent encoders; None at a video's first frame.

        Returns:
            The latents (B, T, N, D) with `present` (B, N), and the carry for the next call.
        """

    @property
    def segments(self) -> bool:
        """Whether `segment` works: every slot has a region of the image."""
        return False

    def segment(self, observations: Observations, carry: Any = None) -> tuple[LatentBatch, Tensor, Any]:
        """Encode frames like `encode`, and say where in the image each slot lies.

        Returns:
            What `encode` returns, with soft masks (B, T, N, h, w) in between, of any size h, w; over the slots they sum
            to at most 1, the rest is background.
        """
        raise BenchError("this encoder does not say where in the image its slots lie")

    @property
    def decodes(self) -> bool:
        """Whether slots can be turned into images: `target_images` and `decoder` work then."""
        return False

    def target_images(self, pixels: Tensor) -> Tensor:
        """Turn frames (B, T, 3, H, W) uint8 RGB into what the decoder should give for them: (B, T, 3, h, w) float."""
        raise BenchError("this encoder has no decoder of slots to images")

    def decoder(self) -> nn.Module:
        """Return the frozen decoder, a module with `decode(slots (B, T, N, D)) -> images (B, T, 3, h, w)`."""
        raise BenchError("this encoder has no decoder of slots to images")


class WorldModel(nn.Module, ABC):
    """Predicts latent tokens. Built as `cls(spec, **config)`.

    Class attributes say what the method can do; `version` is part of a run's identity and goes up whenever
    the numbers change.
    """

    version: ClassVar[int] = 1
    capabilities: ClassVar[frozenset[str]] = frozenset()  # of CAPABILITIES

    def __init__(self, spec: LatentSpec) -> None:
        super().__init__()
        self.spec = spec

    @property
    @abstractmethod
    def clip(self) -> ClipSpec:
        """The clips that the model trains on."""

    @property
    def wants_images(self) -> bool:
        """Whether `loss` needs `LatentBatch.images`."""
        return False

    @abstractmethod
    def loss(self, batch: LatentBatch) -> dict[str, Tensor]:
        """Training loss of a batch of clips (B, T = clip.length, N, D): {"loss": scalar, parts...}."""

    @abstractmethod
    def rollout(self, history: LatentBatch, *, steps: int) -> LatentBatch:
        """Predict the next `steps` latent frames, `clip.stride` video frames apart.

        Args:
            history: (B, H, N, D) observed latents, already at the model's stride; with actions where the task has them.
            steps: number K of frames to predict.

        Returns:
            Latents (B, K, N, D), with `proprio` (B, K, E) where the model predicts proprioception, in its embedding. The
            caller chooses no-grad.
        """

    def embed_proprio(self, proprio: Tensor) -> Tensor:
        """Embed a goal's proprioception (B, T, P) as `rollout` predicts it: (B, T, E); for models that take it.

        Raises:
            BenchError: the model has none.
        """
        raise BenchError("proprioception is to be embedded, and the world model has none")

    def attention(self, history: LatentBatch) -> Tensor | None:
        """Return how much the prediction of each slot attends to each slot: (B, N, N), rows are predictions.

        None where the model does not tell. `history` is that of `rollout`; see `attention.between_slots`.
        """
        return None


class Reference:
    """A floor or a ceiling: something to measure a world model against. Built as `cls(spec, **config)`.

    A reference has nothing to train. `privileged` names the input that no method may read; records and tables show it.
    What else it must be able to do is the task's business: tasks refuse references that are none of theirs.
    """

    version: ClassVar[int] = 1
    privileged: ClassVar[Privilege] = "none"

    def __init__(self, spec: LatentSpec) -> None:
        self.spec = spec


class RolloutReference(Reference, ABC):
    """A reference that stands in for a world model: it continues videos.

    `sees_video` and `sees_rollout` say what a reasoner may be fed from it.
    """

    sees_video: ClassVar[bool] = True
    sees_rollout: ClassVar[bool] = True

    @property
    @abstractmethod
    def clip(self) -> ClipSpec:
        """History length and stride that `rollout` wants (future is 0)."""

    @abstractmethod
    def rollout(self, history: LatentBatch, *, steps: int, truth: Tensor | None = None) -> LatentBatch:
        """Like `WorldModel.rollout`.

        `truth` (B, K, N, D) is given only where `privileged` is "future", or "stored_rollout": then it is what another
        model has imagined.
        """


class Task(ABC):
    """A problem to measure on. Built as `cls(**config)`; evaluates to exactly the metrics that it declares.

    Attributes:
        encoder: of the run, set by the engine before anything is asked: what can be measured may depend on it. None
            where only the task's data matters.
        needs: capabilities that a world model must have.
    """

    version: ClassVar[int] = 1
    encoder: Encoder | None = None
    needs: ClassVar[frozenset[str]] = frozenset()

    @property
    def action_dim(self) -> int:
        """Width A of all actions between two latent frames together; 0 where there are none."""
        return 0

    @property
    def proprio_dim(self) -> int:
        """Width P of the proprioception of a frame; 0 where there is none."""
        return 0

    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that `evaluate` gives under this configuration, in the order of the tables."""

    @abstractmethod
    def data_identity(self, seeds: Seeds) -> Mapping[str, str] | None:
        """Return what identifies the data: {"kind", "name", "manifest"}; None while it does not exist.

        Data that the task makes itself is known before it is made (configuration, generator version, seed).

        Raises:
            BenchError: the data is there but can't be read.
        """

    @abstractmethod
    def run(self, context: RunContext) -> Evaluation:
        """Do all stages of one run through `context` (cached stages, training, seeds, progress) and evaluate."""

    def versions(self) -> Mapping[str, int | str]:
        """Versions of the task's own components that can change numbers (generator, reasoner, planner), by name."""
        return {}

    def stages(self, workspace: Workspace) -> Mapping[str, Mapping[str, Any]]:
        """Return the keys of the cached stages of a run, in their order: what `bench show` reports on."""
        return {}

    def shared(self, workspace: Workspace) -> Mapping[str, Mapping[str, Any]]:
        """Return those of `stages` that runs of other methods have in common, and that `make_shared` makes."""
        return {}

    def make_shared(self, context: RunContext) -> None:  # noqa: B027
        """Make the stages of `shared`, so that many runs that start together find them."""

    def refuses(self, model: type[WorldModel] | type[Reference], encoder: Encoder) -> str:
        """Return the capability that this model or encoder lacks for the task; "" where the pair is fine.

        `needs` is checked by the engine; this is for whatever else can't work. Nothing has been computed yet.
        """
        return ""

    def videos(self, workspace: Workspace, split: str) -> Videos:
        """Return the videos of a split ("train", "dev" or "test") as pixels; made or rendered where they are missing.

        Raises:
            BenchError: there are none, or they can't be read.
        """
        raise BenchError("this task has no videos", "Choose an encoder that reads states.")

    def evidence(self, runs: Sequence[Shown], workspace: Workspace, *, count: int) -> Sequence[Evidence]:
        """Return up to `count` single items with what each of some runs on the same data made of them, for reports.

        Raises:
            BenchError: the data that they are about can't be read.
        """
        return ()

    def states(self, *, videos: int, frames: int) -> Observations:
        """Return made-up states (B, T, n, F) in the form that the task gives them: what encoders are checked on.

        Raises:
            BenchError: the task has no states.
        """
        raise BenchError("this task gives encoders no states", "Choose another task.")

    def data_make(self, workspace: Workspace, *, out: Path | None) -> DataReport:
        """Make the task's data, in `out` or in the cache; for `bench data make`."""
        raise BenchError("this task can't make its data", "See its documentation for where to get it.")

    def data_check(self, workspace: Workspace, *, out: Path | None) -> DataReport:
        """Read all of the data and say what is there, what is missing and what is wrong; `out` takes a manifest."""
        raise BenchError("this task has no check of its data")

    def data_describe(self, workspace: Workspace, *, out: Path | None) -> DataReport:
        """Describe the data in figures and, in the folder `out`, in pictures."""
        raise BenchError("this task has no description of its data")
