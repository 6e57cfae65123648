"""Writes slots and rollouts as the published pickles have them, one video at a time.

Shape letters: T frames, N slots, D slot dimension.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ocwm.errors import BenchError
from ocwm_tasks.clevrer.slots_store import KeyStyle

Videos = Iterable[tuple[int, NDArray[np.float32]]]

_SPLITS = {"train": "train", "validation": "val", "test": "test"}  # as the published files name them
_RECONSTRUCT, _NDARRAY, _DTYPE, _CODE = range(4)  # memo entries that every array refers to


def write_pickle(path: Path, splits: Mapping[str, Videos], *, keys: KeyStyle) -> None:
    """Write `{'train': {name: array}, 'val': ..., 'test': ...}`, float32, pickle protocol 4, in constant memory.

    The operations are written by hand, so that no array has to stay in memory. The names in them are numpy 1's, which
    numpy 2 knows as well.

    Args:
        path: replaced when the file is complete.
        splits: for train, validation and test (those that there are), the index and the slots (T, N, D) of each video.
        keys: "video" names videos like 'video_00000.mp4', "pixels" like '0_pixels.mp4'.

    Raises:
        BenchError: an unknown split, or an array that is not (T, N, D).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            _write(file, splits, keys=keys)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write(file: IO[bytes], splits: Mapping[str, Videos], *, keys: KeyStyle) -> None:
    file.write(pickle.PROTO + b"\x04")
    for entry, (module, name) in {
        _RECONSTRUCT: ("numpy.core.multiarray", "_reconstruct"),
        _NDARRAY: ("numpy", "ndarray"),
    }.items():
        file.write(_text(module) + _text(name) + pickle.STACK_GLOBAL + _put(entry) + pickle.POP)
    file.write(_text("numpy") + _text("dtype") + pickle.STACK_GLOBAL)
    file.write(_text("f4") + pickle.NEWFALSE + pickle.NEWTRUE + pickle.TUPLE3 + pickle.REDUCE + _put(_DTYPE))
    file.write(pickle.MARK + _number(3) + _text("<") + 3 * pickle.NONE + 2 * _number(-1) + _number(0))
    file.write(pickle.TUPLE + pickle.BUILD + pickle.POP)
    file.write(pickle.SHORT_BINBYTES + b"\x01b" + _put(_CODE) + pickle.POP)
    file.write(pickle.EMPTY_DICT)
    for split, videos in splits.items():
        if split not in _SPLITS:
            raise BenchError(f"slots of an unknown split '{split}'", f"Known: {', '.join(_SPLITS)}.")
        file.write(_text(_SPLITS[split]) + pickle.EMPTY_DICT)
        for video, slots in videos:
            if slots.ndim != 3:
                raise BenchError(
                    f"the slots of video {video} have shape {slots.shape}, expected (frames, slots, width)"
                )
            file.write(_text(f"video_{video:05d}.mp4" if keys == "video" else f"{video}_pixels.mp4"))
            _write_array(file, slots)
            file.write(pickle.SETITEM)
        file.write(pickle.SETITEM)
    file.write(pickle.STOP)


def _write_array(file: IO[bytes], array: NDArray[np.float32]) -> None:
    data = np.ascontiguousarray(array, "<f4").data.cast("B")
    file.write(_get(_RECONSTRUCT) + _get(_NDARRAY) + _number(0) + pickle.TUPLE1 + _get(_CODE))
    file.write(pickle.TUPLE3 + pickle.REDUCE + pickle.MARK + _number(1))
    file.write(pickle.MARK + b"".join(map(_number, array.shape)) + pickle.TUPLE + _get(_DTYPE) + pickle.NEWFALSE)
    file.write(pickle.BINBYTES8 + len(data).to_bytes(8, "little"))
    file.write(data)
    file.write(pickle.TUPLE + pickle.BUILD)


def _text(text: str) -> bytes:
    data = text.encode()
    return pickle.BINUNICODE + len(data).to_bytes(4, "little") + data


def _number(value: int) -> bytes:
    return pickle.BININT + value.to_bytes(4, "little", signed=True)


def _put(entry: int) -> bytes:
    return pickle.BINPUT + bytes([entry])


def _get(entry: int) -> bytes:
    return pickle.BINGET + bytes([entry])
