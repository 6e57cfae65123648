"""How an encoder is trained on the videos of a task: what an encoder's package gives, and the clips that it gets.

Shape letters: V videos, B clips, T frames, h, w height and width of the kept frames.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ocwm.errors import BenchError

Pick = Literal["every", "chunk", "random"]


@dataclass(frozen=True)
class Clips:
    """The clips that an encoder trains on.

    Attributes:
        frames: of a clip.
        strides: video frames from one to the next; drawn for each clip where there are several.
        pick: "every": an item of an epoch is one of all the clips (StoSAVi); "chunk": it is a video, of which one of
            its disjoint clips is drawn (VideoSAUR); "random": it is a video, of which any clip is drawn.
        flip: share of clips that are mirrored left to right.
        validation: clips of the dev videos that the loss is measured on.

    Raises:
        BenchError: for a value that can't work, naming the key.
    """

    frames: int
    strides: tuple[int, ...] = (1,)
    pick: Pick = "every"
    flip: float = 0.0
    validation: int = 64

    def __post_init__(self) -> None:
        if self.pick not in get_args(Pick):
            raise BenchError(f"training.pick={self.pick} is not known", f"Choose one of {', '.join(get_args(Pick))}.")
        if self.frames < 1 or not self.strides or min(self.strides) < 1:
            raise BenchError(
                f"training.frames={self.frames} and training.strides={list(self.strides)} make no clips",
                "Both must be at least 1.",
            )
        if self.pick != "random" and len(self.strides) > 1:
            raise BenchError(
                f"training.pick={self.pick} takes one stride, not {list(self.strides)}", "Use training.pick=random."
            )

    @property
    def span(self) -> int:
        """Video frames from the first to the last of the longest clip, both counted."""
        return (self.frames - 1) * max(self.strides) + 1


@dataclass(frozen=True)
class VideoClips:
    """A batch of clips: `frames` (B, T, 3, h, w) uint8 RGB, as they are kept."""

    frames: Tensor

    def to(self, device: torch.device | str) -> VideoClips:
        """Return the batch on `device`."""
        return replace(self, frames=self.frames.to(device, non_blocking=True))


class EncoderTraining(nn.Module, ABC):
    """Trains the network of one encoder. Built as `cls(encoder, **config)` from the node `training` of its YAML.

    The state of this module goes into checkpoints; what `weights` returns becomes the weights file.

    Attributes:
        network: to be trained, initialised from the encoder's seed.
    """

    version: ClassVar[int] = 1

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @property
    @abstractmethod
    def clips(self) -> Clips:
        """The clips that `loss` wants."""

    @property
    @abstractmethod
    def kept(self) -> Mapping[str, Any]:
        """What `keep` does, as JSON values: frames are kept once for each."""

    @abstractmethod
    def keep(self, pixels: Tensor) -> Tensor:
        """Turn frames (T, 3, H, W) uint8 RGB of the videos into those that are kept for training, (T, 3, h, w) uint8.

        Raises:
            BenchError: frames that this encoder can't read.
        """

    def start(self, frames_VT3hw: npt.NDArray[np.uint8]) -> None:
        """Look at the kept frames of the training videos (V, T, 3, h, w) before the first update.

        They lie on disk: take a sample.

        Raises:
            BenchError: videos that this encoder can't be trained on.
        """
        return

    @abstractmethod
    def loss(self, batch: VideoClips) -> dict[str, Tensor]:
        """Return the loss of a batch: {"loss": scalar to minimise, other scalars to log}."""

    def weights(self) -> dict[str, Tensor]:
        """Return the tensors of the weights file, by their published names."""
        return self.network.state_dict()
