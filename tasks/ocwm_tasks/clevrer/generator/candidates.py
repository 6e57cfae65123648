"""Choice of the videos: setups are drawn until one gives a video that is worth asking about.

A candidate must be clean (nothing happens outside the view that could matter inside it), and shares of the videos must
have a first contact in the future and an object whose removal changes what happens. Simulations are cheap; questions
without an interesting answer are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ocwm.errors import BenchError
from ocwm_tasks.clevrer.generator.config import GeneratorConfig
from ocwm_tasks.clevrer.generator.geometry import OUTLINE_RADIUS
from ocwm_tasks.clevrer.generator.setup import sample_setup
from ocwm_tasks.clevrer.generator.simulation import Setup, Simulation, Trace, trace
from ocwm_tasks.clevrer.scene import OBSERVED_FRAMES, ROLLOUT_FRAMES

LAST_ENTRANCE = 90  # frame by which every object has been in full view
TYPICAL_COLLISIONS = (1, 4)  # in the observed frames of nine videos in ten
CLEAR_UNTIL, CLEAR_KICK = (
    155,
    0.15,
)  # a future contact that can be told: last frame, least change of velocity in units/s
LONGEST_SEARCH = 5000  # candidates

Pair = tuple[int, int]


@dataclass(frozen=True)
class Video:
    """One video of the data set: what happens, and what would happen without each of its objects.

    Attributes:
        setup: where it all starts from.
        simulation: 192 frames.
        removals: for every object the first 160 frames without it.
        candidates: how many setups were drawn to find it.
    """

    setup: Setup
    simulation: Simulation
    removals: Mapping[int, Simulation]
    candidates: int


def draw_video(rng: np.random.Generator, config: GeneratorConfig) -> Video:
    """Draw setups until one meets the demands that are drawn first.

    Errors: BenchError when thousands of candidates bring none (shares or object counts that cannot be met).
    """
    future = bool(rng.random() < config.future_share)
    flip = bool(rng.random() < config.flip_share)
    typical = bool(rng.random() < 0.9)
    for number in range(1, LONGEST_SEARCH + 1):
        setup = sample_setup(rng, config)
        run = trace(setup)
        if not (_clean(run) and _enters_early(run) and _future_contact(run) is future):
            continue
        observed = sum(collision.frame < OBSERVED_FRAMES for collision in run.collisions)
        if typical and not TYPICAL_COLLISIONS[0] <= observed <= TYPICAL_COLLISIONS[1]:
            continue
        removals = _removals(run)
        if removals is None or (flip and not any(_flips(run, removal) for removal in removals)):
            continue
        return Video(setup, run.simulation(), {i: r.simulation() for i, r in enumerate(removals)}, number)
    raise BenchError(
        f"no video found among {LONGEST_SEARCH} drawn setups with {config.min_objects} to {config.max_objects} objects",
        "Lower task.generator.future_share or task.generator.flip_share, or allow more objects.",
    )


def first_contacts(run: Trace | Simulation) -> dict[Pair, int]:
    """The frame of the first contact of every pair that touches at all."""
    frames: dict[Pair, int] = {}
    for collision in run.collisions:
        frames.setdefault((collision.a, collision.b), collision.frame)
    return frames


def _removals(run: Trace) -> list[Trace] | None:
    """What happens without each of the objects; None as soon as one is not clean."""
    removals = []
    for i in range(len(run.setup.objects)):
        removal = _without(run, i)
        if not _clean(removal):
            return None
        removals.append(removal)
    return removals


def _without(run: Trace, removed: int) -> Trace:
    """The same start without one object, to frame 160."""
    before = [collision for collision in run.collisions if collision.frame < ROLLOUT_FRAMES]
    if any(removed in (collision.a, collision.b) for collision in before):
        return trace(run.setup, removed=removed, frames=ROLLOUT_FRAMES)
    # It touched nothing: the others do what they did.
    states = run.states[:ROLLOUT_FRAMES].copy()
    states[:, removed] = np.nan
    return Trace(run.setup, states, tuple(before), removed)


def _clean(run: Trace) -> bool:
    """Whether all contacts are in view, and no object comes back into it."""
    seen = _seen(run)
    in_view = all(seen[c.frame, c.a] and seen[c.frame, c.b] for c in run.collisions)
    before = np.pad(seen, ((1, 0), (0, 0)))[:-1]
    return in_view and bool(((seen & ~before).sum(axis=0) <= 1).all())


def _enters_early(run: Trace) -> bool:
    """Whether every object is in full view at some frame, and soon enough."""
    radius = np.array([OUTLINE_RADIUS[thing.shape] for thing in run.setup.objects])
    return bool((np.nan_to_num(run.depth()[: LAST_ENTRANCE + 1], nan=-1.0) >= radius).any(axis=0).all())


def _future_contact(run: Trace) -> bool | None:
    """Whether some pair touches for the first time in the frames to be predicted; None when only late or softly."""
    firsts = [(pair, f) for pair, f in first_contacts(run).items() if OBSERVED_FRAMES <= f < ROLLOUT_FRAMES]
    clear = (frame <= CLEAR_UNTIL and _kick(run, pair, frame) >= CLEAR_KICK for pair, frame in firsts)
    return True if any(clear) else (None if firsts else False)


def _kick(run: Trace, pair: Pair, frame: int) -> float:
    """The greater change of velocity of the two from before to after a contact."""
    change = run.states[frame + 1, pair, 3:5] - run.states[frame - 1, pair, 3:5]
    return float(np.linalg.norm(change, axis=-1).max())


def _flips(run: Trace, removal: Trace) -> set[Pair]:
    """Pairs of remaining objects that touch with the object and not without it, or the other way round."""
    return {
        pair
        for pair in {p for p, frame in first_contacts(run).items() if frame < ROLLOUT_FRAMES}
        ^ first_contacts(removal).keys()
        if removal.removed not in pair
    }


def _seen(run: Trace) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return np.asarray(np.nan_to_num(run.depth(), nan=-1.0) >= 0)
