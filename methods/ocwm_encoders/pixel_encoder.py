"""What the pixel encoders share: a network that is built once, its weights, per-video random numbers.

Shape letters: B batch, T time, N slots, D slot dimension.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ocwm.checkpoint import load_weights
from ocwm.errors import BenchError
from ocwm.interfaces import Encoder

RANDOM = "random"  # encoder.weights=random: a network as it is initialised, for tests

_FRAMES_PER_CALL = 64  # bounds the memory that feature maps take, whatever the length of a video
_SLOT_NOISE = 0x51A7  # tag of the stream of per-video draws

Network = TypeVar("Network", bound=nn.Module)


class PixelEncoder(Encoder, Generic[Network]):
    """An encoder with a network whose weights come from a file.

    The network follows the frames: it is moved to the device that they are on.

    Args:
        num_slots: tokens N.
        slot_dim: width D of a token.
        weights: safetensors file with the published key names; "random" leaves the network as `seed` initialises it.
        seed: seed of that initialisation and of the per-video draws.
    """

    name: ClassVar[str]
    reads: ClassVar[Literal["state", "pixels"]] = "pixels"

    def __init__(self, *, num_slots: int, slot_dim: int, weights: str | None, seed: int) -> None:
        self._num_slots = num_slots
        self._slot_dim = slot_dim
        self._weights = weights
        self.seed = seed

    @property
    def num_slots(self) -> int:
        """Number of slots N."""
        return self._num_slots

    @property
    def slot_dim(self) -> int:
        """Width D of a slot."""
        return self._slot_dim

    @abstractmethod
    def build_network(self) -> Network:
        """Return an untrained network of the configured sizes, drawn from torch's global generator."""

    @cached_property
    def weights(self) -> str:
        """The sha256 of the weights file; "" for a random network.

        Raises:
            BenchError: no file is named, or it is not there.
        """
        return "" if self._weights == RANDOM else sha256(self._file())

    @cached_property
    def network(self) -> Network:
        """The network with its weights, frozen.

        Raises:
            BenchError: the weights are missing, unreadable, or for other sizes.
        """
        network = self.new_network()
        if self._weights != RANDOM:
            path = self._file()
            load_weights(network, read_weights(path), source=path)
        return network.eval().requires_grad_(False)

    def new_network(self) -> Network:
        """Return an untrained network, initialised from `seed`; torch's global generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return self.build_network()

    def draws(self, ids: Tensor, *, frame: int) -> Tensor:
        """Standard normal numbers (B, N, D), a function of (seed, video id, frame) only.

        So slots depend neither on which videos share a batch nor on how a video is cut into chunks.
        """
        shape = (self._num_slots, self._slot_dim)
        generators = (np.random.default_rng([self.seed, _SLOT_NOISE, int(i), frame]) for i in ids)
        return torch.from_numpy(np.stack([one.standard_normal(shape, dtype=np.float32) for one in generators]))

    def _file(self) -> Path:
        if self._weights is None:
            raise BenchError(
                f"the encoder '{self.name}' has no weights",
                "Train it or convert a published checkpoint to safetensors, then name the file: "
                "encoder.weights=FILE.safetensors (encoder.weights=random is an untrained network, for tests).",
            )
        path = Path(self._weights).expanduser()
        if not path.is_file():
            raise BenchError(
                f"no weights for the encoder '{self.name}' at {path}", "Check encoder.weights: it names one file."
            )
        return path


def frames_per_call(videos: int) -> int:
    """Return how many frames of `videos` videos go through a network at once."""
    return max(1, _FRAMES_PER_CALL // videos)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file as float32 where it holds floats.

    Raises:
        BenchError: it can't be read or is no safetensors file.
    """
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise BenchError(
            f"{path} is no whole safetensors file: {error}", "Convert published checkpoints to safetensors first."
        ) from error
    except OSError as error:
        raise BenchError(f"can't read {path}: {error.strerror or error}") from error
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}


def sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes.

    Raises:
        BenchError: it can't be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BenchError(f"can't read {path}: {error.strerror or error}") from error
