"""Start and goal states to plan between: drawn once from recorded episodes, frozen in a JSON file.

Three protocols:

held_out    (ours) episodes that no model was trained on, replayed in the simulator from their first row: start and goal are
            states that it was in, `offset` steps apart. Pairs that are solved from the start are left out, and most need the
            block moved.
cjepa       (arXiv 2602.11389) rows of the training split, drawn without replacement from all that are not too near to
            the end of their episode, but for the last of them; the goal is the recorded row `offset` - 1 steps on, where
            the published slice ends. Nothing is left out.
dino_wm     (arXiv 2411.04983) episodes and rows of the validation split, drawn with replacement by Python's `random`; the goal
            is where the recorded actions lead in the simulator from the recorded state, with the published reset.

Shape letters: P pairs, T rows of an episode.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ocwm.errors import BenchError, suggest
from ocwm.whole_files import write_whole
from ocwm_tasks.pusht.episodes import Episodes
from ocwm_tasks.pusht.simulator import Simulator, replay
from ocwm_tasks.pusht.state import ANGLE, ARENA, BLOCK, POSITIONS, STATE_DIM, turn_between
from ocwm_tasks.pusht.success import ANGLE_TOLERANCE, POSITION_TOLERANCE, joint_success

PAIRS_VERSION = 1  # goes up whenever other pairs are drawn

Protocol = Literal["held_out", "cjepa", "dino_wm"]
MOVED_SHARE = 0.7  # of held-out pairs, at least so many need the block moved
_ROUNDS = 50  # over all episodes, in search of pairs
_FORMAT = 1


@dataclass(frozen=True)
class Pairs:
    """Start and goal states.

    Attributes:
        protocol: that they were drawn by.
        seed: that they were drawn with.
        offset: steps from start to goal in the episode.
        episodes: (P,) int64 ids of the episodes.
        starts: (P,) int64 row of the start in its episode.
        start_states, goal_states: (P, 7) float64.
    """

    protocol: Protocol
    seed: int
    offset: int
    episodes: NDArray[np.int64]
    starts: NDArray[np.int64]
    start_states: NDArray[np.float64]
    goal_states: NDArray[np.float64]

    def __len__(self) -> int:
        """Return the number of pairs P."""
        return len(self.episodes)

    @property
    def moved(self) -> NDArray[np.bool_]:
        """Whether the goal needs the block moved by more than 20 px or turned by more than 20 degrees, (P,)."""
        return needs_move(self.start_states, self.goal_states)

    @cached_property
    def sha256(self) -> str:
        """Of offset, ids, starts and states."""
        parts = (np.array([self.offset]), self.episodes, self.starts)
        whole = [np.ascontiguousarray(part, dtype="<i8").tobytes() for part in parts]
        whole += [np.ascontiguousarray(part, dtype="<f8").tobytes() for part in (self.start_states, self.goal_states)]
        return hashlib.sha256(b"".join(whole)).hexdigest()

    def go_to_start(self, simulator: Simulator, episodes: Episodes, pair: int) -> NDArray[np.float64]:
        """Bring a simulator to the start of a pair; return its state (7,).

        Held-out starts are reached by replaying the episode from its first row, so that the contacts which the solver
        remembers are those of the episode too. The other protocols set the start state, as published.
        """
        if self.protocol != "held_out":
            return simulator.reset(self.start_states[pair])
        episode = episodes.episode(episodes.number_of(int(self.episodes[pair])))
        reached: NDArray[np.float64] = replay(simulator, episode.states[0], episode.actions[: self.starts[pair]])[-1]
        return reached

    def actions(self, episodes: Episodes, pair: int) -> NDArray[np.float32]:
        """Return the recorded actions (offset, 2) that lead from start to goal."""
        episode = episodes.episode(episodes.number_of(int(self.episodes[pair])))
        return episode.actions[self.starts[pair] : self.starts[pair] + self.offset]


def draw_pairs(
    episodes: Episodes, *, count: int, offset: int = 25, seed: int, protocol: Protocol = "held_out"
) -> Pairs:
    """Draw pairs by a protocol (see the top of this file).

    Args:
        episodes: of the split that the protocol names.
        count: number of pairs P.
        offset: steps from start to goal; `cjepa` counts the start too, so its goals are one step nearer.
        seed: of the draw; the same arguments give the same pairs.
        protocol: one of held_out, cjepa, dino_wm.

    Raises:
        BenchError: the episodes are too short, lack actions or the block's pose, a goal lies outside the arena, or
            there are not enough pairs that need the block moved.
    """
    if protocol not in get_args(Protocol):
        raise BenchError(f"protocol={protocol} is not known", suggest(protocol, get_args(Protocol)))
    if count < 1 or offset < 2:
        raise BenchError(f"{count} pairs {offset} steps apart can't be drawn", "Give at least 1 pair and 2 steps.")
    if not np.isfinite(episodes.states[:, : ANGLE + 1]).all():
        raise BenchError(
            "these episodes do not say where the block is: no start can be set and no goal be given",
            "Use data with the block's pose: play data, pusht_noise, pusht_expert, or Diffusion Policy's zarr.",
        )
    if not (episodes.lengths > offset).any():
        raise BenchError(
            f"no episode is longer than {offset} steps (the longest has {int(episodes.lengths.max(initial=0))} rows)",
            "Lower the offset between start and goal.",
        )
    draw: Callable[..., Pairs] = {"held_out": _held_out, "cjepa": _cjepa, "dino_wm": _dino_wm}[protocol]
    pairs = draw(episodes, count=count, offset=offset, seed=seed)
    _check_arena(pairs)
    return pairs


def needs_move(starts: NDArray[np.float64], goals: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the block is more than 20 px or 20 degrees from its goal, for states (..., 7)."""
    far = np.linalg.norm(goals[..., BLOCK] - starts[..., BLOCK], axis=-1) > POSITION_TOLERANCE
    return np.asarray(far | (turn_between(starts[..., ANGLE], goals[..., ANGLE]) > ANGLE_TOLERANCE))


def _held_out(episodes: Episodes, *, count: int, offset: int, seed: int) -> Pairs:
    rng, simulator = np.random.default_rng(seed), Simulator()

    @lru_cache(maxsize=4096)
    def replayed(number: int) -> NDArray[np.float64]:
        episode = episodes.episode(number)
        _check_actions(episode.actions[:-1], episode.id)
        return replay(simulator, episode.states[0], episode.actions[:-1])

    wanted = math.ceil(MOVED_SHARE * count)
    chosen: list[tuple[int, int]] = []
    moving = tried = 0
    long_enough = np.flatnonzero(episodes.lengths > offset)
    for _ in range(_ROUNDS):
        for number in rng.permutation(long_enough).tolist():
            start = int(rng.integers(0, episodes.lengths[number] - offset))
            states = replayed(number)[[start, start + offset]]
            tried += 1
            if (number, start) in chosen or joint_success(states[0], states[1]) or not _inside(states).all():
                continue
            moves = bool(needs_move(states[0], states[1]))
            if not moves and len(chosen) - moving >= count - wanted:
                continue  # as many as there may be need no move
            chosen.append((number, start))
            moving += moves
            if len(chosen) == count:
                order = rng.permutation(count)  # so that the first pairs have the same mix as all
                ends = [replayed(number)[[start, start + offset]] for number, start in chosen]
                return _pairs(episodes, "held_out", seed, offset, [chosen[i] for i in order], np.stack(ends)[order])
    raise BenchError(
        f"only {len(chosen)} of {count} start/goal pairs were found in {tried} tries, {moving} of them with a block that "
        f"moves more than 20 px or 20 degrees in {offset} steps ({wanted} are needed)",
        "Use more episodes, or ones with more pushing; or draw fewer pairs.",
    )


def _cjepa(episodes: Episodes, *, count: int, offset: int, seed: int) -> Pairs:
    starts = np.maximum(episodes.lengths - offset, 0)  # an episode's first so many rows can be starts
    total = int(starts.sum())
    if total - 1 < count:
        raise BenchError(f"{count} pairs can't be drawn from {total} rows", "Draw fewer pairs or use more episodes.")
    rows = np.random.default_rng(seed).choice(total - 1, size=count, replace=False)
    first = np.concatenate([[0], np.cumsum(starts)])
    numbers = np.searchsorted(first, rows, side="right") - 1
    chosen = [(int(number), int(row - first[number])) for number, row in zip(numbers, rows, strict=True)]
    ends = [episodes.episode(number).states[[start, start + offset - 1]] for number, start in chosen]
    return _pairs(episodes, "cjepa", seed, offset - 1, chosen, np.stack(ends))


def _dino_wm(episodes: Episodes, *, count: int, offset: int, seed: int) -> Pairs:
    generator, simulator = random.Random(seed), Simulator(published_reset=True)
    chosen, ends = [], []
    for _ in range(count):
        latest = -1
        while latest < 0:
            number = generator.randint(0, len(episodes) - 1)
            latest = int(episodes.lengths[number]) - offset - 1
        start = generator.randint(0, latest)
        episode = episodes.episode(number)
        actions = episode.actions[start : start + offset]
        _check_actions(actions, episode.id)
        chosen.append((number, start))
        ends.append(np.stack([episode.states[start], replay(simulator, episode.states[start], actions)[-1]]))
    return _pairs(episodes, "dino_wm", seed, offset, chosen, np.stack(ends))


def _pairs(
    episodes: Episodes,
    protocol: Protocol,
    seed: int,
    offset: int,
    chosen: list[tuple[int, int]],
    ends: NDArray[np.float64],
) -> Pairs:
    numbers, starts = np.array(chosen, dtype=np.int64).T
    return Pairs(protocol, seed, offset, episodes.ids[numbers], starts, ends[:, 0], ends[:, 1])


def _inside(states: NDArray[np.float64]) -> NDArray[np.bool_]:
    positions = states[..., POSITIONS]
    return np.asarray(((positions >= 0) & (positions <= ARENA)).all(axis=-1))


def _check_arena(pairs: Pairs) -> None:
    outside = np.flatnonzero(~_inside(pairs.goal_states))
    if len(outside):
        pair = outside[0]
        raise BenchError(
            f"the goal of {len(outside)} of {len(pairs)} pairs lies outside the arena, the first that of episode "
            f"{pairs.episodes[pair]} from row {pairs.starts[pair]}: {pairs.goal_states[pair, POSITIONS].round(1).tolist()}",
            "Draw with another seed, or leave that episode out.",
        )


def _check_actions(actions: NDArray[np.float32], episode: int) -> None:
    if not np.isfinite(actions).all():
        row = int(np.flatnonzero(~np.isfinite(actions).all(axis=1))[0])
        raise BenchError(
            f"episode {episode} lacks the action of row {row} (NaN), so that it can't be replayed",
            "Leave that episode out.",
        )


def write_pairs(path: Path, pairs: Pairs) -> None:
    """Write pairs as JSON, whole or not at all. Errors: OSError."""
    rows = zip(pairs.episodes, pairs.starts, pairs.start_states, pairs.goal_states, strict=True)
    content = {
        "format": _FORMAT,
        "protocol": pairs.protocol,
        "seed": pairs.seed,
        "offset": pairs.offset,
        "sha256": pairs.sha256,
        "pairs": [
            {"episode": int(episode), "start": int(start), "start_state": first.tolist(), "goal_state": goal.tolist()}
            for episode, start, first, goal in rows
        ],
    }
    write_whole(path, json.dumps(content, indent=1).encode())


def read_pairs(path: Path) -> Pairs:
    """Read pairs.

    Raises:
        BenchError: the file is missing, is none of pairs, was changed, or holds a goal outside the arena.
    """
    hint = "Draw the pairs again."
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        rows = content["pairs"]
        states = {
            name: np.array([row[name] for row in rows], dtype=np.float64).reshape(-1, STATE_DIM)
            for name in ("start_state", "goal_state")
        }
        pairs = Pairs(
            content["protocol"],
            content["seed"],
            content["offset"],
            np.array([row["episode"] for row in rows], dtype=np.int64),
            np.array([row["start"] for row in rows], dtype=np.int64),
            states["start_state"],
            states["goal_state"],
        )
        expected, kind = content["sha256"], content["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{path} holds no start/goal pairs ({error})", hint) from error
    if kind != _FORMAT:
        raise BenchError(f"the pairs in {path} have format {kind}, expected {_FORMAT}", hint)
    if pairs.sha256 != expected:
        raise BenchError(f"the pairs in {path} were changed: their sha256 is another one", hint)
    _check_arena(pairs)
    return pairs
