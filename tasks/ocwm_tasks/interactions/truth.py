"""Who influences whom: every video simulated again, with one object taken out at one moment.

The world before the moment is the same, so what differs after it is what the object does to the others.

Shape letters: V videos, C cuts, n objects (of the video with most), K frames after a cut.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ocwm.errors import BenchError
from ocwm_tasks.clevrer.generator.config import GeneratorConfig
from ocwm_tasks.clevrer.generator.make import draw_again
from ocwm_tasks.clevrer.generator.simulation import Simulation, trace
from ocwm_tasks.clevrer.scene import ROLLOUT_FRAMES, Scene
from ocwm_tasks.workers import worker_pool

VERSION = 1  # of the truth
HORIZON = 32  # frames after a cut
SEEN_FOR = 16  # frames before a cut in which both objects of a pair must be in view: the longest history of a method

Float32 = NDArray[np.float32]
_SAME = 1e-4  # world units


@dataclass(frozen=True, eq=False)
class Truth:
    """What follows each cut, with all objects and without each of them.

    Attributes:
        index: (V,) numbers of the videos.
        cuts: (C,) first frame without the removed object.
        with_all: (V, C, K, n, 2) world units; NaN where an object is not there or out of view.
        without: (V, C, n, K, n, 2), the third axis says who was removed; NaN also for that one.
        known: (V, C, n) bool, the object was in view all the time before the cut.
        since_collision: (V, C, n) frames since the object's last collision before the cut, -1 for none.
    """

    index: NDArray[np.int64]
    cuts: NDArray[np.int64]
    with_all: Float32
    without: Float32
    known: NDArray[np.bool_]
    since_collision: NDArray[np.int64]

    @property
    def moved(self) -> Float32:
        """(V, C, n, n) how far [removed, other] the removal moves the other at most, NaN where that is not known."""
        distance = np.linalg.norm(self.without - self.with_all[:, :, None], axis=-1)  # (V, C, n, K, n)
        there = np.isfinite(distance)
        most = np.where(there, distance, -1.0).max(axis=3)
        pairs = self.known[:, :, :, None] & self.known[:, :, None] & ~np.eye(self.known.shape[-1], dtype=np.bool_)
        return np.where(pairs & (most >= 0), most, np.nan).astype(np.float32)

    def save(self, path: Path) -> None:
        """Write to an .npz file. Errors: OSError."""
        np.savez(path, **vars(self))

    @classmethod
    def load(cls, path: Path) -> Truth:
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            return cls(**{name: arrays[name] for name in arrays.files})


def simulate_truth(
    scenes: Sequence[Scene],
    config: GeneratorConfig,
    *,
    seed: int,
    split: str,
    cuts: Sequence[int],
    workers: int,
    advance: Callable[[int], object],
) -> Truth:
    """Simulate some videos of the embedded data again, each once for every object and cut.

    Args:
        scenes: the videos, with positions up to frame 159.
        config, seed, split: what the data was made from.
        cuts: frames at which objects are removed, each at least SEEN_FOR and at most 160 - HORIZON.
        workers: processes.
        advance: is told of every video.

    Raises:
        BenchError: a video comes out otherwise than in the data.
    """
    one = functools.partial(_of_video, config=config, seed=seed, split=split, cuts=tuple(cuts))
    parts = []
    with worker_pool(min(workers, len(scenes))) as run:
        for part in run(one, list(scenes)):
            parts.append(part)
            advance(1)
    most = max(part[2].shape[1] for part in parts)
    with_all, without, known, since = (
        np.stack([_padded(part[place], most, axes) for part in parts])
        for place, axes in enumerate(((2,), (1, 3), (1,), (1,)))
    )
    return Truth(np.array([scene.index for scene in scenes]), np.array(cuts), with_all, without, known, since)


Part = tuple[Float32, Float32, NDArray[np.bool_], NDArray[np.int64]]


def _of_video(scene: Scene, *, config: GeneratorConfig, seed: int, split: str, cuts: Sequence[int]) -> Part:
    setup = draw_again(config, seed=seed, split=split, index=scene.index).setup
    whole = _seen(trace(setup, frames=ROLLOUT_FRAMES).simulation())
    there = scene.visible & np.isfinite(scene.positions).all(-1)
    if not np.array_equal(np.isfinite(whole[..., 0]), there) or np.abs(whole - scene.positions)[there].max() > _SAME:
        raise BenchError(
            f"video {scene.index} is simulated otherwise than it was", "Make the data on this machine: --rebuild."
        )
    count = len(setup.objects)
    with_all = np.stack([whole[cut : cut + HORIZON] for cut in cuts])
    without = np.full((len(cuts), count, HORIZON, count, 2), np.nan, dtype=np.float32)
    for place, cut in enumerate(cuts):
        for removed in range(count):
            run = trace(setup, removed=removed, since=cut, frames=cut + HORIZON).simulation()
            without[place, removed] = _seen(run)[cut:]
            without[place, removed, :, removed] = np.nan
    known = np.stack([there[cut - SEEN_FOR : cut].all(axis=0) for cut in cuts])
    since = np.full((len(cuts), count), -1)
    for place, cut in enumerate(cuts):
        for collision in scene.collisions:  # by frame, so that the last one counts
            if collision.frame < cut:
                since[place, [collision.a, collision.b]] = cut - 1 - collision.frame
    return with_all, without, known, since


def _seen(run: Simulation) -> Float32:
    """Positions (F, n, 2) while in view, else NaN."""
    return np.where(run.visible[..., None], run.positions, np.nan).astype(np.float32)


def _padded(array: NDArray[np.generic], most: int, axes: Sequence[int]) -> NDArray[np.generic]:
    """The axes of objects filled up to `most`: with NaN, False or -1."""
    fill = {"f": np.nan, "b": False, "i": -1}[array.dtype.kind]
    widths = [(0, most - size if axis in axes else 0) for axis, size in enumerate(array.shape)]
    return np.pad(array, widths, constant_values=fill)
