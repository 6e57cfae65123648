"""What a question program can ask about: objects, when they are seen and move, and the events of a video.

A `World` is the same whether it was read from an annotation, from estimated trajectories, from the simulator or from a
model's rollout; the executor knows nothing else.

Shape letters: T samples of the observed video, K samples with the future, n objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ocwm_tasks.clevrer.scene import OBSERVED_FRAMES, ROLLOUT_FRAMES, Collision, ObjectProperty, Scene

SAMPLE_STEP = 5  # frames; entering, leaving and motion are judged on frames 0, 5, 10, ...
END_FRAME = 125  # the frame of the `end` event: the last observed sample

# Speeds above which an object counts as moving, in units per frame between neighbouring samples. In image-plane units it
# is the official executor's; 0.1 px is about 0.004 world units at the middle of CLEVRER's picture (0.1 units/s at 25 fps).
MOVING_SPEED = {"image": 0.1, "world": 0.004}

EventKind = Literal["start", "end", "in", "out", "collision"]
Pair = frozenset[int]

# Events of one object at one frame happen in this order.
_KIND_ORDER = {"start": 0, "in": 1, "collision": 2, "out": 3, "end": 4}


@dataclass(frozen=True)
class Event:
    """Something that happens to `objects` at `frame` (None: a possible collision without a time)."""

    kind: EventKind
    frame: int | None
    objects: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class World:
    """The facts behind the questions of one video.

    Attributes:
        objects: n objects.
        frames: (T,) int64 observed samples, frames < 128.
        visible: (T, n) bool.
        moving: (T, n) bool, False where not visible.
        events: start, end, in, out and collision events, sorted by frame.
        horizon: events are known for frames < horizon: 128, or 160 where the future is known.
        counterfactual: for each object, the pairs that collide when it is removed; None or a missing object: not known.
        headings: (T, n, 2) displacement (right, up) in the picture at each sample, where known.
        unplaced: objects that are known to be in the video although no sample has them.
    """

    objects: tuple[ObjectProperty, ...]
    frames: NDArray[np.int64]
    visible: NDArray[np.bool_]
    moving: NDArray[np.bool_]
    events: tuple[Event, ...]
    horizon: int = OBSERVED_FRAMES
    counterfactual: Mapping[int, frozenset[Pair]] | None = None
    headings: NDArray[np.float32] | None = None
    unplaced: frozenset[int] = frozenset()

    @classmethod
    def from_scene(
        cls,
        scene: Scene,
        *,
        counterfactual: Mapping[int, frozenset[Pair]] | None = None,
        moving_speed: float | None = None,
    ) -> World:
        """Build the world of an annotation (any frame rate) or of estimated trajectories (frames 0, 5, ..., 125).

        Only frames that are multiples of 5 are read, as the official executor does, apart from the frames of collisions.
        The future counts as known when the samples reach frame 155.

        Args:
            scene: the video.
            counterfactual: see the attribute.
            moving_speed: units per frame; default: by the scene's coordinates, see `MOVING_SPEED`.
        """
        rows = np.flatnonzero(scene.frames % SAMPLE_STEP == 0)
        frames, visible, positions = scene.frames[rows], scene.visible[rows], scene.positions[rows]
        speeds = sample_speeds(frames, positions, visible)
        headings, unplaced = None, frozenset[int]()
        if scene.coordinates == "image":
            # The trajectory files count x downwards and y to the right.
            steps = np.diff(positions, axis=0, prepend=positions[:1])
            headings = np.stack([steps[..., 1], -steps[..., 0]], axis=-1)[frames < OBSERVED_FRAMES]
            # They list the objects that somebody saw, also those whose positions could not be estimated.
            unplaced = frozenset(np.flatnonzero(~visible.any(axis=0)).tolist())
        return cls.from_samples(
            scene.objects,
            frames,
            visible,
            speeds > (MOVING_SPEED[scene.coordinates] if moving_speed is None else moving_speed),
            scene.collisions,
            counterfactual=counterfactual,
            headings=headings,
            unplaced=unplaced,
        )

    @classmethod
    def from_samples(
        cls,
        objects: tuple[ObjectProperty, ...],
        frames: NDArray[np.int64],
        visible: NDArray[np.bool_],
        moving: NDArray[np.bool_],
        collisions: Iterable[Collision],
        *,
        counterfactual: Mapping[int, frozenset[Pair]] | None = None,
        headings: NDArray[np.float32] | None = None,
        unplaced: frozenset[int] = frozenset(),
    ) -> World:
        """Build a world from samples (K,), (K, n), (K, n) that may go on past frame 128, and from collisions at any frame."""
        seen = frames < OBSERVED_FRAMES
        horizon = ROLLOUT_FRAMES if frames[-1] >= ROLLOUT_FRAMES - SAMPLE_STEP else OBSERVED_FRAMES
        events = [Event("start", 0), Event("end", END_FRAME), *crossings(frames, visible)]
        events += [Event("collision", c.frame, (c.a, c.b)) for c in collisions]
        return cls(
            objects=objects,
            frames=frames[seen],
            visible=visible[seen],
            moving=(moving & visible)[seen],
            events=sort_events(event for event in events if event.frame is not None and event.frame < horizon),
            horizon=horizon,
            counterfactual=counterfactual,
            headings=headings,
            unplaced=unplaced,
        )

    @cached_property
    def seen(self) -> tuple[int, ...]:
        """Objects that are in the observed video, in order."""
        return tuple(sorted({*np.flatnonzero(self.visible.any(axis=0)).tolist(), *self.unplaced}))

    @cached_property
    def states(self) -> tuple[tuple[bool | None, ...], ...]:
        """For each sample and object whether it moves; None where it is not visible."""
        rows = zip(self.visible.tolist(), self.moving.tolist(), strict=True)
        return tuple(tuple(m if v else None for v, m in zip(*row, strict=True)) for row in rows)

    @cached_property
    def ever(self) -> tuple[bool | None, ...]:
        """For each object whether it moves at any sample; None where it is never visible."""
        visible: list[bool] = np.any(self.visible, axis=0).tolist()
        moving: list[bool] = np.any(self.moving & self.visible, axis=0).tolist()
        return tuple(m if v else None for v, m in zip(visible, moving, strict=True))

    @cached_property
    def possible(self) -> tuple[Event, ...]:
        """A collision without a time for every pair of objects in the video."""
        return tuple(Event("collision", None, pair) for pair in pairs_of(self.seen))

    @cached_property
    def observed(self) -> tuple[Event, ...]:
        """Events before frame 128."""
        return tuple(e for e in self.events if e.frame is not None and e.frame < OBSERVED_FRAMES)

    @cached_property
    def ancestors(self) -> Mapping[Event, frozenset[Event]]:
        """Causal ancestors of every observed in, out and collision event.

        The direct causes of an event are, for each object that takes part, that object's previous event.
        """
        latest: dict[int, frozenset[Event]] = {}
        found: dict[Event, frozenset[Event]] = {}
        for event in self.observed:
            causes = frozenset[Event]().union(*(latest.get(i, frozenset()) for i in event.objects))
            if event.objects:
                found[event] = causes
            for i in event.objects:
                latest[i] = causes | {event}
        return found

    def sample(self, frame: int) -> int:
        """Row of the observed sample nearest to a frame, the earlier one of two."""
        row = self._rows.get(frame)
        return int(np.abs(self.frames - frame).argmin()) if row is None else row

    @cached_property
    def _rows(self) -> dict[int, int]:
        return {frame: row for row, frame in enumerate(self.frames.tolist())}


def sort_events(events: Iterable[Event]) -> tuple[Event, ...]:
    """Events by frame; of one frame first those that come in, last those that leave."""
    return tuple(sorted(events, key=lambda e: (-1 if e.frame is None else e.frame, _KIND_ORDER[e.kind], e.objects)))


def crossings(frames: NDArray[np.int64], visible: NDArray[np.bool_]) -> list[Event]:
    """In and out events of samples (K,), (K, n): each at the later of the two samples between which visibility changes."""
    events = []
    for row, i in np.argwhere(visible[1:] != visible[:-1]):
        kind: EventKind = "in" if visible[row + 1, i] else "out"
        events.append(Event(kind, int(frames[row + 1]), (int(i),)))
    return events


def sample_speeds(
    frames: NDArray[np.int64], positions: NDArray[np.float32], visible: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Speed at each sample in units per frame, (K,), (K, n, 2), (K, n) -> (K, n).

    The way since the previous sample; for the first sample at which an object is seen, the way to the next one. An object
    that is seen at a single sample between two absences crosses the view's edge twice: it moves (inf).
    """
    gaps = np.diff(frames).astype(np.float32)[:, None]
    way = np.linalg.norm(np.diff(positions, axis=0), axis=-1) / gaps
    both = visible[1:] & visible[:-1]
    pad = np.full((1, visible.shape[1]), np.nan, dtype=np.float32)
    way = np.where(both, way, np.nan).astype(np.float32)
    before, after = np.concatenate([pad, way]), np.concatenate([way, pad])
    speeds = np.where(np.isnan(before), after, before)
    return np.where(visible, np.where(np.isnan(speeds), np.inf, speeds), 0.0).astype(np.float32)


def pairs_of(objects: Sequence[int]) -> list[tuple[int, int]]:
    """All unordered pairs, the earlier object first."""
    return [(a, b) for k, a in enumerate(objects) for b in objects[k + 1 :]]
