"""Thresholds of the event rules, fitted on training videos whose collisions are known.

Shape letters: V videos, T samples, N slots, P pairs of slots, E encounters (a pair that comes near in one video).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ocwm.errors import BenchError
from ocwm_tasks.clevrer.symbolic.events import (
    Collisions,
    PairSignals,
    happens,
    nearest,
    pair_signals,
    parts,
    spread,
)
from ocwm_tasks.clevrer.symbolic.rules import CollisionRules, EventRules, RuleLadder
from ocwm_tasks.clevrer.symbolic.tracks import NUM_PAIR_CLASSES, Bools, Float32, Ints, Tracks

# Lengths are counted in the usual distance of the centres at a contact, so that any coordinates will do.
# Noise of the positions, and the samples over which velocities are measured at that noise.
OBSERVED_LEVELS = ((0.0, 1), (0.005, 2), (0.017, 4), (0.05, 6))
# Even windows: the frames of a rollout at stride 2 come from two rollouts that alternate.
IMAGINED_LEVELS = ((0.0, 2), (0.005, 4), (0.017, 4), (0.05, 6))
# How predictions are worse than observations apart from noise: standard deviations of a Gaussian over time in frames,
# and of a constant offset of every object.
BLUR_FRAMES = 2.0
DRIFT = 0.1
IMPULSES = np.geomspace(0.0048, 0.11, 10)  # per frame
_COOLDOWN_FRAMES = 8
_MATCH_FRAMES = 6  # between a found and a true collision
_STEPS = 10  # values tried for each of the two distances
_ROUNDS = 2  # of improving one threshold after the other
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
    several times, with Gaussian noise added to the training tracks; those for predictions on tracks that are moreover
    blurred and shifted, together with tracks that are not. Of what is predicted only the first contact of a pair
    counts: whether those that have met knock against each other once more is nothing that a rollout could tell.

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

    def fit_ladder(
        versions: Sequence[Tracks],
        levels: Sequence[tuple[float, int]],
        *,
        widest: float,
        first_only: bool,
    ) -> RuleLadder:
        rules = []
        for level, window in levels:
            noisy = [_shaken(version, rng, noise=level * length) for version in versions]
            rules.append(_fit_level(noisy, truth, usual, window, length=length, widest=widest, first_only=first_only))
        return RuleLadder(tuple(level * length for level, _ in levels), tuple(rules))

    blurred = _blurred(_shaken(tracks, rng, offset=DRIFT * length), BLUR_FRAMES / tracks.spacing)
    return EventRules(
        observed=fit_ladder([tracks], OBSERVED_LEVELS, widest=1.12, first_only=False),
        imagined=fit_ladder([tracks, blurred], IMAGINED_LEVELS, widest=1.25, first_only=True),
        touch=tuple(high for _, high in usual),
    )


def _shaken(tracks: Tracks, rng: np.random.Generator, *, noise: float = 0.0, offset: float = 0.0) -> Tracks:
    """Tracks with Gaussian noise on every position, and a constant offset of every slot."""
    shape = tracks.positions.shape
    shift = np.float32(noise) * rng.standard_normal(shape, dtype=np.float32)
    shift += np.float32(offset) * rng.standard_normal((shape[0], 1, *shape[2:]), dtype=np.float32)
    return replace(tracks, positions=np.where(tracks.visible[..., None], tracks.positions + shift, np.float32(0)))


def _blurred(tracks: Tracks, deviation: float) -> Tracks:
    """Tracks smoothed over time by a Gaussian (samples), each run of visible samples by itself as far as it goes."""
    seen = tracks.visible[..., None].astype(np.float32)
    weight = gaussian_filter1d(seen, deviation, axis=1)
    smooth = gaussian_filter1d(tracks.positions, deviation, axis=1) / np.maximum(weight, 1e-6)
    return replace(tracks, positions=np.where(tracks.visible[..., None], smooth, np.float32(0)))


def _fit_level(
    versions: Sequence[Tracks],
    truth: Collisions,
    usual: Sequence[tuple[float, float]],
    window: int,
    *,
    length: float,
    widest: float,
    first_only: bool,
) -> CollisionRules:
    """The rules with the highest F1 over all versions of the tracks together.

    Args:
        versions: of the tracks of V videos.
        truth: their collisions.
        usual: low and high distance at contacts of each shape pair.
        window: samples over which velocities are measured.
        length: usual distance at contacts.
        widest: largest reach to be tried, in high distances.
        first_only: what happens after the first contact of a pair counts neither way.
    """
    cooldown = max(1, _COOLDOWN_FRAMES // versions[0].spacing)
    impulses = [float(x) for x in IMPULSES * length]
    cases = [_encounters(version, truth, usual, window) for version in versions]
    if first_only:
        cases = [_until_contact(case) for case in cases]
    chosen = [
        _fit_kind(
            [_of_kind(case, kind) for case in cases], low, high, widest * high, impulses=impulses, cooldown=cooldown
        )
        for kind, (low, high) in enumerate(usual)
    ]
    reach, impulse, overlap = zip(*chosen, strict=True)
    return CollisionRules(reach, impulse, overlap, window=window, cooldown=cooldown)


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


def _until_contact(case: Encounters) -> Encounters:
    """Only the first true collision of each encounter, and no false alarms after it."""
    before = np.cumsum(case.truth, axis=1)
    first = case.truth & (before == 1)
    return replace(case, truth=first, near_truth=np.maximum.accumulate(spread(first, case.tolerance), axis=1))


def _fit_kind(
    cases: Sequence[Encounters], low: float, high: float, widest: float, *, impulses: Sequence[float], cooldown: int
) -> tuple[float, float, float]:
    """(reach, impulse, overlap) of one shape pair, improved one after the other.

    Of equally good distances the widest is taken, because predictions blur contacts, and of impulses the middle one.
    """
    grids: dict[str, Sequence[float]] = {
        "impulse": impulses,
        "reach": [float(x) for x in np.linspace(0.97 * low, widest, _STEPS)],
        "overlap": [float(x) for x in np.linspace(0.8 * low, 1.02 * high, _STEPS)],
    }
    values = {"reach": 1.05 * high, "impulse": impulses[len(impulses) // 2], "overlap": 0.9 * low}
    for _ in range(_ROUNDS):
        for name, grid in grids.items():
            tried = [{**values, name: value} for value in grid]
            scores = [_f1(_count(cases, v["reach"], v["impulse"], v["overlap"], cooldown=cooldown)) for v in tried]
            good = [value for value, f1 in zip(grid, scores, strict=True) if f1 >= max(scores)]
            values[name] = good[len(good) // 2] if name == "impulse" else good[-1]
    return values["reach"], values["impulse"], values["overlap"]


def _count(cases: Sequence[Encounters], reach: float, impulse: float, overlap: float, *, cooldown: int) -> Ints:
    """Hits, false alarms and misses."""
    counts = np.zeros(3, dtype=np.int64)
    for case in cases:
        found = happens(case.signals, reach, impulse, overlap, cooldown=cooldown)
        hits = (case.truth & spread(found, case.tolerance)).sum()
        counts += [hits, (found & ~case.near_truth).sum(), case.truth.sum() - hits]
    return counts


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
