"""The `state` encoder: one slot for each object, straight from annotation or simulator state.

Shape letters: B batch, T time, n objects, F state features, N slots, D slot dimension.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ocwm.errors import BenchError, suggest
from ocwm.interfaces import Encoder
from ocwm.types import LatentBatch, Observations

Groups = tuple[tuple[str, int], ...]


class StateEncoder(Encoder):
    """Projects the features of each object by a fixed random matrix with orthonormal rows.

    There is no velocity among the features, so a world model has to read motion from several frames. An object
    that can't be seen is the empty slot (zeros), before it enters and after it leaves, so that no slot tells of an
    object that has not come yet. Slots are shuffled per video: an index means nothing across videos.

    Args:
        num_slots: slots N; videos with fewer objects are padded with empty slots.
        slot_dim: width D of a slot, at least the number of features.
        scale: weight of each group of features before the projection. What a latent spends its variance on decides
            how fast dynamics are learned, so positions weigh more than the attributes that never change.
        wavelengths: lengths, in units of the position features, of the sine and cosine waves that are added as a
            group "waves". The product of two such codes falls off with distance, so attention can tell near objects
            from far ones; plain coordinates do not offer that. None for no waves.
        noise: standard deviation of Gaussian noise on the latents of visible objects (0 = none).
        seed: seed of the projection, the slot order and the noise.
    """

    version: ClassVar[int] = 1
    reads: ClassVar[Literal["state", "pixels"]] = "state"
    deterministic: ClassVar[bool] = True

    def __init__(
        self,
        *,
        num_slots: int = 6,
        slot_dim: int = 64,
        scale: Mapping[str, float] | None = None,
        wavelengths: Sequence[float] = (),
        noise: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._num_slots = num_slots
        self._slot_dim = slot_dim
        self.scale = dict(scale or {})
        self.wavelengths = tuple(wavelengths)
        self.noise = noise
        self.seed = seed

    @property
    def num_slots(self) -> int:
        """Number of slots N."""
        return self._num_slots

    @property
    def slot_dim(self) -> int:
        """Width D of a slot."""
        return self._slot_dim

    def projection(self, groups: Groups) -> Tensor:
        """The (F, D) matrix: scaled rows of a random orthonormal basis.

        Raises:
            BenchError: more features than D, or a scale for a group that the task does not give.
        """
        names = [name for name, _ in groups]
        for name in self.scale:
            if name not in names:
                raise BenchError(f"encoder.scale.{name}: the task gives no such features", suggest(name, names))
        features = sum(width for _, width in groups)
        if features > self._slot_dim:
            raise BenchError(
                f"encoder.slot_dim={self._slot_dim} is smaller than the {features} state features",
                f"Choose at least {features}.",
            )
        gaussian = np.random.default_rng([self.seed, 1]).standard_normal((self._slot_dim, features))
        basis = np.linalg.qr(gaussian)[0].T
        weights = np.concatenate([np.full(width, self.scale.get(name, 1.0)) for name, width in groups])
        return torch.from_numpy((basis * weights[:, None]).astype(np.float32))

    def features(self, state: Tensor, groups: Groups) -> tuple[Tensor, Groups]:
        """Add the waves of the positions to the state features (B, T, n, F)."""
        if not self.wavelengths:
            return state, groups
        first = 0
        for name, width in groups:
            if name == "position":
                break
            first += width
        else:
            raise BenchError("encoder.wavelengths is set, but the task gives no positions", "Set it to [].")
        position = state[..., first : first + width]
        phase = position[..., None, :] * (2 * math.pi / torch.tensor(self.wavelengths))[:, None]
        waves = torch.cat([phase.sin(), phase.cos()], dim=-1).flatten(-2)
        return torch.cat([state, waves], dim=-1), (*groups, ("waves", waves.shape[-1]))

    def slot_of(self, ids: Tensor) -> Tensor:
        """Which slot holds each object: (B, N) int64, a permutation for each video id."""
        orders = [np.random.default_rng([self.seed, 2, int(i)]).permutation(self._num_slots) for i in ids]
        return torch.from_numpy(np.stack(orders))

    def encode(self, observations: Observations, carry: Any = None) -> tuple[LatentBatch, Any]:
        """Encode state (B, T, n, F); see `Encoder.encode`. No carry: a frame is encoded by itself."""
        state, visible = observations.state, observations.visible
        if state is None or visible is None:
            raise BenchError("the state encoder needs object states, and the data has none", "Choose another encoder.")
        batch, frames, objects, _ = state.shape
        if objects > self._num_slots:
            raise BenchError(
                f"a video has {objects} objects, but encoder.num_slots={self._num_slots}",
                f"Set encoder.num_slots={objects} or more.",
            )
        seen = visible[..., None]
        features, groups = self.features(state, observations.groups)
        latents = torch.where(seen, features, 0.0) @ self.projection(groups)
        if self.noise:
            latents = latents + seen * self._draw_noise(observations.ids, latents)
        slots = latents.new_zeros(batch, frames, self._num_slots, self._slot_dim)
        present = torch.zeros(batch, self._num_slots, dtype=torch.bool)
        slot_of = self.slot_of(observations.ids)[:, :objects]
        rows = torch.arange(batch)[:, None]
        slots[rows, :, slot_of] = latents.transpose(1, 2)
        present[rows, slot_of] = visible.any(dim=1)
        return LatentBatch(slots, present=present), None

    def _draw_noise(self, ids: Tensor, latents: Tensor) -> Tensor:
        shape = latents.shape[1:]
        drawn = [np.random.default_rng([self.seed, 3, int(i)]).standard_normal(shape, dtype=np.float32) for i in ids]
        return self.noise * torch.from_numpy(np.stack(drawn))
