"""The random numbers of a training: which items make up update number i, and torch's own state (dropout).

Data order and batch randomness are functions of (seed, epoch) and (seed, update number): a resumed training needs
no saved state for them. Torch's generators are captured in checkpoints and given back to the caller untouched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# Tags keep the two streams apart from each other and from np.random.default_rng(seed) elsewhere. They are not 0,
# because SeedSequence pads with zeros: [seed, 0] would be the stream of [seed].
_ORDER = 0x0DE2
_BATCH = 0xBA7C
_OWN = 0x0371


def batch_generator(seed: int, step: int, *, rank: int = 0) -> np.random.Generator:
    """Return the generator that update number `step` draws its batch with; further processes have their own."""
    return np.random.default_rng([seed, _BATCH, step, rank] if rank else [seed, _BATCH, step])


def own_seed(seed: int, step: int, rank: int) -> int:
    """Return what one of several processes seeds torch with for update number `step`."""
    return int(np.random.SeedSequence([seed, _OWN, step, rank]).generate_state(1, np.uint64)[0] >> 1)


class DataOrder:
    """Which items update number i sees: a fresh permutation for each epoch, without the incomplete last batch."""

    def __init__(self, items: int, *, batch_size: int, seed: int) -> None:
        assert 1 <= batch_size <= items
        self.items = items
        self.batch_size = batch_size
        self.seed = seed
        self.per_epoch = items // batch_size
        self._epoch = -1
        self._permutation: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def indices(self, step: int) -> npt.NDArray[np.int64]:
        """Return the item numbers (batch_size,) of update number `step`."""
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._permutation = np.random.default_rng([self.seed, _ORDER, epoch]).permutation(self.items)
            self._epoch = epoch
        start = position * self.batch_size
        return self._permutation[start : start + self.batch_size]


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed torch's CPU generator and, for a CUDA device, that device's."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def capture_torch(device: torch.device) -> dict[str, Tensor]:
    """Return the state of the generators that `seed_torch` seeds, as uint8 tensors {"cpu": ..., "cuda": ...}."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_torch(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Put back what `capture_torch` returned on the same kind of device."""
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)


@contextmanager
def preserved_torch(device: torch.device) -> Iterator[None]:
    """Give torch's generators back as they were, whatever happens inside."""
    state = capture_torch(device)
    try:
        yield
    finally:
        restore_torch(state, device)
