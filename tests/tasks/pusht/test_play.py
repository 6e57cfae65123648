"""Play data: what it is meant to look like, that it can be replayed, and that it depends on its seed alone."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ocwm.errors import BenchError
from ocwm_tasks.pusht.episodes import open_episodes
from ocwm_tasks.pusht.play.config import SPLITS, PlayConfig, play_config
from ocwm_tasks.pusht.play.contacts import CLEAR, draw_pushes
from ocwm_tasks.pusht.play.make import VERSION, make_play, play_episode, play_identity
from ocwm_tasks.pusht.simulator import Simulator, replay
from ocwm_tasks.pusht.state import block_centre, turn_between

SMALL = PlayConfig(train=12, dev=2, test=3, steps=30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("play")
    done = []
    make_play(folder, SMALL, seed=4, workers=1, progress=done.append)
    assert sum(done) == 17
    return folder


@pytest.fixture(scope="module")
def played():
    """40 whole episodes: states (40, 121, 7), actions (40, 120, 2)."""
    episodes = [play_episode(PlayConfig(), seed=0, split="train", number=number) for number in range(40)]
    return np.stack([states for states, _ in episodes]), np.stack([actions[:-1] for _, actions in episodes])


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_several_processes_write_the_same_bytes(folder, tmp_path):
    make_play(tmp_path, SMALL, seed=4, workers=2)
    assert contents(tmp_path) == contents(folder)


def test_splits_have_streams_and_ids_of_their_own(folder):
    splits = [open_episodes(folder / split) for split in SPLITS]
    assert [len(split) for split in splits] == [12, 2, 3]
    assert len(set(np.concatenate([split.ids for split in splits]).tolist())) == 17
    starts = np.concatenate([split.states[split.offsets[:-1]] for split in splits])
    assert len(np.unique(starts, axis=0)) == 17


def test_a_split_keeps_its_first_episodes_when_it_grows(folder):
    split = open_episodes(folder / "test")
    states, actions = play_episode(PlayConfig(train=5, dev=1, test=9, steps=30), seed=4, split="test", number=2)
    np.testing.assert_array_equal(split.episode(2).states, states)
    np.testing.assert_array_equal(split.episode(2).actions, actions)
    assert not np.array_equal(play_episode(SMALL, seed=5, split="test", number=2)[0], states)


def test_replaying_stored_actions_reaches_every_row_bit_for_bit(folder):
    simulator = Simulator()
    for split in SPLITS:
        episodes = open_episodes(folder / split)
        for number in range(len(episodes)):
            episode = episodes.episode(number)
            assert not episode.states[0, 5:].any()
            assert not episode.actions[-1].any()
            np.testing.assert_array_equal(replay(simulator, episode.states[0], episode.actions[:-1]), episode.states)


def test_the_marker_and_the_identity_say_what_was_made(folder):
    about = json.loads((folder / "play.json").read_text())
    assert (about["version"], about["seed"], about["config"]["train"]) == (VERSION, 4, 12)
    identities = {play_identity(SMALL, seed=4)["manifest"], play_identity(SMALL, seed=5)["manifest"]}
    identities.add(play_identity(PlayConfig(), seed=4)["manifest"])
    assert len(identities) == 3


def test_statistics_are_near_the_published_ones(played):
    states, actions = played
    assert 0.18 < actions.std(axis=(0, 1)).mean() < 0.22  # published 0.20
    assert 68 < states[..., 5:].std(axis=(0, 1)).mean() < 82  # published 75 px/s
    assert 44 < states[..., 2:4].std(axis=(0, 1)).mean() < 60  # published 53 and 57 px
    moves = np.linalg.norm(np.diff(states[..., 2:4], axis=1), axis=-1)
    assert (moves > 1).mean() > 0.25
    far = np.linalg.norm(states[:, 25:, 2:4] - states[:, :-25, 2:4], axis=-1) > 20
    turned = turn_between(states[:, 25:, 4], states[:, :-25, 4]) > np.pi / 9
    assert (far | turned).mean() > 0.65


def test_agent_and_block_stay_inside(played):
    states, _ = played
    assert states[..., :2].min() > 20
    assert states[..., :2].max() < 492
    centres = block_centre(states)
    assert centres.min() > 95  # so that no corner of the block reaches a wall
    assert centres.max() < 417


def test_the_block_is_pushed_from_all_sides(played):
    states, _ = played
    moving = np.linalg.norm(np.diff(states[..., 2:4], axis=1), axis=-1) > 1
    away = states[..., :2] - block_centre(states)
    side = np.arctan2(away[..., 1], away[..., 0]) - states[..., 4]
    sides = np.histogram(np.mod(side[:, 1:][moving], 2 * np.pi), bins=8)[0]
    assert sides.min() > 0.02 * sides.sum()


def test_goal_directed_pushes_bring_the_block_nearer_to_the_goal():
    from ocwm_tasks.pusht.play.pusher import Pusher, draw_start

    gains = {0.0: 0.0, 1.0: 0.0}
    for share in gains:
        config = PlayConfig(goal_share=share)
        for number in range(6):
            rng = np.random.default_rng(number)
            simulator = Simulator()
            state = simulator.reset(draw_start(rng))
            pusher = Pusher(rng, config)
            goal, distances = pusher._goal, []
            for _ in range(100):
                distances.append(float(pusher._distance(block_centre(state), state[4])))
                state = simulator.step(pusher.act(state))
                if pusher._goal is not goal:
                    break  # reached
            gains[share] += distances[0] - min(distances[len(distances) // 2 :])
    assert gains[1.0] > 6 * 25 > gains[0.0]


def test_a_push_is_expected_to_do_what_it_does():
    rng, start = np.random.default_rng(0), np.array([0.0, 0.0, 256.0, 230.0, 0.7, 0.0, 0.0])
    centre = block_centre(start)
    pushes = draw_pushes(rng, count=60, centre=centre, angle=0.7, low=15, high=25)
    assert (np.linalg.norm(pushes.entry - centre, axis=1) > CLEAR - 1).all()
    simulator, misses = Simulator(), []
    for row in range(60):
        simulator.reset([*pushes.contact[row], *start[2:]])
        for _ in range(40):
            after = simulator.step_absolute(pushes.contact[row] + pushes.length[row] * pushes.direction[row])
        misses.append(np.linalg.norm(block_centre(after) - centre - pushes.shift[row]))
        assert turn_between(after[4], np.asarray(0.7 + pushes.turn[row])) < 0.2
    assert np.median(misses) < 1.5
    assert np.median(np.linalg.norm(pushes.shift, axis=1)) > 8


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"goal_share": 2}, "from 0.0 to 1.0"), ({"push_min": 200}, "from 1.0 to 150"), ({"sped": 1}, "mean 'speed'")],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(BenchError, match=message):
        play_config(settings)
