"""Slots of whole videos on disk: a memory-mapped store, made once from a published slot pickle of any size.

A store is a folder with `slots.f32` (the videos of all splits one after the other, little-endian float32) and
`index.json` (shape, the videos of each split in the pickle's order, sha256 of the pickle). Processes that open the
same store share its pages.

Shape letters: V videos, T frames, N slots, D slot dimension.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ocwm.artifacts import Cache
from ocwm.errors import BenchError, suggest
from ocwm.progress import say
from ocwm.unpickle import stream_arrays

STAGE = "slots_store"
SPLIT_NAMES = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
KeyStyle = Literal["video", "pixels"]

_FORMAT = 1
_DATA, _INDEX = "slots.f32", "index.json"
_KEYS: dict[KeyStyle, re.Pattern[str]] = {
    "video": re.compile(r"(?:.*/)?video_(\d+)\.mp4"),
    "pixels": re.compile(r"(?:.*/)?(\d+)_pixels\.mp4"),
}
_LAYOUT = "Expected {'train': {'video_00000.mp4' or '0_pixels.mp4': float array (T, N, D)}, 'val': ..., 'test': ...}."
_EDGE = 1 << 20  # bytes at both ends of a pickle that tell it from another one of the same size and time


@dataclass(frozen=True)
class SlotSplit:
    """The slots of one split.

    Attributes:
        slots: (V, T, N, D) float32, read-only and memory-mapped.
        videos: (V,) int64 index of each video in the data set, in the order of the pickle.
    """

    slots: NDArray[np.float32]
    videos: NDArray[np.int64]


class SlotStore:
    """A store on disk. `shape` is (T, N, D); `identity` the sha256 of the pickle that it was made from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
            if index["format"] != _FORMAT:
                raise BenchError(f"the slot store {folder} has format {index['format']}, expected {_FORMAT}")
            frames, slots, width = index["shape"]
            self._splits: dict[str, dict[str, Any]] = index["splits"]
            self.keys: KeyStyle = index["keys"]
            self.identity: str = index["sha256"]
            videos = sum(len(split["videos"]) for split in self._splits.values())
            size = (folder / _DATA).stat().st_size
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BenchError(f"the slot store {folder} can't be read ({error})", "Make it again.") from error
        self.shape: tuple[int, int, int] = (frames, slots, width)
        if size != (expected := 4 * videos * frames * slots * width):
            message = f"the slot store {folder} is damaged: {_DATA} has {size} bytes instead of {expected}"
            raise BenchError(message, "Make it again.")

    @classmethod
    def open(cls, path: Path, *, cache: Cache, rebuild: bool = False) -> SlotStore:
        """Open a store, or a slot pickle, which is converted into the cache when it is met for the first time.

        The conversion walks the pickle in constant memory; only one process does it, the others wait for it.

        Raises:
            BenchError: the file is no slot pickle (damaged, truncated, a foreign class, arrays of several shapes).
        """
        if path.is_dir():
            return cls(path)

        def build(folder: Path) -> None:
            say(f"{path} is met for the first time: converting it into a memory-mapped store")
            convert(path, folder)

        return cls(cache.stage(STAGE, _fingerprint(path), build, rebuild=rebuild))

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits: of train, validation and test."""
        return tuple(self._splits)

    def split(self, name: str) -> SlotSplit:
        """Return the slots of a split.

        Raises:
            BenchError: there is no such split.
        """
        if name not in self._splits:
            raise BenchError(f"the slots of {self.folder} have no split '{name}'", suggest(name, self._splits))
        split = self._splits[name]
        videos = np.asarray(split["videos"], np.int64)
        shape = (len(videos), *self.shape)
        if not len(videos):
            return SlotSplit(np.zeros(shape, np.float32), videos)
        offset = 4 * split["start"] * int(np.prod(self.shape))
        slots: NDArray[np.float32] = np.memmap(
            self.folder / _DATA, dtype="<f4", mode="r", offset=offset, shape=shape, order="C"
        )
        return SlotSplit(slots, videos)

    def expect(self, *, num_slots: int, slot_dim: int, frames: Sequence[int]) -> None:
        """Compare with the configuration.

        Raises:
            BenchError: the number of slots, their width or the length of the videos is another one.
        """
        found_frames, found_slots, found_dim = self.shape
        if (found_slots, found_dim) != (num_slots, slot_dim):
            raise BenchError(
                f"the slots of {self.folder} are {found_slots} x {found_dim} (slots x width), "
                f"but the configuration says {num_slots} x {slot_dim}",
                f"Set encoder.num_slots={found_slots} and encoder.slot_dim={found_dim}, or give other slots.",
            )
        if found_frames not in frames:
            wanted = " or ".join(map(str, frames))
            raise BenchError(f"the slots of {self.folder} have {found_frames} frames a video, expected {wanted}")


class _Hashing(io.RawIOBase):
    """Computes the sha256 of a file that is read from start to end."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = self._file.readinto(buffer)
        self.sha256.update(buffer[:size])
        return size


class _Writer:
    """Writes each array of a pickle as it is met; the row number stands for it from then on."""

    def __init__(self, file: IO[bytes], *, where: str) -> None:
        self._file = file
        self._where = where
        self.rows = 0
        self.shape: tuple[int, ...] | None = None

    def __call__(self, name: str | None, array: NDArray[Any]) -> int:
        label = f"{self._where}: the array '{name}'" if name else f"{self._where}: array {self.rows}"
        if array.dtype.kind != "f":
            raise BenchError(f"{label} has dtype {array.dtype}, expected float32", _LAYOUT)
        if array.ndim != 3 or 0 in array.shape:
            raise BenchError(f"{label} has shape {array.shape}, expected (frames, slots, width)", _LAYOUT)
        if self.shape is None:
            self.shape = array.shape
        if array.shape != self.shape:
            raise BenchError(f"{label} has shape {array.shape}, but the arrays before it have {self.shape}")
        values = np.ascontiguousarray(array, "<f4")
        if not np.isfinite(values).all():
            raise BenchError(f"{label} holds values that are not finite")
        self._file.write(values.data)
        self.rows += 1
        return self.rows - 1


def convert(path: Path, folder: Path) -> None:
    """Write the store of a slot pickle into an empty folder, in constant memory.

    Raises:
        BenchError: see `SlotStore.open`.
    """
    size = path.stat().st_size
    with path.open("rb", buffering=0) as raw, (folder / _DATA).open("wb") as data:
        hashing = _Hashing(raw)
        writer = _Writer(data, where=str(path))
        with io.BufferedReader(hashing, buffer_size=1 << 16) as file:
            tree = stream_arrays(file, size=size, where=str(path), sink=writer)
            while file.read(1 << 16):  # what follows the pickle is part of the file's sha256
                pass
    if writer.shape is None:
        raise BenchError(f"{path} holds no slots", _LAYOUT)
    splits, keys = _index(tree, where=str(path))
    order = [row for _, rows in splits.values() for row in rows]
    if order != list(range(writer.rows)):  # two names for one array, or splits that are mixed
        _reorder(folder / _DATA, order, shape=(writer.rows, *writer.shape))
    start = 0
    listed = {}
    for name, (videos, rows) in splits.items():
        listed[name] = {"start": start, "videos": videos}
        start += len(rows)
    index = {
        "format": _FORMAT,
        "shape": writer.shape,
        "keys": keys,
        "splits": listed,
        "source": path.name,
        "bytes": size,
        "sha256": hashing.sha256.hexdigest(),
    }
    (folder / _INDEX).write_text(json.dumps(index), encoding="utf-8")


def _index(tree: Any, *, where: str) -> tuple[dict[str, tuple[list[int], list[int]]], KeyStyle]:
    """Return videos and rows of each split, and how the videos are named."""
    if not isinstance(tree, dict) or not all(isinstance(split, dict) for split in tree.values()):
        raise BenchError(f"{where} holds no splits", _LAYOUT)
    splits: dict[str, tuple[list[int], list[int]]] = {}
    style: KeyStyle | None = None
    for split, entries in tree.items():
        name = SPLIT_NAMES.get(split)
        if name is None or name in splits:
            raise BenchError(f"{where} holds the split {split!r}, expected train, val and test once each", _LAYOUT)
        videos: list[int] = []
        for key, row in entries.items():
            if type(row) is not int:
                raise BenchError(f"{where}: ['{split}'][{key!r}] is no array", _LAYOUT)
            style = style or next((s for s, pattern in _KEYS.items() if pattern.fullmatch(str(key))), None)
            match = _KEYS[style].fullmatch(str(key)) if style else None
            if match is None:
                raise BenchError(
                    f"{where}: ['{split}'][{key!r}] does not name a video like the keys before it", _LAYOUT
                )
            videos.append(int(match[1]))
        if len(set(videos)) != len(videos):
            raise BenchError(f"{where}: the split '{split}' names a video twice")
        splits[name] = (videos, list(entries.values()))
    assert style is not None  # an array without a key would not be an entry of a dict
    return splits, style


def _reorder(path: Path, order: list[int], *, shape: tuple[int, ...]) -> None:
    rows = np.memmap(path, dtype="<f4", mode="r", shape=shape)
    sorted_path = path.with_suffix(".sorted")
    with sorted_path.open("wb") as file:
        for row in order:
            file.write(np.ascontiguousarray(rows[row]).data)
    del rows
    sorted_path.replace(path)


def _fingerprint(path: Path) -> dict[str, Any]:
    """Tell a pickle from others without reading all of it."""
    try:
        stat = path.stat()
        with path.open("rb") as file:
            edges = hashlib.sha256(file.read(_EDGE))
            file.seek(max(stat.st_size - _EDGE, 0))
            edges.update(file.read(_EDGE))
    except OSError as error:
        raise BenchError(f"can't read the slots {path}: {error.strerror}", "Check the path.") from error
    return {"format": _FORMAT, "size": stat.st_size, "mtime": stat.st_mtime_ns, "edges": edges.hexdigest()}
