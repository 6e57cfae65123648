"""Writes the embedded data: the official layout, and beside it the state that it was made from.

    video_train/video_00000-01000/video_00000.mp4      frames 0..127 of the rendered videos (so for all three splits)
    annotation_train/annotation_00000-01000/annotation_00000.json      of the rendered videos
    questions/train.json                               of all videos, with answers and programs
    future/train/video_00000.mp4                       frames 128..159 of the rendered videos
    masks/train/mask_00000.npz                         `masks` (160, h, w) uint8: object + 1, 0 for the floor
    states/train.npz                                   see `states`
    embedded.json                                      generator, version, settings, seed, files

The same settings and seed give the same bytes.

Shape letters: V videos, F frames, n objects, h, w image height and width.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from ocwm_tasks.clevrer.generator.candidates import Video
from ocwm_tasks.clevrer.generator.config import GeneratorConfig
from ocwm_tasks.clevrer.generator.geometry import HALF_HEIGHT
from ocwm_tasks.clevrer.generator.render import Pictures
from ocwm_tasks.clevrer.generator.simulation import FRAME_RATE, FRAMES, Simulation
from ocwm_tasks.clevrer.scene import COLORS, MATERIALS, MAX_OBJECTS, OBSERVED_FRAMES, ROLLOUT_FRAMES, SHAPES

NAME = "embedded-clevrer"
MARKER = "embedded.json"
FIRST_INDEX = {"train": 0, "validation": 10000, "test": 15000}
QUALITY = 16  # constant rate factor of x264: differences to the drawn frames can't be seen
# BT.601 in the limited range, the default of players: rows Y, U, V; columns R, G, B and the offset. The encoder's own
# conversion is several times slower.
YUV = np.array(
    [[0.25679, 0.50413, 0.09791, 16.0], [-0.14822, -0.29099, 0.43922, 128.0], [0.43922, -0.36779, -0.07143, 128.0]]
)
SMALL = 240  # pixels of width under which colour keeps its full resolution: there an object is a few pixels wide


def write_pictures(root: Path, split: str, index: int, pictures: Pictures) -> None:
    """Write both parts of a rendered video, and its masks (160 frames).

    Errors: OSError when the files can't be written.
    """
    name = f"video_{index:05d}.mp4"
    _write(_thousands(root, "video", split, index) / name, encode(pictures.frames[:OBSERVED_FRAMES]))
    _write(root / "future" / split / name, encode(pictures.frames[OBSERVED_FRAMES:]))
    _write(root / "masks" / split / f"mask_{index:05d}.npz", _archive({"masks": pictures.masks}, level=1))


def write_annotation(root: Path, split: str, index: int, simulation: Simulation) -> None:
    """Write the annotation file of a video. Errors: OSError."""
    path = _thousands(root, "annotation", split, index) / f"annotation_{index:05d}.json"
    _write(path, annotation(index, simulation).encode())


def write_questions(root: Path, split: str, scenes: Sequence[Mapping[str, Any]]) -> None:
    """Write the questions of a split, in the official list of scenes. Errors: OSError."""
    _write(root / "questions" / f"{split}.json", json.dumps(scenes).encode())


def write_states(root: Path, split: str, videos: Sequence[Video]) -> None:
    """Write the state of all videos of a split, see `states`. Errors: OSError."""
    _write(root / "states" / f"{split}.npz", _archive(states(split, videos), level=0))


def write_marker(root: Path, config: GeneratorConfig, *, seed: int, version: int) -> None:
    """Write what the data is and which files there are; comes last. Errors: OSError."""
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    about = {"name": NAME, "version": version, "seed": seed, "config": asdict(config), "files": files}
    _write(root / MARKER, json.dumps(about, indent=1).encode())


def encode(frames: NDArray[np.uint8]) -> bytes:
    """An H.264 mp4 of frames (F, h, w, 3) RGB at 25 frames per second."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        # One thread and no encoder's signature: the same frames give the same bytes.
        options = {"preset": "ultrafast", "crf": str(QUALITY), "threads": "1", "flags": "+bitexact"}
        stream = container.add_stream("libx264", rate=FRAME_RATE, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv444p" if stream.width < SMALL else "yuv420p"
        # All frames one below the other are one tall image.
        tall = cv2.transform(frames.reshape(-1, *frames.shape[2:]), YUV)
        for planes in zip(*(plane.reshape(frames.shape[:3]) for plane in cv2.split(tall)), strict=True):
            frame = av.VideoFrame(stream.width, stream.height, stream.pix_fmt)
            for plane, values in zip(frame.planes, planes, strict=True):
                if plane.width < stream.width:
                    values = cv2.resize(values, (plane.width, plane.height), interpolation=cv2.INTER_AREA)
                np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:, : plane.width] = values
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def annotation(index: int, simulation: Simulation) -> str:
    """JSON text in the official schema: objects, 128 frames of motion, collisions in them; floats to 4 decimals.

    Before an object comes into the world and after it has left it, it is taken to move straight on.
    """
    positions, velocities = _continued(simulation)
    properties = [
        {"object_id": i, "color": thing.color, "material": thing.material, "shape": thing.shape}
        for i, thing in enumerate(simulation.objects)
    ]
    collisions = []
    for collision in simulation.collisions:
        if collision.frame < OBSERVED_FRAMES:
            pair = [collision.a, collision.b]
            middle = positions[collision.frame, pair].mean(axis=0)
            height = np.mean([HALF_HEIGHT[simulation.objects[i].shape] for i in pair])
            place = [round(float(value), 4) for value in (*middle, height)]
            collisions.append({"object_ids": pair, "frame_id": collision.frame, "location": place})
    return (
        f'{{"scene_index": {index}, "video_filename": "video_{index:05d}.mp4", '
        f'"object_property": {json.dumps(properties)}, '
        f'"motion_trajectory": [{", ".join(_motion(simulation, positions, velocities))}], '
        f'"collision": {json.dumps(collisions)}}}'
    )


def _motion(simulation: Simulation, positions: NDArray[np.float64], velocities: NDArray[np.float64]) -> list[str]:
    """JSON of each observed frame."""
    heights = [HALF_HEIGHT[thing.shape] for thing in simulation.objects]
    angles = np.nan_to_num(simulation.angles[:OBSERVED_FRAMES])
    spins = np.nan_to_num(simulation.angular_velocities[:OBSERVED_FRAMES])
    table = np.concatenate([positions, velocities, angles[..., None], spins[..., None]], axis=-1)
    # Adding 0 makes the negative zero positive.
    rows, visible = (table.round(4) + 0.0).tolist(), simulation.visible.tolist()
    frames = []
    for frame, row in enumerate(rows):
        objects = [
            f'{{"object_id": {i}, "location": [{x}, {y}, {heights[i]}], "orientation": [0.0, 0.0, {angle}], '
            f'"velocity": [{vx}, {vy}, 0.0], "angular_velocity": [0.0, 0.0, {spin}], '
            f'"inside_camera_view": {"true" if visible[frame][i] else "false"}}}'
            for i, (x, y, vx, vy, angle, spin) in enumerate(row)
        ]
        frames.append(f'{{"frame_id": {frame}, "objects": [{", ".join(objects)}]}}')
    return frames


def _continued(simulation: Simulation) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Observed positions and velocities (128, n, 2) without gaps."""
    positions = simulation.positions[:OBSERVED_FRAMES].astype(np.float64)
    velocities = simulation.velocities[:OBSERVED_FRAMES].astype(np.float64)
    frames = np.arange(OBSERVED_FRAMES)
    for i in range(len(simulation.objects)):
        there = np.flatnonzero(simulation.present[:OBSERVED_FRAMES, i])
        nearest = np.clip(frames, there[0], there[-1])
        velocities[:, i] = velocities[nearest, i]
        seconds = (frames - nearest) / FRAME_RATE
        positions[:, i] = positions[nearest, i] + seconds[:, None] * velocities[nearest, i]
    return positions, velocities


def states(split: str, videos: Sequence[Video]) -> dict[str, NDArray[Any]]:
    """The simulator's state of a split, padded to 6 objects (-1, NaN, False).

    Returns:
        scene_index (V,) int64, count (V,) int8; color, material, shape (V, 6) int8 as numbers in the scene's constants;
        positions, velocities (V, 192, 6, 2) float32 and angles (V, 192, 6) float32, NaN while not in the world;
        visible (V, 192, 6) bool; collisions (M, 4) int32 rows (video row, frame, a, b).
        Of the runs without an object: removal_positions (V, 6, 160, 6, 2) float32, removal_visible (V, 6, 160, 6) bool
        (second dimension: the removed object) and removal_collisions (M', 5) int32 rows (video row, removed, frame, a,
        b).
    """
    count = len(videos)
    arrays: dict[str, NDArray[Any]] = {
        "scene_index": FIRST_INDEX[split] + np.arange(count, dtype=np.int64),
        "count": np.array([len(video.setup.objects) for video in videos], np.int8),
        **{name: np.full((count, MAX_OBJECTS), -1, np.int8) for name in ("color", "material", "shape")},
        "positions": np.full((count, FRAMES, MAX_OBJECTS, 2), np.nan, np.float32),
        "velocities": np.full((count, FRAMES, MAX_OBJECTS, 2), np.nan, np.float32),
        "angles": np.full((count, FRAMES, MAX_OBJECTS), np.nan, np.float32),
        "visible": np.zeros((count, FRAMES, MAX_OBJECTS), np.bool_),
        "collisions": _table(
            4, [(v, c.frame, c.a, c.b) for v, k in enumerate(videos) for c in k.simulation.collisions]
        ),
    }
    for row, video in enumerate(videos):
        n = len(video.setup.objects)
        for i, thing in enumerate(video.setup.objects):
            arrays["color"][row, i] = COLORS.index(thing.color)
            arrays["material"][row, i] = MATERIALS.index(thing.material)
            arrays["shape"][row, i] = SHAPES.index(thing.shape)
        for name in ("positions", "velocities", "angles", "visible"):
            arrays[name][row, :, :n] = getattr(video.simulation, name)
    return arrays | _removals(videos)


def _removals(videos: Sequence[Video]) -> dict[str, NDArray[Any]]:
    shape = (len(videos), MAX_OBJECTS, ROLLOUT_FRAMES, MAX_OBJECTS)
    positions, visible = np.full((*shape, 2), np.nan, np.float32), np.zeros(shape, np.bool_)
    collisions = []
    for row, video in enumerate(videos):
        for removed, run in video.removals.items():
            n = len(run.objects)
            positions[row, removed, :, :n] = run.positions
            visible[row, removed, :, :n] = run.visible
            collisions += [(row, removed, c.frame, c.a, c.b) for c in run.collisions]
    return {
        "removal_positions": positions,
        "removal_visible": visible,
        "removal_collisions": _table(5, collisions),
    }


def _table(columns: int, rows: Sequence[tuple[int, ...]]) -> NDArray[np.int32]:
    return np.array(rows, np.int32).reshape(-1, columns)


def _thousands(root: Path, kind: str, split: str, index: int) -> Path:
    first = index // 1000 * 1000
    return root / f"{kind}_{split}" / f"{kind}_{first:05d}-{first + 1000:05d}"


def _archive(arrays: Mapping[str, NDArray[Any]], *, level: int) -> bytes:
    """An npz file; numpy's own writer has no choice of compression level."""
    file = io.BytesIO()
    with zipfile.ZipFile(
        file, "w", zipfile.ZIP_DEFLATED if level else zipfile.ZIP_STORED, compresslevel=level
    ) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            # A fixed date: the same arrays give the same bytes.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue(), archive.compression, level or None)
    return file.getvalue()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
