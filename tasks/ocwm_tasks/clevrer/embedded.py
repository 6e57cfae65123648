"""Reads data that the embedded generator made: the official layout, and beside it the state that it was made from.

Shape letters: V videos, n objects.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocwm.errors import BenchError
from ocwm_tasks.clevrer.dataset import Dataset, Removals, Scenes, Source
from ocwm_tasks.clevrer.generator.render import Motion
from ocwm_tasks.clevrer.json_input import read_json, reading
from ocwm_tasks.clevrer.layout_official import SplitFiles
from ocwm_tasks.clevrer.scene import (
    COLORS,
    MATERIALS,
    OBSERVED_FRAMES,
    ROLLOUT_FRAMES,
    SHAPES,
    Collision,
    ObjectProperty,
    Scene,
)
from ocwm_tasks.clevrer.video import read_frames

MARKER = "embedded.json"
_AGAIN = "Make the data again."


class _States:
    """The arrays of one `states/*.npz`, each read when it is first asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._arrays: dict[str, NDArray[Any]] = {}
        self.rows = {int(index): row for row, index in enumerate(self["scene_index"])}

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._arrays:
            self._arrays[name] = _read_npz(self.path, name)
        return self._arrays[name]

    def collisions(self, name: str) -> dict[int, NDArray[Any]]:
        """Rows of a table of collisions by video row, without that column."""
        table = self[name]
        table = table[np.argsort(table[:, 0], kind="stable")]
        videos, starts = np.unique(table[:, 0], return_index=True)
        return {int(v): part[:, 1:] for v, part in zip(videos, np.split(table, starts[1:]), strict=False)}


class EmbeddedDataset(Dataset):
    """A folder that the embedded generator wrote: also the future of each video, masks, and what removals do."""

    kind = "embedded"

    def __init__(self, root: Path, *, files: Mapping[str, SplitFiles]) -> None:
        super().__init__(root, files=files)
        self._states: dict[str, _States] = {}

    def sources(self, split: str) -> tuple[Source, ...]:  # noqa: D102
        self.files(split)
        return ("annotation",)

    def scenes(self, split: str, *, source: Source = "annotation", future: bool = False) -> Scenes:
        """Return the scenes of a split from the simulator's state, which is what the annotations were written from.

        There may be more of them than rendered videos.
        """
        if source not in self.sources(split):
            raise BenchError(f"{self.root} has no {source} for split '{split}'", "Its source is: annotation.")
        states = self._state(split)
        collisions = states.collisions("collisions")
        length = ROLLOUT_FRAMES if future else OBSERVED_FRAMES

        def load(index: int) -> Scene:
            row = states.rows[index]
            n = int(states["count"][row])
            return Scene(
                index=index,
                objects=_objects(states, row),
                frames=np.arange(length, dtype=np.int64),
                positions=states["positions"][row, :length, :n],
                visible=states["visible"][row, :length, :n],
                collisions=_collisions(collisions.get(row), before=length),
                coordinates="world",
                velocities=states["velocities"][row, :length, :n],
            )

        return Scenes(tuple(states.rows), load)

    def skipped(self, split: str) -> dict[int, str]:  # noqa: D102
        self.files(split)
        return {}

    def removals(self, split: str) -> list[Removals]:  # noqa: D102
        states = self._state(split)
        with np.load(states.path) as archive:
            if "removal_positions" not in archive.files:
                return []
        table = states.collisions("removal_collisions")
        return [self._removal(states, index, table.get(row)) for index, row in states.rows.items()]

    def motion(self, split: str, index: int) -> Motion:
        """Return what the pictures of a video depend on, rendered or not, for frames 0..159."""
        states = self._state(split)
        row = states.rows[index]
        n = int(states["count"][row])
        positions, angles = (states[name][row, :ROLLOUT_FRAMES, :n] for name in ("positions", "angles"))
        return Motion(_objects(states, row), positions, angles)

    def frame_size(self) -> tuple[int, int]:
        """Return height and width of the pictures, rendered or not.

        Raises:
            BenchError: the description of the data does not say it.
        """
        path = self.root / MARKER
        with reading(path, "description of generated data"):
            width = int(self.generator()["config"]["width"])
            return width // 3 * 2, width

    def future_frames(self, split: str, index: int) -> NDArray[np.uint8]:
        """Decode frames 128..159 of a rendered video, (32, H, W, 3) RGB.

        Raises:
            BenchError: the video is missing, can't be decoded or has another length.
        """
        self.files(split)
        path = self.root / "future" / split / f"video_{index:05d}.mp4"
        return read_frames(path, length=ROLLOUT_FRAMES - OBSERVED_FRAMES)

    def masks(self, split: str, index: int) -> NDArray[np.uint8]:
        """Return which object is seen where in a rendered video: (160, H, W), 0 background, column + 1 for objects.

        Raises:
            BenchError: the file is missing or damaged.
        """
        self.files(split)
        masks: NDArray[np.uint8] = _read_npz(self.root / "masks" / split / f"mask_{index:05d}.npz", None)
        return masks

    def generator(self) -> dict[str, Any]:  # noqa: D102
        path = self.root / MARKER
        description = read_json(path)
        with reading(path, "description of generated data"):
            for name in ("name", "version", "config"):
                if name not in description:
                    raise KeyError(name)
            return {name: value for name, value in description.items() if name != "files"}

    def _state(self, split: str) -> _States:
        self.files(split)
        if split not in self._states:
            self._states[split] = _States(self.root / "states" / f"{split}.npz")
        return self._states[split]

    def _removal(self, states: _States, index: int, table: NDArray[Any] | None) -> Removals:
        row = states.rows[index]
        n = int(states["count"][row])
        table = np.zeros((0, 4), np.int32) if table is None else table
        positions = states["removal_positions"][row, :n, :, :n].astype(np.float32, copy=False)
        simulated = np.flatnonzero(np.isfinite(positions).any(axis=(1, 2, 3))).tolist()
        return Removals(
            index=index,
            collisions={
                removed: _collisions(table[table[:, 0] == removed, 1:], before=ROLLOUT_FRAMES) for removed in simulated
            },
            positions=positions,
            visible=states["removal_visible"][row, :n, :, :n],
        )


def _objects(states: _States, row: int) -> tuple[ObjectProperty, ...]:
    columns = range(int(states["count"][row]))
    color, material, shape = (states[name][row] for name in ("color", "material", "shape"))
    return tuple(ObjectProperty(COLORS[color[i]], MATERIALS[material[i]], SHAPES[shape[i]]) for i in columns)


def _collisions(rows: NDArray[Any] | None, *, before: int) -> tuple[Collision, ...]:
    """Collisions of rows (frame, a, b) up to a frame."""
    if rows is None:
        return ()
    found = (Collision(frame, *sorted(pair)) for frame, *pair in rows.tolist() if frame < before)
    return tuple(sorted(found, key=lambda c: (c.frame, c.a, c.b)))


def _read_npz(path: Path, name: str | None) -> NDArray[Any]:
    """Read one array of an npz file; None: the only one."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            array: NDArray[Any] = archive[name or archive.files[0]]
            return array
    except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile) as error:
        raise BenchError(f"can't read {name or 'the array'} of {path}: {error}", _AGAIN) from error
