"""Small stand-ins of the data sets that others publish, written from the same played episodes."""

from __future__ import annotations

import json
import pickle
from functools import cache
from pathlib import Path

import av
import h5py
import numpy as np
import torch
from numcodecs import Blosc

from ocwm_tasks.pusht.play.config import PlayConfig
from ocwm_tasks.pusht.play.make import play_episode
from ocwm_tasks.pusht.rendering import render_state

LENGTHS = {"train": (24, 31, 19), "val": (28,)}
PADDED = 35
SIDE = 48


@cache
def played(split: str = "train"):
    """Episodes (states (T, 7), actions (T, 2)) of the lengths above."""
    name = {"train": "train", "val": "test"}[split]
    steps = [length - 1 for length in LENGTHS[split]]
    return [play_episode(PlayConfig(steps=count), seed=9, split=name, number=n) for n, count in enumerate(steps)]


def write_video(path: Path, states: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 2_000_000
        for state in states:
            frame = av.VideoFrame.from_ndarray(render_state(state, SIDE), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_dino_wm(root: Path) -> Path:
    for split, lengths in LENGTHS.items():
        folder = root / split
        folder.mkdir(parents=True)
        arrays = {
            name: torch.full((len(lengths), PADDED, width), torch.nan)
            for name, width in (("states", 5), ("velocities", 2), ("rel_actions", 2))
        }
        for number, (states, actions) in enumerate(played(split)):
            rows = len(states)
            arrays["states"][number, :rows] = torch.from_numpy(states[:, :5]).float()
            arrays["states"][number, :rows, 4] -= 2 * np.pi  # angles that are not wrapped
            arrays["velocities"][number, :rows] = torch.from_numpy(states[:, 5:]).float()
            arrays["rel_actions"][number, :rows] = torch.from_numpy(actions) * 100
            write_video(folder / "obses" / f"episode_{number:03d}.mp4", states)
        for name, tensor in arrays.items():
            torch.save(tensor, folder / f"{name}.pth")
        (folder / "seq_lengths.pkl").write_bytes(pickle.dumps(list(lengths)))
    return root


def write_hdf5(path: Path, split: str = "train", **columns: np.ndarray) -> Path:
    """Episodes lie in the file in reverse order, with a row of nothing before them; frames have channels first."""
    episodes = played(split)
    order = list(reversed(range(len(episodes))))
    firsts, first = {}, 1
    for number in order:
        firsts[number] = first
        first += len(episodes[number][0])
    states = np.zeros((first, 7))
    actions = np.zeros((first, 2), np.float32)
    pixels = np.zeros((first, 3, 12, 12), np.uint8)
    for number, (of_states, of_actions) in enumerate(episodes):
        rows = slice(firsts[number], firsts[number] + len(of_states))
        states[rows], actions[rows] = of_states, of_actions
        actions[rows.stop - 1] = np.nan
        pixels[rows] = np.stack([render_state(state, 12) for state in of_states]).transpose(0, 3, 1, 2)
    written = {
        "state": states,
        "action": actions,
        "pixels": pixels,
        "ep_len": np.array([len(part) for part, _ in episodes]),
        "ep_offset": np.array([firsts[number] for number in range(len(episodes))]),
        **columns,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in written.items():
            if values is not None:
                file[name] = values
    return path


def write_arrow(root: Path) -> Path:
    import pyarrow as pa

    for split in LENGTHS:
        folder = root / f"pusht_expert_{split}"
        folder.mkdir(parents=True)
        rows = {"episode_idx": [], "step_idx": [], "state": [], "action": [], "pixels": []}
        for number, (states, actions) in enumerate(played(split)):
            write_video(folder / "videos" / f"{number}_pixels.mp4", states)
            rows["episode_idx"] += [number] * len(states)
            rows["step_idx"] += range(len(states))
            rows["state"] += states.tolist()
            rows["action"] += actions.tolist()
            rows["pixels"] += [f"videos/{number}_pixels.mp4"] * len(states)
        table = pa.table({**rows, "state": pa.array(rows["state"], pa.list_(pa.float64(), 7))})
        cut = len(table) // 2
        for part, piece in enumerate((table[cut:], table[:cut])):  # two files, rows out of order
            with (
                pa.OSFile(str(folder / f"data-0000{part}-of-00002.arrow"), "wb") as sink,
                pa.ipc.new_stream(sink, table.schema) as writer,
            ):
                writer.write_table(piece)
    return root


def write_zarr(root: Path) -> Path:
    episodes = played()
    states = np.concatenate([part for part, _ in episodes])
    actions = np.concatenate([part for _, part in episodes])
    arrays = {
        "data/state": states[:, :5].astype("<f4"),
        "data/action": (states[:, :2] + 100 * actions).astype("<f4"),
        "data/img": np.stack([render_state(state, 8) for state in states]).astype("<f4"),
        "meta/episode_ends": np.cumsum([len(part) for part, _ in episodes]).astype("<i8"),
    }
    for name, values in arrays.items():
        write_zarr_array(root / "replay.zarr" / name, values, rows=16)
    return root


def write_zarr_array(folder: Path, values: np.ndarray, *, rows: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    codec = Blosc(cname="zstd", clevel=5, shuffle=Blosc.BITSHUFFLE)
    about = {
        "chunks": [rows, *values.shape[1:]],
        "compressor": codec.get_config(),
        "dtype": values.dtype.str,
        "fill_value": 0.0,
        "filters": None,
        "order": "C",
        "shape": list(values.shape),
        "zarr_format": 2,
    }
    (folder / ".zarray").write_text(json.dumps(about))
    for number, low in enumerate(range(0, len(values), rows)):
        chunk = np.zeros((rows, *values.shape[1:]), values.dtype)
        part = values[low : low + rows]
        chunk[: len(part)] = part
        (folder / ".".join([str(number), *("0" for _ in values.shape[1:])])).write_bytes(codec.encode(chunk))


def write_lerobot(root: Path) -> Path:
    """The description only: nothing else of it is read."""
    (root / "meta").mkdir(parents=True)
    info = {"codebase_version": "v3.0", "total_episodes": 206, "total_frames": 25650, "fps": 10, "features": {}}
    (root / "meta" / "info.json").write_text(json.dumps(info))
    return root
