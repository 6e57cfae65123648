"""Episodes in memory and on disk, and their frames as videos."""

from __future__ import annotations

import numpy as np
import pytest

from ocwm.errors import BenchError
from ocwm_tasks.pusht.episodes import join_episodes, open_episodes, write_episodes
from ocwm_tasks.pusht.rendering import render_state
from ocwm_tasks.pusht.simulator import Simulator, replay
from ocwm_tasks.pusht.state import block_centre
from ocwm_tasks.pusht.videos import EpisodeVideos

LENGTHS = (9, 4, 12)


@pytest.fixture(scope="module")
def episodes():
    rng, simulator = np.random.default_rng(0), Simulator()
    states, actions = [], []
    for length in LENGTHS:
        moves = rng.normal(0, 0.2, (length, 2)).astype(np.float32)
        moves[-1] = 0
        start = [*rng.uniform(100, 400, 4), rng.uniform(0, 6), 0, 0]
        states.append(replay(simulator, start, moves[:-1]))
        actions.append(moves)
    return join_episodes(states, actions, [7, 3, 11], about={"kind": "test"})


class Stored:
    """Frames of one grey level for each row, 10 px wide."""

    identity = "grey"

    def read(self, episode, start, stop):
        levels = np.arange(start, stop, dtype=np.uint8) + episode
        return np.broadcast_to(levels[:, None, None, None], (stop - start, 10, 10, 3)).copy()


def test_what_is_written_is_read(episodes, tmp_path):
    write_episodes(tmp_path, episodes)
    opened = open_episodes(tmp_path, verify=True)
    assert isinstance(opened.states, np.memmap)
    assert (len(opened), opened.rows, opened.about) == (3, sum(LENGTHS), {"kind": "test"})
    assert opened.manifest == episodes.manifest
    second = opened.episode(1)
    assert (second.id, len(second), opened.number_of(11)) == (3, 4, 2)
    np.testing.assert_array_equal(second.states, episodes.states[9:13])
    np.testing.assert_array_equal(opened.proprio[:, 2:], episodes.states[:, 5:].astype(np.float32))


def test_a_damaged_store_is_named(episodes, tmp_path):
    write_episodes(tmp_path, episodes)
    with (tmp_path / "states.npy").open("r+b") as file:
        file.seek(-8, 2)
        file.write(b"\x01")
    open_episodes(tmp_path)
    with pytest.raises(BenchError, match="content is another one"):
        open_episodes(tmp_path, verify=True)
    (tmp_path / "actions.npy").unlink()
    with pytest.raises(BenchError, match="can't be read"):
        open_episodes(tmp_path)


def test_the_manifest_depends_on_all_that_counts(episodes):
    hashes = {episodes.manifest, episodes.select([0, 1]).manifest, episodes.select([1, 0, 2]).manifest}
    changed = episodes.select([0, 1, 2])
    assert changed.manifest == episodes.manifest
    changed.actions[0, 0] += 1e-3
    with_frames = join_episodes([], [], [], about={})
    hashes |= {changed.select([0, 1, 2]).manifest, with_frames.manifest}
    assert len(hashes) == 5


def test_frames_are_rendered_or_come_from_what_is_stored(episodes):
    rendered = episodes.frames(1, 1, 3, size=32)
    np.testing.assert_array_equal(rendered[1], render_state(episodes.episode(1).states[2], 32))
    from dataclasses import replace

    stored = replace(episodes, source=Stored())
    assert stored.manifest != episodes.manifest
    assert stored.frames(2, 4, 6)[:, 0, 0, 0].tolist() == [15, 16]
    assert stored.frames(2, 4, 6, size=5).shape == (2, 5, 5, 3)


def test_videos_are_pieces_that_share_no_frame(episodes):
    videos = EpisodeVideos(episodes, length=4, size=48)
    assert videos.ids.tolist() == [7_000_000, 7_000_005, 3_000_000, 11_000_000, 11_000_004, 11_000_008]
    assert (videos.size, videos.length, videos.observed, len(videos)) == ((48, 48), 4, 4, 6)
    np.testing.assert_array_equal(videos.frames(1, 1, 3), episodes.frames(0, 6, 8, size=48))
    masks, truth = videos.masks(1), videos.objects(1)
    assert masks.shape == (4, 48, 48)
    states = episodes.episode(0).states[5:9]
    np.testing.assert_allclose(truth.positions[:, 0], states[:, :2], rtol=1e-6)
    np.testing.assert_allclose(truth.positions[:, 1], block_centre(states), rtol=1e-6)
    for thing in (1, 2):  # the truth and the masks agree on where things are
        rows, columns = np.nonzero(masks[0] == thing)
        middle = np.array([columns.mean(), rows.mean()]) * 512 / 48
        assert np.hypot(*(middle - truth.positions[0, thing - 1])) < 20
    assert EpisodeVideos(episodes, length=4, size=48, per_episode=1).ids.tolist() == [7_000_000, 3_000_000, 11_000_000]
    assert EpisodeVideos(episodes, length=4, size=32).manifest != videos.manifest


def test_episodes_that_are_too_short_for_a_video_are_left_out_or_refused(episodes):
    assert len(EpisodeVideos(episodes, length=10, size=16)) == 1
    with pytest.raises(BenchError, match="the longest has 12"):
        EpisodeVideos(episodes, length=13, size=16)
