"""What a world model says would follow a cut, with all objects and without each of them.

Shape letters: V videos, C cuts, n objects, K frames after a cut, T frames, N slots, D slot dimension, B removals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ocwm.interfaces import RolloutReference, WorldModel
from ocwm.types import LatentBatch
from ocwm_tasks.clevrer.symbolic.probe import COLUMNS, RidgeProbe
from ocwm_tasks.clevrer.windows import extend
from ocwm_tasks.interactions.truth import HORIZON, Truth

Float32 = NDArray[np.float32]
BATCH = 128  # rollouts at a time


@dataclass(frozen=True, eq=False)
class Imagination:
    """Positions read from rollouts, by object.

    Attributes:
        with_all: (V, C, K, n, 2) world units; NaN past a video's objects.
        without: (V, C, n, K, n, 2), the third axis says who was removed.
        attention: (V, C, n, n) attention that the prediction of the last axis' object pays to the one before it; None
            where the model does not tell.
    """

    with_all: Float32
    without: Float32
    attention: Float32 | None

    @property
    def change(self) -> Float32:
        """(V, C, n, n) mean distance that removing an object moves another one in imagination."""
        distance = np.linalg.norm(self.without - self.with_all[:, :, None], axis=-1)  # (V, C, n, K, n)
        return np.asarray(distance.mean(axis=3))


@torch.no_grad()
def imagine_removals(
    model: WorldModel | RolloutReference,
    latents: Float32,
    slot_of: NDArray[np.int64],
    truth: Truth,
    *,
    probe: RidgeProbe,
    device: torch.device,
    advance: Callable[[int], object],
) -> Imagination:
    """Roll every video on from every cut, with all objects and without each.

    Args:
        model: in evaluation mode; a removed object's token is dropped where it declares `variable_slots`, and else
            replaced by the empty slot.
        latents: (V, T, N, D) of the videos of `truth`.
        slot_of: (V, n or more) the slot of each object, -1 past a video's objects.
        truth: which cuts, and how many objects.
        probe: reads positions.
        device: where the model is.
        advance: is told of every cut of every video.
    """
    videos, cuts, most = len(latents), len(truth.cuts), truth.known.shape[-1]
    with_all = np.full((videos, cuts, HORIZON, most, 2), np.nan, dtype=np.float32)
    without = np.full((videos, cuts, most, HORIZON, most, 2), np.nan, dtype=np.float32)
    attention = np.full((videos, cuts, most, most), np.nan, dtype=np.float32)
    row, object_ = np.nonzero(slot_of[:, :most] >= 0)
    told = True
    for place, cut in enumerate(truth.cuts.tolist()):
        for low in range(0, videos, BATCH):
            seen = torch.from_numpy(np.array(latents[low : low + BATCH, :cut]))
            rolled = extend(model, seen.to(device), steps=HORIZON).cpu().numpy()
            found = _positions(probe, rolled)
            weights = _attention(model, seen, device)
            told = told and weights is not None
            for video in range(low, min(low + BATCH, videos)):
                slots = slot_of[video, :most][slot_of[video, :most] >= 0]
                with_all[video, place][:, : len(slots)] = found[video - low][:, slots]
                if weights is not None:
                    pairs = weights[video - low][np.ix_(slots, slots)]  # [predicted, attended]
                    attention[video, place, : len(slots), : len(slots)] = pairs.T
            advance(min(BATCH, videos - low))
        for low in range(0, len(row), BATCH):
            some, removed = row[low : low + BATCH], object_[low : low + BATCH]
            slots = slot_of[some, removed]
            found = _positions(probe, _without(model, latents[some][:, :cut], slots, probe, device))
            for line, (video, out) in enumerate(zip(some.tolist(), removed.tolist(), strict=True)):
                order = slot_of[video, :most][slot_of[video, :most] >= 0]
                without[video, place, out][:, : len(order)] = found[line][:, order]
                without[video, place, out][:, out] = np.nan
    return Imagination(with_all, without, attention if told else None)


def _without(
    model: WorldModel | RolloutReference,
    latents_BTND: Float32,
    slots_B: NDArray[np.int64],
    probe: RidgeProbe,
    device: torch.device,
) -> Float32:
    """Rollouts (B, K, N, D) without the slots; in their place stands the empty slot."""
    rows = np.arange(len(slots_B))
    seen = np.array(latents_BTND)
    seen[rows, :, slots_B] = probe.empty
    if "variable_slots" not in getattr(model, "capabilities", frozenset()):
        return np.asarray(extend(model, torch.from_numpy(seen).to(device), steps=HORIZON).cpu().numpy())
    stay = np.stack([np.delete(np.arange(seen.shape[2]), slot) for slot in slots_B])  # (B, N - 1)
    fewer = np.take_along_axis(seen, stay[:, None, :, None], axis=2)
    rolled = extend(model, torch.from_numpy(fewer).to(device), steps=HORIZON).cpu().numpy()
    full = np.broadcast_to(probe.empty, (*rolled.shape[:2], *seen.shape[2:])).copy()
    np.put_along_axis(full, stay[:, None, :, None], rolled, axis=2)
    return full


def _attention(model: WorldModel | RolloutReference, seen_BTND: torch.Tensor, device: torch.device) -> Float32 | None:
    if not isinstance(model, WorldModel):
        return None
    clip = model.clip
    frames = seen_BTND.shape[1] - 1 - clip.stride * np.arange(clip.history)[::-1]
    weights = model.attention(LatentBatch(seen_BTND[:, frames.copy()].to(device)))
    return None if weights is None else np.asarray(weights.float().cpu().numpy())


def _positions(probe: RidgeProbe, latents: Float32) -> Float32:
    return probe.read(latents)[..., COLUMNS["position"]]
