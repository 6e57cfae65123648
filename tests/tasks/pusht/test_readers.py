"""Readers: every layout gives the episodes that were played, or says in one line why not."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from tests.tasks.pusht.data_files import (
    LENGTHS,
    SIDE,
    played,
    write_arrow,
    write_dino_wm,
    write_hdf5,
    write_lerobot,
    write_zarr,
    write_zarr_array,
)

from ocwm.errors import BenchError
from ocwm_tasks.pusht.play.config import PlayConfig
from ocwm_tasks.pusht.play.make import make_play
from ocwm_tasks.pusht.readers.detect import open_data
from ocwm_tasks.pusht.readers.diffusion_policy import driven
from ocwm_tasks.pusht.rendering import render_state
from ocwm_tasks.pusht.simulator import Simulator, replay

PYARROW = pytest.mark.skipif(not importlib.util.find_spec("pyarrow"), reason="pyarrow is an extra (pusht-arrow)")


def write_play(root):
    make_play(root, PlayConfig(train=3, dev=1, test=1, steps=20), seed=0, workers=1)
    return root


WRITERS = {
    "play": write_play,
    "dino_wm": write_dino_wm,
    "swm_hdf5": lambda root: (write_hdf5(root / "a_train.h5"), write_hdf5(root / "a_val.h5", "val"), root)[-1],
    "diffusion_policy": write_zarr,
    "swm_arrow": write_arrow,
}
KINDS = [pytest.param(kind, marks=PYARROW if kind == "swm_arrow" else ()) for kind in WRITERS]


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    made = {}

    def root(kind):
        if kind not in made:
            made[kind] = WRITERS[kind](tmp_path_factory.mktemp(kind))
        return made[kind]

    return root


def same_as_played(data, *, velocities=1e-4):
    for origin in data.origins:
        episodes = data.origin(origin)
        assert episodes.lengths.tolist() == list(LENGTHS[origin])
        for number, (states, actions) in enumerate(played(origin)):
            episode = episodes.episode(number)
            np.testing.assert_allclose(episode.states[:, :5], states[:, :5], atol=1e-4)
            np.testing.assert_allclose(episode.states[:, 5:], states[:, 5:], atol=velocities)
            np.testing.assert_allclose(episode.actions, actions, atol=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.values != ("play",)])
def test_a_layout_is_recognised_and_read(roots, kind):
    data = open_data(roots(kind))
    assert data.kind == kind
    assert data.origins == (("train",) if kind == "diffusion_policy" else ("train", "val"))
    same_as_played(data, velocities=1e-2 if kind == "diffusion_policy" else 1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_stored_frames_are_those_of_the_rows(roots, kind):
    episodes = open_data(roots(kind)).origin("train")
    frames = episodes.frames(1, 5, 8, size=None if episodes.source else 16)
    size = frames.shape[1]
    expected = np.stack([render_state(state, size) for state in episodes.episode(1).states[5:8]])
    worst = 12 if size == SIDE else 0  # videos are compressed
    assert np.abs(frames.astype(int) - expected).mean() <= worst
    assert episodes.frames(1, 5, 8, size=10).shape == (3, 10, 10, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_identity_goes_with_the_content_not_with_the_place(roots, kind, tmp_path):
    first = open_data(roots(kind)).identity
    assert first["kind"] == ("embedded" if kind == "play" else kind)
    moved = shutil.copytree(roots(kind), tmp_path / "elsewhere")
    assert open_data(moved).identity == first
    if kind == "swm_hdf5":
        with h5py.File(moved / "a_train.h5", "r+") as file:
            file["state"][5, 0] += 1
    else:
        path = open_data(moved).contents[-1]
        path.write_bytes(path.read_bytes()[:-1] + b"\x00\x01")
    assert open_data(moved).identity != first


@pytest.mark.parametrize("kind", KINDS)
def test_the_manifest_counts(roots, kind):
    data = open_data(roots(kind))
    manifest = data.manifest()
    assert manifest["bytes"] == sum(path.stat().st_size for path in data.files) > 0
    rows = {name: origin["rows"] for name, origin in manifest["origins"].items()}
    if kind == "play":
        assert rows == {"train": 63, "dev": 21, "test": 21}
    else:
        assert rows == {name: sum(LENGTHS[name]) for name in data.origins}
    episodes = sum(origin["episodes"] for origin in manifest["origins"].values())
    assert sum(split["episodes"] for split in manifest["splits"].values()) == episodes
    json.dumps(manifest)


def test_data_without_a_validation_set_is_cut_by_a_hash_of_the_episode(tmp_path):
    count = 300
    states = np.tile([[100.0, 100.0, 256.0, 256.0, 1.0]], (2 * count, 1)).astype("<f4")
    for name, values in (
        ("data/state", states),
        ("data/action", states[:, :2]),
        ("meta/episode_ends", 2 + 2 * np.arange(count)),
    ):
        write_zarr_array(tmp_path / "a.zarr" / name, values, rows=50)
    data = open_data(tmp_path / "a.zarr")
    parts = {split: set(data.episodes(split).ids.tolist()) for split in data.splits}
    assert set.union(*parts.values()) == set(range(count))
    assert sum(map(len, parts.values())) == count
    assert 0.7 * count < len(parts["train"]) < 0.9 * count
    assert data.episodes("dev").source is None  # there is no img
    assert data.origin("train").episode(3).states[0, 5:].tolist() == [0.0, 0.0]


def test_data_with_a_validation_set_gives_it_as_test(roots):
    data = open_data(roots("dino_wm"))
    assert data.episodes("test").lengths.tolist() == list(LENGTHS["val"])
    assert (data.episodes("test").ids >= 1_000_000).all()
    with pytest.raises(BenchError, match="no split 'valid'"):
        data.episodes("valid")


def test_the_agents_velocity_is_computed_as_the_simulator_drives_it():
    states, actions = played()[0]
    simulator = Simulator()
    simulated = replay(simulator, states[0], actions[:-1])
    targets = states[:-1, :2] + 100.0 * actions[:-1].astype(np.float64)
    positions, velocities = driven(states[0, :2], targets)
    np.testing.assert_allclose(positions, simulated[:, :2], atol=1e-9)
    np.testing.assert_allclose(velocities, simulated[:, 5:], atol=1e-9)


@pytest.mark.skipif(
    not (Path(os.environ.get("OCWM_REAL_DATA", "/nowhere")) / "pusht").is_dir(), reason="OCWM_REAL_DATA has no pusht"
)
def test_the_real_demonstrations_can_be_replayed():
    data = open_data(Path(os.environ["OCWM_REAL_DATA"]) / "pusht")
    episodes = data.origin("train")
    assert (len(episodes), episodes.rows) == (206, 25650)
    assert [len(data.episodes(split)) for split in data.splits] == [162, 20, 24]
    np.testing.assert_allclose(episodes.states[:, 5:].std(axis=0), [75, 74], atol=1)
    assert episodes.frames(0, 0, 2).shape == (2, 96, 96, 3)
    for number in (0, 100, 205):
        episode = episodes.episode(number)
        again = replay(Simulator(), episode.states[0], episode.actions[:25])
        np.testing.assert_allclose(again[:, :4], episode.states[:26, :4], atol=0.6)
        np.testing.assert_allclose(again[:, :2], episode.states[:26, :2], atol=1e-4)


def test_lerobot_is_described_and_refused(tmp_path):
    data = open_data(write_lerobot(tmp_path))
    assert (data.kind, data.splits) == ("lerobot", ())
    assert data.manifest()["info"]["total_episodes"] == 206
    with pytest.raises(BenchError, match="not the block's pose"):
        data.episodes("train")


def broken(roots, kind, tmp_path):
    return shutil.copytree(roots(kind), tmp_path / "broken")


def test_damaged_files_are_named_in_one_line(roots, tmp_path):
    root = broken(roots, "dino_wm", tmp_path)
    torch.save(torch.zeros(2, 35, 5), root / "train" / "states.pth")
    with pytest.raises(BenchError, match=r"states.pth has shape \(2, 35, 5\), expected \(3, at least 31, 5\)"):
        open_data(root).origin("train")
    (root / "val" / "seq_lengths.pkl").write_bytes(pickle.dumps(print))
    with pytest.raises(BenchError, match="print"):
        open_data(root).origin("val")
    (root / "val" / "seq_lengths.pkl").write_bytes(pickle.dumps(["a"]))
    with pytest.raises(BenchError, match="holds no list of lengths"):
        open_data(root).origin("val")
    shutil.rmtree(root / "train")
    with pytest.raises(BenchError, match="without its training set"):
        open_data(root)


def test_a_missing_or_short_video_is_named(roots, tmp_path):
    root = broken(roots, "dino_wm", tmp_path)
    videos = root / "train" / "obses"
    shutil.copy(videos / "episode_002.mp4", videos / "episode_001.mp4")
    with pytest.raises(BenchError, match=r"episode_001.mp4 has 19 frames, its episode 31 rows"):
        open_data(root).origin("train").frames(1, 0, 2)
    (videos / "episode_000.mp4").unlink()
    with pytest.raises(BenchError, match=r"episode_000.mp4"):
        open_data(root).origin("train").frames(0, 0, 2)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"state": None}, "lacks the column 'state'; it has action, ep_len"),
        ({"action": np.zeros((75, 3))}, r"column 'action' has shape \(75, 3\), expected \(rows, 2\)"),
        ({"ep_len": np.array([24, 31, 90])}, "do not fit its 75 rows"),
    ],
)
def test_hdf5_of_another_layout_is_refused(tmp_path, columns, message):
    path = write_hdf5(tmp_path / "train.h5", **columns)
    with pytest.raises(BenchError, match=message):
        open_data(path).origin("train")


def test_hdf5_that_is_no_hdf5_is_refused(tmp_path):
    (tmp_path / "train.h5").write_bytes(b"nothing")
    with pytest.raises(BenchError, match=r"can't read .*train\.h5"):
        open_data(tmp_path).origin("train")


def test_a_damaged_chunk_is_named(roots, tmp_path):
    root = broken(roots, "diffusion_policy", tmp_path)
    (root / "replay.zarr" / "data" / "state" / "2.0").write_bytes(b"nothing")
    with pytest.raises(BenchError, match=r"chunk .*state/2\.0 is damaged"):
        open_data(root).origin("train")


@PYARROW
def test_a_step_that_is_missing_from_a_table_is_named(roots, tmp_path):
    import pyarrow as pa

    root = broken(roots, "swm_arrow", tmp_path)
    path = root / "pusht_expert_train" / "data-00001-of-00002.arrow"
    table = pa.ipc.open_stream(path.read_bytes()).read_all()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(pa.concat_tables([table[:4], table[5:]]))
    with pytest.raises(BenchError, match="episode 0 lacks step 4"):
        open_data(root).origin("train")


@pytest.mark.skipif(bool(importlib.util.find_spec("pyarrow")), reason="pyarrow is installed")
def test_without_pyarrow_arrow_tables_say_what_to_install(tmp_path):
    (tmp_path / "pusht_expert_train").mkdir()
    (tmp_path / "pusht_expert_train" / "data-00000-of-00001.arrow").write_bytes(b"")
    with pytest.raises(BenchError, match=r"pip install 'ocwm-bench\[pusht-arrow\]'"):
        open_data(tmp_path).origin("train")


def test_folders_without_data_are_refused(tmp_path):
    with pytest.raises(BenchError, match=r"holds no Push-T data\. Expected pusht_noise"):
        open_data(tmp_path)
    with pytest.raises(BenchError, match="does not exist"):
        open_data(tmp_path / "nowhere")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(BenchError, match="holds no Push-T data"):
        open_data(tmp_path / "a.txt")
