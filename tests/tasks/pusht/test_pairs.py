"""Start/goal pairs: reachable, unsolved, mostly with a block to move, and frozen."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest

from ocwm.errors import BenchError
from ocwm_tasks.pusht.episodes import join_episodes
from ocwm_tasks.pusht.pairs import MOVED_SHARE, draw_pairs, needs_move, read_pairs, write_pairs
from ocwm_tasks.pusht.play.config import PlayConfig
from ocwm_tasks.pusht.play.make import play_episode
from ocwm_tasks.pusht.simulator import Simulator, replay
from ocwm_tasks.pusht.success import joint_success

OFFSET = 25


@pytest.fixture(scope="module")
def episodes():
    lengths = (60, 20, 45, 60, 60, 60)
    played = [
        play_episode(PlayConfig(steps=steps), seed=1, split="test", number=number)
        for number, steps in enumerate(lengths)
    ]
    return join_episodes(*map(list, zip(*played, strict=True)), 100 + np.arange(len(lengths)), about={})


@pytest.fixture(scope="module")
def pairs(episodes):
    return draw_pairs(episodes, count=12, offset=OFFSET, seed=0)


def test_recorded_actions_lead_from_start_to_goal_bit_for_bit(episodes, pairs):
    simulator = Simulator()
    for pair in range(len(pairs)):
        state = pairs.go_to_start(simulator, episodes, pair)
        np.testing.assert_array_equal(state, pairs.start_states[pair])
        for action in pairs.actions(episodes, pair):
            state = simulator.step(action)
        np.testing.assert_array_equal(state, pairs.goal_states[pair])


def test_pairs_are_unsolved_distinct_and_mostly_move_the_block(episodes, pairs):
    assert not joint_success(pairs.start_states, pairs.goal_states).any()
    assert pairs.moved.mean() >= MOVED_SHARE
    assert len(set(zip(pairs.episodes.tolist(), pairs.starts.tolist(), strict=True))) == len(pairs)
    assert 101 not in pairs.episodes  # it has 21 rows
    assert len(set(pairs.episodes.tolist())) == 5  # all episodes that are long enough take part


def test_the_quota_is_met_where_few_rows_move_the_block(episodes):
    """Half of the episodes stand still but for the agent."""
    simulator, states, actions = Simulator(), [], []
    rng = np.random.default_rng(0)
    for _ in range(30):
        moves = np.concatenate([rng.uniform(-0.3, 0.3, (40, 2)), np.zeros((1, 2))]).astype(np.float32)
        actions.append(moves)
        states.append(replay(simulator, [60.0, 60.0, 400.0, 350.0, 1.0, 0, 0], moves[:-1]))
    still = join_episodes(states, actions, np.arange(30), about={})
    with pytest.raises(BenchError, match=r"only 1 of 6 .* 0 of them with a block that moves .* \(5 are needed\)"):
        draw_pairs(still, count=6, offset=20, seed=0)
    mixed = join_episodes(
        [*states, *(episodes.episode(n).states for n in (0, 3, 4))],
        [*actions, *(episodes.episode(n).actions for n in (0, 3, 4))],
        np.arange(33),
        about={},
    )
    drawn = draw_pairs(mixed, count=10, offset=20, seed=0)
    assert drawn.moved.sum() == 7


def test_the_same_seed_draws_the_same_pairs(episodes, pairs):
    assert draw_pairs(episodes, count=12, offset=OFFSET, seed=0).sha256 == pairs.sha256
    assert draw_pairs(episodes, count=12, offset=OFFSET, seed=1).sha256 != pairs.sha256


def test_pairs_are_frozen_in_a_file(pairs, tmp_path):
    path = tmp_path / "pairs.json"
    write_pairs(path, pairs)
    read = read_pairs(path)
    assert (read.sha256, read.offset, read.protocol) == (pairs.sha256, OFFSET, "held_out")
    np.testing.assert_array_equal(read.goal_states, pairs.goal_states)
    content = json.loads(path.read_text())
    content["pairs"][3]["goal_state"][2] += 1e-9
    path.write_text(json.dumps(content))
    with pytest.raises(BenchError, match="were changed"):
        read_pairs(path)
    path.write_text("[]")
    with pytest.raises(BenchError, match="holds no start/goal pairs"):
        read_pairs(path)


def test_cjepa_draws_rows_of_all_episodes_as_published(episodes):
    drawn = draw_pairs(episodes, count=20, offset=OFFSET, seed=2, protocol="cjepa")
    table = [
        (episodes.ids[number], step)
        for number in range(len(episodes))
        for step in range(episodes.lengths[number])
        if step <= episodes.lengths[number] - OFFSET - 1
    ]
    rows = np.random.default_rng(2).choice(len(table) - 1, size=20, replace=False)
    assert list(zip(drawn.episodes, drawn.starts, strict=True)) == [table[row] for row in rows]
    assert drawn.offset == OFFSET - 1
    for pair in range(20):
        recorded = episodes.episode(episodes.number_of(drawn.episodes[pair])).states
        np.testing.assert_array_equal(drawn.start_states[pair], recorded[drawn.starts[pair]])
        np.testing.assert_array_equal(drawn.goal_states[pair], recorded[drawn.starts[pair] + OFFSET - 1])


def test_dino_wm_replays_recorded_actions_from_the_recorded_state(episodes):
    drawn = draw_pairs(episodes, count=8, offset=OFFSET, seed=3, protocol="dino_wm")
    generator, expected = random.Random(3), []
    while len(expected) < 8:
        number = generator.randint(0, len(episodes) - 1)
        if episodes.lengths[number] >= OFFSET + 1:
            expected.append((episodes.ids[number], generator.randint(0, episodes.lengths[number] - OFFSET - 1)))
    assert list(zip(drawn.episodes, drawn.starts, strict=True)) == expected
    simulator = Simulator(published_reset=True)
    for pair in range(8):
        drawn.go_to_start(simulator, episodes, pair)
        for action in drawn.actions(episodes, pair):
            state = simulator.step(action)
        np.testing.assert_array_equal(state, drawn.goal_states[pair])


def test_what_needs_a_move():
    start = np.array([0.0, 0.0, 100.0, 100.0, 0.1, 0.0, 0.0])
    goals = start + np.array(
        [[50, 0, 0, 0, 0, 0, 0], [0, 0, 15, 15, 0, 0, 0], [0, 0, 0, 0, 6.0, 0, 0], [0, 0, 0, 0, 0.36, 0, 0]]
    )
    assert needs_move(start, goals).tolist() == [False, True, False, True]


def with_states(episodes, change):
    states = episodes.states.copy()
    change(states)
    return replace(episodes, states=states)


def test_data_that_gives_no_pairs_is_refused_in_one_line(episodes):
    with pytest.raises(BenchError, match="no episode is longer than 70 steps \\(the longest has 61 rows\\)"):
        draw_pairs(episodes, count=2, offset=70, seed=0)
    holes = replace(episodes, actions=np.where(np.arange(episodes.rows)[:, None] == 7, np.nan, episodes.actions))
    with pytest.raises(BenchError, match="episode 100 lacks the action of row 7"):
        draw_pairs(holes, count=12, offset=OFFSET, seed=0)
    with pytest.raises(BenchError, match="do not say where the block is"):
        draw_pairs(with_states(episodes, lambda states: states[:, 2:5].fill(np.nan)), count=2, seed=0)
    with pytest.raises(BenchError, match="lies outside the arena, the first that of episode"):
        draw_pairs(with_states(episodes, lambda states: states[:, 0].fill(600)), count=2, seed=0, protocol="cjepa")
    with pytest.raises(BenchError, match="Did you mean 'cjepa'"):
        draw_pairs(episodes, count=2, seed=0, protocol="cjpa")
