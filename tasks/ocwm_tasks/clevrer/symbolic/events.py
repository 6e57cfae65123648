"""Collisions read from tracks, by a few thresholds on distance and on change of velocity.

Shape letters: V videos, T samples, N slots, P pairs of slots.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import maximum_filter1d

from ocwm_tasks.clevrer.symbolic.rules import CollisionRules, EventRules
from ocwm_tasks.clevrer.symbolic.tracks import Bools, Float32, Ints, Tracks, jitter, pair_classes, velocities

_VIDEOS_AT_ONCE = 64

# The change of the relative velocity counts as a push only as far as both objects take part (the heaviest object that
# meets the lightest takes a quarter of the change) and as far as they were closing in (a collision changes the relative
# velocity by 1 + restitution times the closing speed).
_APPROACH_FRAMES = 8
_PUSH_PER_CHANGE = 10.0
_PUSH_PER_CLOSING = 4.0


@dataclass(frozen=True)
class Collisions:
    """Collisions of many videos, sorted by video and frame.

    Attributes:
        video: (M,) int64 row of the video.
        frame: (M,) int64 video frame.
        first, second: (M,) int64 slots, first < second.
    """

    video: Ints
    frame: Ints
    first: Ints
    second: Ints

    def __len__(self) -> int:
        return len(self.video)

    @classmethod
    def of_rows(cls, rows: Ints) -> Collisions:
        """From rows [video, frame, slot, slot] in any order, (M, 4)."""
        video, frame, one, other = rows.reshape(-1, 4).T
        first, second = np.minimum(one, other), np.maximum(one, other)
        order = np.lexsort((second, first, frame, video))
        return cls(video[order], frame[order], first[order], second[order])

    def rows(self) -> Ints:
        """Rows [video, frame, first, second], (M, 4)."""
        return np.stack([self.video, self.frame, self.first, self.second], axis=1)

    def within(self, low: int, high: int) -> Collisions:
        """Those of frames low <= frame < high."""
        return Collisions.of_rows(self.rows()[(self.frame >= low) & (self.frame < high)])

    def of(self, video: int) -> list[tuple[int, int, int]]:
        """(frame, first, second) of one video, by frame."""
        low, high = np.searchsorted(self.video, [video, video + 1])
        rows = zip(self.frame[low:high], self.first[low:high], self.second[low:high], strict=True)
        return [(int(frame), int(a), int(b)) for frame, a, b in rows]


@dataclass(frozen=True)
class PairSignals:
    """What the rules look at, for every pair of slots.

    Attributes:
        first, second: (P,) slots.
        kind: (V, P) shape pair, -1 where a slot holds no object.
        distance: (V, T, P) between the centres; inf where not both are visible.
        push: (V, T, P) units per frame by which the velocities change away from each other, limited by the part that
            each takes and by the speed at which they were closing in; -inf where unknown.
    """

    first: Ints
    second: Ints
    kind: Ints
    distance: Float32
    push: Float32


def pair_signals(tracks: Tracks, *, window: int) -> PairSignals:
    """Distances and pushes of every pair of slots."""
    first, second = np.triu_indices(tracks.positions.shape[2], 1)
    both = tracks.visible[:, :, first] & tracks.visible[:, :, second]
    offset = tracks.positions[:, :, first] - tracks.positions[:, :, second]
    distance = np.linalg.norm(offset, axis=-1)
    away = offset / np.maximum(distance, 1e-6)[..., None]
    before, after = velocities(tracks, window)
    change = after - before
    own = (change[:, :, first] * away).sum(axis=-1)
    others = -(change[:, :, second] * away).sum(axis=-1)
    approach, _ = velocities(tracks, max(window, _APPROACH_FRAMES // tracks.spacing))
    closing = ((approach[:, :, second] - approach[:, :, first]) * away).sum(axis=-1)
    push = np.minimum(own + others, np.minimum(_PUSH_PER_CHANGE * np.minimum(own, others), _PUSH_PER_CLOSING * closing))
    # Braking pushes too, but it did so a moment ago already.
    ago = window + 2
    push[:, ago:] -= np.nan_to_num(push[:, :-ago]).clip(min=0.0)
    return PairSignals(
        first,
        second,
        pair_classes(tracks.shape, first, second),
        np.where(both, distance, np.inf).astype(np.float32),
        np.where(both & ~np.isnan(push), push, -np.inf).astype(np.float32),
    )


def nearest(distance: Float32) -> Float32:
    """The smaller distance of each sample and the one before it: the contact lies between the two."""
    earlier = np.concatenate([distance[:, :1], distance[:, :-1]], axis=1)
    return np.asarray(np.minimum(distance, earlier))


def peaks(push: Float32, allowed: Bools, cooldown: int) -> Bools:
    """Samples of the greatest push within `cooldown` samples on either side, among the allowed ones."""
    masked = np.where(allowed, push, -np.inf)
    highest = allowed & (masked >= maximum_filter1d(masked, 2 * cooldown + 1, axis=1, mode="constant", cval=-np.inf))
    return highest & ~recently(highest, cooldown)  # of equals the first


def entries(distance: Float32, overlap: Float32 | float, cooldown: int) -> Bools:
    """Samples at which a pair comes within `overlap` (V, 1, P), having been apart for `cooldown` samples."""
    close = distance < overlap
    # At the first sample that shows both, nothing says that they have only now come together.
    apart_before = np.zeros_like(close)
    apart_before[:, 1:] = np.isfinite(distance[:, :-1])
    return close & ~recently(close, cooldown) & apart_before


def recently(happens: Bools, cooldown: int) -> Bools:
    """Whether it happened in any of the `cooldown` samples before each sample, along axis 1."""
    recent = np.zeros_like(happens)
    for lag in range(1, min(cooldown, happens.shape[1] - 1) + 1):
        recent[:, lag:] |= happens[:, :-lag]
    return recent


def happens(
    signals: PairSignals,
    reach: Float32 | float,
    impulse: Float32 | float,
    overlap: Float32 | float,
    *,
    cooldown: int,
) -> Bools:
    """Samples (V, T, P) at which a collision is found; thresholds (V, 1, P) or plain numbers as in `CollisionRules`."""
    allowed = (nearest(signals.distance) < reach) & (signals.push > impulse)
    pushed = peaks(signals.push, allowed, cooldown)
    around = spread(pushed, cooldown)
    return pushed | (entries(signals.distance, overlap, cooldown) & ~around)


def spread(happens: Bools, samples: int) -> Bools:
    """Whether it happened at most `samples` samples before or after, along axis 1."""
    return maximum_filter1d(happens.view(np.uint8), 2 * samples + 1, axis=1, mode="constant") > 0


def find_collisions(tracks: Tracks, rules: EventRules) -> Collisions:
    """Collisions of all videos at all samples.

    Those between observed samples are found without a look at the imagined ones. Observed and imagined samples are
    judged each by the rules for the noise that is measured on them.
    """
    seen = replace(tracks, visible=tracks.visible & ~tracks.imagined)
    observed = _found(seen, rules.observed.at(jitter(seen, seen.visible)))
    if not tracks.imagined.any():
        return observed
    dreamt = rules.imagined.at(jitter(tracks, tracks.imagined))
    rows = _shown_by_imagination(tracks, _found(tracks, dreamt).rows())
    # A contact near the border of the two may be found on both sides.
    latest = {(int(v), int(a), int(b)): int(f) for v, f, a, b in observed.rows()}
    apart = dreamt.cooldown * tracks.spacing
    fresh = [int(f) - latest.get((int(v), int(a), int(b)), -apart) >= apart for v, f, a, b in rows]
    return Collisions.of_rows(np.concatenate([observed.rows(), rows[np.array(fresh, dtype=np.bool_)]]))


def _found(tracks: Tracks, rules: CollisionRules) -> Collisions:
    found = [np.zeros((0, 4), dtype=np.int64)]
    for part in parts(len(tracks.shape)):
        signals = pair_signals(tracks[part], window=rules.window)
        thresholds = (_by_pair(values, signals.kind) for values in (rules.reach, rules.impulse, rules.overlap))
        video, sample, pair = np.nonzero(happens(signals, *thresholds, cooldown=rules.cooldown))
        columns = [video + part.start, tracks.frames[sample], signals.first[pair], signals.second[pair]]
        found.append(np.stack(columns, axis=1))
    return Collisions.of_rows(np.concatenate(found))


def _shown_by_imagination(tracks: Tracks, rows: Ints) -> Ints:
    """Those of the rows [video, frame, first, second] that only imagined samples of one of the two can show.

    Whether the two touch in the last observed sample is seen in the next one, so it is dated there.
    """
    video, frame, first, second = rows.T
    sample = np.searchsorted(tracks.frames, frame)
    after = np.minimum(sample + 1, len(tracks.frames) - 1)
    now, soon = (tracks.imagined[video, k, first] | tracks.imagined[video, k, second] for k in (sample, after))
    dated = np.stack([video, np.where(now, frame, tracks.frames[after]), first, second], axis=1)
    return np.asarray(dated[soon])


def _by_pair(values: tuple[float, ...], kind: Ints) -> Float32:
    """Threshold of each pair (V, 1, P); -inf for no object, so that nothing is ever below it."""
    table = np.array([*values, -np.inf], dtype=np.float32)
    return table[kind][:, None]


def parts(videos: int) -> Iterator[slice]:
    """Videos in portions whose pair arrays fit into memory."""
    for low in range(0, videos, _VIDEOS_AT_ONCE):
        yield slice(low, min(low + _VIDEOS_AT_ONCE, videos))


@dataclass(frozen=True)
class MatchCounts:
    """Found collisions against true ones."""

    hits: int
    false_alarms: int
    misses: int

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; nan where there is nothing to find and nothing was found."""
        total = 2 * self.hits + self.false_alarms + self.misses
        return 2 * self.hits / total if total else float("nan")


def match(found: Collisions, truth: Collisions, *, tolerance: int = 8) -> MatchCounts:
    """Count the collisions of the same pair at most `tolerance` frames apart; each counts once, in order of frame."""
    waiting: dict[tuple[int, int, int], list[int]] = {}
    for video, frame, a, b in zip(truth.video, truth.frame, truth.first, truth.second, strict=True):
        waiting.setdefault((int(video), int(a), int(b)), []).append(int(frame))
    hits = 0
    for video, frame, a, b in zip(found.video, found.frame, found.first, found.second, strict=True):
        frames = waiting.get((int(video), int(a), int(b)), [])
        near = [k for k in frames if abs(k - int(frame)) <= tolerance]
        if near:
            frames.remove(min(near, key=lambda k: abs(k - int(frame))))
            hits += 1
    return MatchCounts(hits, len(found) - hits, len(truth) - hits)
