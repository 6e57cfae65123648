"""Objects through time: which slots show one, when it is in view, where it is, how it moves.

Velocities are units per video frame, whatever the distance of the samples.

Shape letters: V videos, T samples, N slots.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d, minimum_filter1d

from ocwm_tasks.clevrer.scene import SHAPES
from ocwm_tasks.clevrer.symbolic.probe import SEEN, SlotStates

Float32 = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Tracks:
    """What the event rules read.

    Attributes:
        frames: (T,) int64 video frames of the samples, ascending and evenly spaced.
        positions: (V, T, N, 2) float32, zero where not visible.
        visible: (V, T, N) bool, without gaps and glimpses that are too short to be true.
        imagined: (V, T, N) bool: the sample was predicted, not observed. From its first predicted sample on all of a
            slot's samples are. The step between an observed and a predicted sample is no motion.
        shape: (V, N) int64 index into `SHAPES`; -1 for a slot that holds no object.
    """

    frames: Ints
    positions: Float32
    visible: Bools
    imagined: Bools
    shape: Ints

    @property
    def spacing(self) -> int:
        """Video frames between two samples."""
        return int(self.frames[1] - self.frames[0])

    @property
    def objects(self) -> Bools:
        """(V, N) bool, the slots that hold an object."""
        return self.shape >= 0

    def __getitem__(self, videos: slice) -> Tracks:
        return Tracks(
            self.frames, self.positions[videos], self.visible[videos], self.imagined[videos], self.shape[videos]
        )


def tracks_of(
    states: SlotStates,
    frames: Ints,
    *,
    imagined: Bools,
    shortest: int = 2,
) -> Tracks:
    """Clean the states of slots into tracks.

    Args:
        states: as read by the probe, V videos of T samples.
        frames: (T,) video frames of the samples.
        imagined: (V, T, N) bool, see `Tracks`.
        shortest: a slot that is visible in fewer observed samples holds no object; 0 trusts `states.shape`.
    """
    # A gap or a glimpse of two frames is a slip of the reading; of samples further apart nobody can tell.
    debounce = 1 if frames[1] - frames[0] == 1 else 0
    shown = states.visible > SEEN
    # What is imagined must not change what was observed.
    last = np.take_along_axis(shown, np.maximum(imagined.argmax(axis=1, keepdims=True) - 1, 0), axis=1)
    observed = steady(np.where(imagined, last, shown), debounce)
    visible = np.where(imagined, steady(shown, debounce), observed)
    held = ((visible & ~imagined).sum(axis=1) >= shortest) & (states.shape >= 0)
    visible = visible & held[:, None]
    shape = np.where(held, states.shape, -1)
    positions = np.where(visible[..., None], states.positions, np.float32(0))
    return Tracks(frames, positions, visible, imagined, shape)


def steady(visible: Bools, debounce: int) -> Bools:
    """Fill gaps, then drop glimpses, of up to `2 * debounce` samples along axis 1; the ends are taken to go on."""
    if debounce == 0:
        return visible
    size, border = 2 * debounce + 1, 2 * debounce
    shown = np.pad(visible.astype(np.uint8), ((0, 0), (border, border), (0, 0)), mode="edge")
    filled = minimum_filter1d(maximum_filter1d(shown, size, axis=1), size, axis=1)
    kept = maximum_filter1d(minimum_filter1d(filled, size, axis=1), size, axis=1)
    return np.asarray(kept[:, border:-border] > 0)


def velocities(tracks: Tracks, window: int) -> tuple[Float32, Float32]:
    """Velocity before and after each sample, each (V, T, N, 2) in units per frame; nan where there is no motion to see.

    Before sample t: the mean step of the `window` steps that end at t - 1. After: of those that start at t. The step
    into t itself is left out, because in it the two may mix. Steps from or to a sample without the object don't count,
    and in place of a step between observation and imagination stands the one beyond it.
    """
    steps, counted = _steps(tracks)
    samples = np.arange(len(tracks.frames))
    before = _mean_steps(_bridged(steps, counted, -1), samples - 1 - window, samples - 1)
    after = _mean_steps(_bridged(steps, counted, 1), samples, samples + window)
    spacing = np.float32(tracks.spacing)
    return before / spacing, after / spacing


def _bridged(steps: Float32, counted: Bools, way: int) -> tuple[Float32, Bools]:
    """Steps with those that don't count replaced by the neighbour `way` steps on, where that one counts."""
    beyond, beyond_counted = np.roll(steps, -way, axis=1), np.roll(counted, -way, axis=1)
    edge = 0 if way < 0 else -1
    beyond_counted[:, edge] = False
    return np.where(counted[..., None], steps, beyond), counted | beyond_counted


def _mean_steps(steps_counted: tuple[Float32, Bools], low: Ints, high: Ints) -> Float32:
    """Mean of the steps low .. high - 1 that count, for each sample; nan where none does."""
    steps, counted = steps_counted
    # Running sums: entry t holds the steps before step t.
    sums = np.zeros((steps.shape[0], steps.shape[1] + 1, *steps.shape[2:]))
    np.cumsum(np.where(counted[..., None], steps, 0.0), axis=1, out=sums[:, 1:])
    counts = np.zeros(sums.shape[:3])
    np.cumsum(counted, axis=1, out=counts[:, 1:])
    low, high = np.clip(low, 0, steps.shape[1]), np.clip(high, 0, steps.shape[1])
    total, number = sums[:, high] - sums[:, low], (counts[:, high] - counts[:, low])[..., None]
    mean = np.full(total.shape, np.nan)
    np.divide(total, number, out=mean, where=number > 0)
    return mean.astype(np.float32)


def jitter(tracks: Tracks, cells: Bools) -> float:
    """Standard deviation in units of the noise on the positions of the given cells (V, T, N), from second differences.

    Collisions are rare and braking is slow, so what is left of most second differences is noise.
    """
    steps, counted = _steps(tracks)
    counted = counted[:, 1:] & counted[:, :-1] & cells[:, 1:-1]
    bends = np.abs(np.diff(steps, axis=1)[counted])
    if not bends.size:
        return 0.0
    # Of a Gaussian 80 % lie within 1.2816 deviations; a second difference has sqrt(6) times the deviation of its terms.
    return float(np.percentile(bends, 80) / 1.2816 / 6**0.5)


def _steps(tracks: Tracks) -> tuple[Float32, Bools]:
    """Way from each sample to the next (V, T - 1, N, 2), and whether it is motion (V, T - 1, N)."""
    counted = tracks.visible[:, 1:] & tracks.visible[:, :-1] & (tracks.imagined[:, 1:] == tracks.imagined[:, :-1])
    return np.diff(tracks.positions, axis=1), counted


def pair_classes(shape: Ints, first: Ints, second: Ints) -> Ints:
    """Number of the shape pair, 0 .. `NUM_PAIR_CLASSES` - 1, of the slots `first` and `second`; -1 where one is empty.

    Args:
        shape: (V, N) as in `Tracks`.
        first, second: (P,) slots.

    Returns:
        (V, P).
    """
    low = np.minimum(shape[:, first], shape[:, second])
    high = np.maximum(shape[:, first], shape[:, second])
    return np.where(low < 0, -1, high * (high + 1) // 2 + low)


NUM_PAIR_CLASSES = len(SHAPES) * (len(SHAPES) + 1) // 2
