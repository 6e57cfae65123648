"""Thresholds of the event rules, fitted on training videos whose collisions are known.

Shape letters: V videos, T samples, N slots, P pairs of slots, E encounters (a pair that comes near in one video).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ocwm.errors import BenchError
from ocwm_tasks.clevrer.symbolic.events import (
    CollisionRules,
    Collisions,
    EventRules,
    PairSignals,
    happens,
    nearest,
    pair_signals,
    parts,
    spread,
)
from ocwm_tasks.clevrer.symbolic.tracks import NUM_PAIR_CLASSES, Bools, Float32, Ints, Tracks

# Lengths are counted in the usual distance of the centres at a contact, so that any coordinates will do.
# Noise, and the samples over which velocities may be measured at that noise.
LEVELS = ((0.0, (1, 2)), (0.005, (2, 4)), (0.017, (4, 6)), (0.05, (6,)))
IMPULSES = np.geomspace(0.0048, 0.11, 10)  # per frame
_COOLDOWN_FRAMES = 8
_MATCH_FRAMES = 6  # between a found and a true collision
_STEPS = 12  # values tried for each of the two distances
_ROUNDS = 2  # of improving one threshold after the other
_SLACK = 0.002  # thresholds whose F1 is this near to the best count as equally good
_FEW = 5  # a shape pair with fewer true collisions is judged like the rest


@dataclass(frozen=True)
class Encounters:
    """Signals of E encounters as videos of one pair each, and when they truly collide.

    Attributes:
        signals: with V = E and P = 1.
        truth: (E, T, 1) bool.
        near_truth: (E, T, 1) bool, at most `tolerance` samples from a true collision.
        tolerance: samples.
    """

    signals: PairSignals
    truth: Bools
    near_truth: Bools
    tolerance: int


def fit_rules(tracks: Tracks, truth: Collisions, *, seed: int = 0, max_videos: int = 256) -> EventRules:
    """Choose the rules that find the true collisions with the highest F1, for each level of noise on the positions.

    Predicted positions are less exact than observed ones, and how much so depends on the model. So the rules are fitted
    several times, with Gaussian noise added to the training tracks.

    Args:
        tracks: V training videos.
        truth: their collisions, in slots; those of which not both objects can be seen are left out.
        seed: of the noise.
        max_videos: the first so many videos are used.

    Raises:
        BenchError: no collision among them.
    """
    tracks = tracks[slice(max_videos)]
    truth = Collisions.of_rows(truth.rows()[truth.video < max_videos])
    rng = np.random.default_rng(seed)
    usual = _usual_distances(pair_signals(tracks, window=1), tracks.frames, truth)
    length = float(np.median(usual))
    rules = []
    for level, windows in LEVELS:
        noise = np.float32(level * length) * rng.standard_normal(tracks.positions.shape, dtype=np.float32)
        noisy = replace(tracks, positions=np.where(tracks.visible[..., None], tracks.positions + noise, np.float32(0)))
        rules.append(_fit_level(noisy, truth, usual, windows, length=length))
    return EventRules(tuple(level * length for level, _ in LEVELS), tuple(rules), tuple(high for _, high in usual))


def _fit_level(
    tracks: Tracks,
    truth: Collisions,
    usual: Sequence[tuple[float, float]],
    windows: Sequence[int],
    *,
    length: float,
) -> CollisionRules:
    cooldown = max(1, _COOLDOWN_FRAMES // tracks.spacing)
    impulses = [float(x) for x in IMPULSES * length]
    best, best_f1 = None, -1.0
    for window in windows:
        case = _encounters(tracks, truth, usual, window)
        chosen, counts = [], np.zeros(3, dtype=np.int64)
        for kind in range(NUM_PAIR_CLASSES):
            mine = _of_kind(case, kind)
            chosen.append(_fit_kind(mine, *usual[kind], impulses=impulses, cooldown=cooldown))
            counts += _count(mine, *chosen[-1], cooldown=cooldown)
        if _f1(counts) > best_f1 + _SLACK:
            reach, impulse, overlap = zip(*chosen, strict=True)
            best, best_f1 = CollisionRules(reach, impulse, overlap, window=window, cooldown=cooldown), _f1(counts)
    assert best is not None
    return best


def _usual_distances(signals: PairSignals, frames: Ints, truth: Collisions) -> list[tuple[float, float]]:
    """Near the smallest and near the greatest distance of the centres at true collisions, for each shape pair."""
    pair = _pair_numbers(signals)[truth.first, truth.second]
    sample = np.minimum(np.searchsorted(frames, truth.frame), len(frames) - 1)
    contact = nearest(signals.distance)[truth.video, sample, pair]
    kind = signals.kind[truth.video, pair]
    seen = np.isfinite(contact)
    if not seen.any():
        raise BenchError("the training videos show no collision to fit the event rules on", "Use more training videos.")
    groups = [contact[seen & (kind == k)] for k in range(NUM_PAIR_CLASSES)]
    ranges = [np.percentile(group if len(group) >= _FEW else contact[seen], [2, 98]) for group in groups]
    return [(float(low), float(high)) for low, high in ranges]


def _pair_numbers(signals: PairSignals) -> Ints:
    """(N, N) number of the pair of two slots."""
    slots = int(signals.second.max()) + 1
    numbers = np.zeros((slots, slots), dtype=np.int64)
    numbers[signals.first, signals.second] = np.arange(len(signals.first))
    return numbers


def _encounters(tracks: Tracks, truth: Collisions, usual: Sequence[tuple[float, float]], window: int) -> Encounters:
    """All pairs that come within a generous distance of each other."""
    limits = np.array([*(1.3 * high for _, high in usual), -np.inf], dtype=np.float32)
    kinds, distances, pushes, truths = [], [], [], []
    for part in parts(len(tracks.shape)):
        signals = pair_signals(tracks[part], window=window)
        collides = np.zeros(signals.distance.shape, dtype=np.bool_)
        mine = (truth.video >= part.start) & (truth.video < part.stop)
        sample = np.minimum(np.searchsorted(tracks.frames, truth.frame[mine]), len(tracks.frames) - 1)
        pair = _pair_numbers(signals)[truth.first[mine], truth.second[mine]]
        collides[truth.video[mine] - part.start, sample, pair] = True
        collides &= np.isfinite(signals.distance)
        video, pair = np.nonzero(signals.distance.min(axis=1) < limits[signals.kind])
        kinds.append(signals.kind[video, pair])
        distances.append(signals.distance[video, :, pair])
        pushes.append(signals.push[video, :, pair])
        truths.append(collides[video, :, pair])
    one = np.zeros(1, dtype=np.int64)
    distance, push = np.concatenate(distances)[..., None], np.concatenate(pushes)[..., None]
    signals = PairSignals(one, one, np.concatenate(kinds)[:, None], distance, push)
    collided = np.concatenate(truths)[..., None]
    tolerance = max(1, _MATCH_FRAMES // tracks.spacing)
    return Encounters(signals, collided, spread(collided, tolerance), tolerance)


def _of_kind(case: Encounters, kind: int) -> Encounters:
    signals, rows = case.signals, case.signals.kind[:, 0] == kind
    kept = replace(signals, kind=signals.kind[rows], distance=signals.distance[rows], push=signals.push[rows])
    return Encounters(kept, case.truth[rows], case.near_truth[rows], case.tolerance)


def _fit_kind(
    case: Encounters, low: float, high: float, *, impulses: Sequence[float], cooldown: int
) -> tuple[float, float, float]:
    """(reach, impulse, overlap) of one shape pair, improved one after the other.

    Of equally good distances the widest is taken, because predictions blur contacts, and of impulses the middle one.
    """
    grids: dict[str, Sequence[float]] = {
        "impulse": impulses,
        "reach": [float(x) for x in np.linspace(0.97 * low, 1.25 * high, _STEPS)],
        "overlap": [float(x) for x in np.linspace(0.8 * low, 1.02 * high, _STEPS)],
    }
    values = {"reach": 1.05 * high, "impulse": impulses[len(impulses) // 2], "overlap": 0.9 * low}
    for _ in range(_ROUNDS):
        for name, grid in grids.items():
            tried = [{**values, name: value} for value in grid]
            scores = [_f1(_count(case, v["reach"], v["impulse"], v["overlap"], cooldown=cooldown)) for v in tried]
            good = [value for value, f1 in zip(grid, scores, strict=True) if f1 >= max(scores) - _SLACK]
            values[name] = good[len(good) // 2] if name == "impulse" else good[-1]
    return values["reach"], values["impulse"], values["overlap"]


def _count(case: Encounters, reach: float, impulse: float, overlap: float, *, cooldown: int) -> Ints:
    """Hits, false alarms and misses."""
    found = happens(case.signals, reach, impulse, overlap, cooldown=cooldown)
    hits = (case.truth & spread(found, case.tolerance)).sum()
    return np.array([hits, (found & ~case.near_truth).sum(), case.truth.sum() - hits], dtype=np.int64)


def _f1(counts: Ints) -> float:
    """F1 of (hits, false alarms, misses); 1 where there is nothing to find and nothing was found."""
    hits, false_alarms, misses = (int(c) for c in counts)
    return 2 * hits / (2 * hits + false_alarms + misses) if hits + false_alarms + misses else 1.0


def fit_moving(speeds: Float32, moving: Bools) -> float:
    """The speed above which an object moves: the middle of the thresholds that agree best with the truth.

    Args:
        speeds: (M,) units per frame.
        moving: (M,) whether these objects truly move at these samples.
    """
    order = np.argsort(speeds, kind="stable")
    speeds, moving = speeds[order], moving[order]
    # Cut k: the first k count as stationary.
    errors = np.concatenate([[0], np.cumsum(moving)]) + np.concatenate([np.cumsum(~moving[::-1])[::-1], [0]])
    best = np.flatnonzero(errors == errors.min())
    cut = int(best[len(best) // 2])
    below = float(speeds[cut - 1]) if cut else 0.0
    above = float(speeds[cut]) if cut < len(speeds) else below
    return (below + above) / 2
