"""Makes play data: every episode from a random stream of its own, on several processes.

    play.json     settings, version and seed
    train/        episodes, see `episodes.py`; likewise dev/ and test/

An episode depends on the seed, its split and its number alone, so the data does not depend on how many processes share the
work, and a split keeps its first episodes when it grows.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ocwm.artifacts import digest
from ocwm_tasks.pusht.episodes import Episodes, join_episodes, write_episodes
from ocwm_tasks.pusht.play.config import SPLITS, PlayConfig
from ocwm_tasks.pusht.play.pusher import Pusher, draw_start
from ocwm_tasks.pusht.simulator import SIMULATOR_VERSION, Simulator
from ocwm_tasks.pusht.state import ACTION_DIM, STATE_DIM
from ocwm_tasks.workers import Run, worker_pool

VERSION = 1  # of the numbers that are made: any change that alters a byte of the data raises it
NAME = "pusht_play"
MARKER = "play.json"

_IDS = 1_000_000  # episode i of split s has the id s times this plus i
_BATCH = 10  # episodes that a process makes at a time


def play_identity(config: PlayConfig, *, seed: int) -> dict[str, str]:
    """Return what identifies play data before it is made: {"kind", "name", "manifest"}."""
    return {"kind": "embedded", "name": NAME, "manifest": digest(_about(config, seed))}


def make_play(
    folder: Path,
    config: PlayConfig,
    *,
    seed: int,
    workers: int,
    progress: Callable[[int], object] | None = None,
) -> None:
    """Write all splits into an empty folder.

    Args:
        folder: an empty folder.
        config: settings.
        seed: of everything; the splits have streams of their own.
        workers: processes; 1 works without any further process.
        progress: called with the number of episodes done since the last call.

    Errors: OSError when a file can't be written.
    """
    with worker_pool(workers) as run:
        for split in SPLITS:
            write_episodes(folder / split, _make_split(run, config, split, seed=seed, progress=progress))
    (folder / MARKER).write_text(json.dumps(_about(config, seed), indent=1), encoding="utf-8")


def play_episode(
    config: PlayConfig, *, seed: int, split: str, number: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Play one episode; return its states (steps + 1, 7) and actions (steps + 1, 2), the last of which is 0.

    The first row is a reset, everything at rest: replaying the actions from it gives every row again, bit for bit.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(SPLITS.index(split), number)))
    simulator = Simulator()
    states = np.empty((config.steps + 1, STATE_DIM))
    actions = np.zeros((config.steps + 1, ACTION_DIM), dtype=np.float32)
    states[0] = simulator.reset(draw_start(rng))
    pusher = Pusher(rng, config)
    for step in range(config.steps):
        actions[step] = pusher.act(states[step])
        states[step + 1] = simulator.step(actions[step])
    return states, actions


def _about(config: PlayConfig, seed: int) -> dict[str, object]:
    return {"name": NAME, "version": VERSION, "simulator": SIMULATOR_VERSION, "seed": seed, "config": asdict(config)}


def _make_split(
    run: Run, config: PlayConfig, split: str, *, seed: int, progress: Callable[[int], object] | None
) -> Episodes:
    count = config.episodes(split)
    batches = [range(low, min(low + _BATCH, count)) for low in range(0, count, _BATCH)]
    states, actions = [], []
    for batch in run(functools.partial(_make_batch, config, seed, split), batches):
        for of_states, of_actions in batch:
            states.append(of_states)
            actions.append(of_actions)
        if progress is not None:
            progress(len(batch))
    ids = SPLITS.index(split) * _IDS + np.arange(count)
    about = {"kind": "play", "split": split, "velocities": "simulated", "exact_replay": True}
    return join_episodes(states, actions, ids, about=about)


def _make_batch(
    config: PlayConfig, seed: int, split: str, numbers: range
) -> list[tuple[NDArray[np.float64], NDArray[np.float32]]]:
    return [play_episode(config, seed=seed, split=split, number=number) for number in numbers]
