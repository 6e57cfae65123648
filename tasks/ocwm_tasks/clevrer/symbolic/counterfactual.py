"""What a world model makes of a video without one of its objects: the removal rollout.

The object's token is dropped. Every other object follows its observation until its first observed event that descends
from the removed object's events, or until its first imagined contact that the observation does not have; from then on
the model drives it, to the end. Frames past the observed ones follow the rollout of the whole video in the same way.

Shape letters: V videos, T frames, N slots, D slot dimension, R removals, B removals at a time, H history frames, K
predicted frames, P pairs of slots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ocwm.interfaces import RolloutReference, WorldModel
from ocwm.types import LatentBatch
from ocwm_tasks.clevrer.symbolic.probe import COLUMNS, SEEN, RidgeProbe
from ocwm_tasks.clevrer.symbolic.tracks import Bools, Float32, Ints, pair_classes
from ocwm_tasks.clevrer.world import Event

NEVER = np.iinfo(np.int64).max
_LEAD = 2  # frames before an observed or imagined contact from which on the model drives: its effect is not in yet


@dataclass(frozen=True)
class Removals:
    """Which objects are removed, and when that begins to matter to the others.

    Attributes:
        video: (R,) rows of the videos.
        slot: (R,) slot of the removed object.
        start: (R,) frame of the removed object's first event, `NEVER` where it has none.
        release: (R, N) frame from which on the model must drive a slot, by the observed events; `NEVER` where none
            descends from the removed object's.
    """

    video: Ints
    slot: Ints
    start: Ints
    release: Ints

    def __len__(self) -> int:
        return len(self.video)


@dataclass(frozen=True)
class Imagined:
    """Videos without one object.

    Attributes:
        state: (R, T, N, 3) float32 x, y and visibility, read by the probe; zero for the removed slot.
        driven: (R, T, N) bool, predicted by the removal rollout, not taken from the video.
        calls: number of batched calls of the model.
        latents: (R, T, N, D) float32 where they were asked for.
    """

    state: Float32
    driven: Bools
    calls: int
    latents: Float32 | None = None

    @property
    def object_frames(self) -> int:
        """How many visible states of objects the removal rollouts imagined."""
        return int((self.driven & (self.state[..., 2] > SEEN)).sum())


def descend(events: Sequence[Event], removed: int, *, count: int) -> tuple[int, Ints]:
    """When the removal of an object begins to matter.

    An event descends from the removed object's events when that object takes part in it or in one of its ancestors, so
    an object is touched from its first collision with the removed object, or with one that is touched already.

    Args:
        events: sorted by frame.
        removed: number of the object.
        count: number of objects.

    Returns:
        The frame of the removed object's first event, and the frame of each object's first event that descends from
        its events; `NEVER` where there is none.
    """
    start = NEVER
    first = np.full(count, NEVER)
    for event in events:
        if event.frame is None or not event.objects:
            continue
        if removed in event.objects:
            start = min(start, event.frame)
        if any(i == removed or first[i] <= event.frame for i in event.objects):
            for i in event.objects:
                if i != removed:
                    first[i] = min(first[i], event.frame)
    return start, first


@torch.no_grad()
def imagine(
    model: WorldModel | RolloutReference,
    latents: Float32,
    removals: Removals,
    *,
    probe: RidgeProbe,
    shape: Ints,
    touch: Sequence[float],
    free_running: bool = False,
    frames_per_call: int | None = None,
    device: torch.device | str = "cpu",
    batch: int = 128,
    keep_latents: bool = False,
    advance: Callable[[int], object] | None = None,
) -> Imagined:
    """Roll every removal out to the last frame.

    Removals are driven side by side, each at its own frame: a call of the model predicts all slots of all unfinished
    removals jointly, for every residue of the model's stride. Slots that are not released are put back to their
    observation. Before a release, and every `frames_per_call` frames, the model starts anew from what is then known.

    Args:
        model: in evaluation mode; token dropped where it declares `variable_slots`, else filled with the empty slot.
        latents: (V, T, N, D) observed frames followed by the rollout of the whole video, one row per video frame.
        removals: R removals.
        probe: reads positions and visibility.
        shape: (V, N) shape of the object in each slot, -1 for none.
        touch: for each shape pair the distance of the centres at which an imagined contact begins.
        free_running: the model drives every object from the removed object's first event on.
        frames_per_call: video frames between two starts; default: as many as the model predicts in one call.
        device: where the model is.
        batch: removals at a time.
        keep_latents: return the latents, too.
        advance: is told how many removals are finished.

    Raises:
        ValueError: the model reads the real future, so it can't say what happens without an object.
    """
    if isinstance(model, RolloutReference) and model.privileged == "future":
        raise ValueError("a reference that reads the real future can't imagine a removal")
    count, (frames, slots) = len(removals), latents.shape[1:3]
    state = np.zeros((count, frames, slots, 3), dtype=np.float32)
    driven = np.zeros((count, frames, slots), dtype=np.bool_)
    kept = np.zeros((count, *latents.shape[1:]), dtype=np.float32) if keep_latents else None
    calls = 0
    order = np.argsort(removals.release.min(axis=1), kind="stable")  # alike ones together: they end together
    for low in range(0, count, batch):
        rows = order[low : low + batch]
        some = _Rollout(model, latents, removals, rows, probe, shape, touch, torch.device(device))
        some.run(free_running=free_running, frames_per_call=frames_per_call)
        state[rows], driven[rows] = some.read(), some.driven()
        if kept is not None:
            kept[rows] = some.latents
        calls += some.calls
        if advance is not None:
            advance(len(rows))
    return Imagined(state, driven, calls, kept)


class _Rollout:
    """B removals on their way: each has its own next frame, and each slot its own frame of release."""

    def __init__(
        self,
        model: WorldModel | RolloutReference,
        latents: Float32,
        removals: Removals,
        rows: Ints,
        probe: RidgeProbe,
        shape: Ints,
        touch: Sequence[float],
        device: torch.device,
    ) -> None:
        self.model = model
        self.device = device
        self.probe = probe
        self.removed = removals.slot[rows]
        self.everyone = np.arange(len(rows))
        self.latents = np.array(latents[removals.video[rows]], dtype=np.float32)
        self.latents[self.everyone, :, self.removed] = probe.empty
        self.frames, self.slots = self.latents.shape[1:3]
        self.start = np.clip(removals.start[rows] - _LEAD, 1, None)
        self.release = np.where(
            removals.release[rows] == NEVER, NEVER, np.clip(removals.release[rows] - _LEAD, 1, None)
        )
        self.first, self.second = np.triu_indices(self.slots, 1)
        kind = pair_classes(shape[removals.video[rows]], self.first, self.second)
        self.touch = np.array([*touch, -np.inf], dtype=np.float32)[kind][:, None]
        self.calls = 0

    def run(self, *, free_running: bool, frames_per_call: int | None) -> None:
        """Drive everything to the last frame."""
        clip = self.model.clip
        span = frames_per_call or (clip.future * clip.stride) or self.frames
        if free_running:
            self.release = np.broadcast_to(self.start[:, None], self.release.shape).copy()
        self.release[self.everyone, self.removed] = NEVER
        cursor = np.minimum(self.release.min(axis=1), self.frames)
        while (active := np.flatnonzero(cursor < self.frames)).size:
            now = cursor[active]
            release = self.release[active]
            later = np.where(release > now[:, None], release, NEVER).min(axis=1)
            stop = np.minimum(np.minimum(later, now + span), self.frames)
            predicted = self._predict(active, now, steps=int((stop - now).max()))
            contact, stop = self._contacts(active, now, stop, predicted)
            self._commit(active, now, stop, predicted)
            released = self.release[active]
            released[contact] = np.broadcast_to(stop[:, None], contact.shape)[contact]
            self.release[active] = released
            cursor[active] = stop

    def _predict(self, active: Ints, now: Ints, *, steps: int) -> Float32:
        """The next `steps` frames (B, steps, N, D) after frame `now` - 1 of the active removals."""
        clip = self.model.clip
        span = np.arange(clip.stride)[:, None] + clip.stride * np.arange(-clip.history, 0)
        frames = np.maximum(now[:, None, None] + span, 0)  # too short a history repeats the first frame
        history = torch.from_numpy(self.latents[active[:, None, None], frames])
        # References treat every slot by itself, so there nothing is to be dropped.
        drop = "variable_slots" in getattr(self.model, "capabilities", frozenset())
        others = self._others(active) if drop else None
        if others is not None:
            picked = others[:, None, None, :, None].expand(-1, *history.shape[1:3], -1, history.shape[-1])
            history = history.gather(3, picked)
        sequences = LatentBatch(history.flatten(0, 1).to(self.device))
        rolled = self.model.rollout(sequences, steps=-(-steps // clip.stride)).latents.cpu()
        self.calls += 1
        by_residue = rolled.reshape(len(active), clip.stride, *rolled.shape[1:])
        joined = by_residue.transpose(1, 2).flatten(1, 2)[:, :steps]
        if others is None:
            return np.asarray(joined.numpy(), dtype=np.float32)
        full = torch.from_numpy(self.probe.empty).expand(*joined.shape[:2], self.slots, -1).clone()
        full.scatter_(2, others[:, None, :, None].expand_as(joined), joined)
        return np.asarray(full.numpy(), dtype=np.float32)

    def _others(self, active: Ints) -> Tensor:
        """(B, N - 1) the slots that stay."""
        slots = np.arange(self.slots)
        return torch.from_numpy(np.stack([np.delete(slots, i) for i in self.removed[active]]))

    def _contacts(self, active: Ints, now: Ints, stop: Ints, predicted: Float32) -> tuple[Bools, Ints]:
        """First contacts of a driven slot with one that still follows its observation.

        A contact begins where the two come within reach of each other, so a pair that was in touch before the model
        took over is none.

        Returns:
            (B, N) slots to release, and (B,) the frame up to which the prediction holds: shortly before the first of
            these contacts.
        """
        steps = predicted.shape[1]
        frames = now[:, None] + np.arange(-1, steps)
        latents = self.latents[active[:, None], np.minimum(frames, self.frames - 1)]
        mine = self.release[active] <= now[:, None]
        latents[:, 1:] = np.where(mine[:, None, :, None], predicted, latents[:, 1:])
        state = read_state(self.probe, latents)
        position, visible = state[..., :2], state[..., 2] > SEEN
        visible &= (np.arange(self.slots) != self.removed[active][:, None])[:, None]
        mixed = mine[:, self.first] != mine[:, self.second]
        distance = np.linalg.norm(position[:, :, self.first] - position[:, :, self.second], axis=-1)
        seen = visible[:, :, self.first] & visible[:, :, self.second] & mixed[:, None]
        near = seen & (distance < self.touch[active])
        begins = near[:, 1:] & ~near[:, :-1] & (frames[:, 1:] < stop[:, None])[..., None]
        step = np.where(begins.any(axis=1), begins.argmax(axis=1), NEVER)  # (B, P)
        earliest = step.min(axis=1)
        found = earliest < NEVER
        stop = np.where(found, np.maximum(now + np.where(found, earliest, 0) - _LEAD, now), stop)
        touched = np.zeros(mine.shape, dtype=np.bool_)
        row, pair = np.nonzero((step == earliest[:, None]) & found[:, None])
        touched[row, self.first[pair]] = True
        touched[row, self.second[pair]] = True
        return touched & ~mine, stop

    def _commit(self, active: Ints, now: Ints, stop: Ints, predicted: Float32) -> None:
        """Write the prediction of the driven slots into the frames `now` .. `stop` - 1."""
        for lag in range(predicted.shape[1]):
            going = np.flatnonzero(now + lag < stop)
            row, slot = np.nonzero(self.release[active[going]] <= now[going, None])
            self.latents[active[going[row]], now[going[row]] + lag, slot] = predicted[going[row], lag, slot]

    def read(self) -> Float32:
        """x, y and visibility (B, T, N, 3)."""
        found = read_state(self.probe, self.latents)
        found[self.everyone, :, self.removed] = 0.0
        return found

    def driven(self) -> Bools:
        """(B, T, N) whether the model drives the slot."""
        return np.arange(self.frames)[:, None] >= self.release[:, None]


def read_state(probe: RidgeProbe, latents: Float32) -> Float32:
    """x, y and visibility (..., 3) of latents (..., D)."""
    state = probe.read(latents)
    return np.concatenate([state[..., COLUMNS["position"]], state[..., COLUMNS["visible"]]], axis=-1)
