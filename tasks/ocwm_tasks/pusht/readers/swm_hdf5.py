"""stable-worldmodel's Push-T sets as HDF5: flat columns of all rows, `ep_len` and `ep_offset` for each episode.

pusht_expert_train.h5     action (F, 2), state (F, 7), pixels (F, H, W, 3) or (F, 3, H, W), ...
pusht_expert_val.h5       optional
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocwm.artifacts import digest
from ocwm.errors import BenchError
from ocwm_tasks.pusht.episodes import Episodes
from ocwm_tasks.pusht.readers.data_set import PushtData
from ocwm_tasks.pusht.readers.stored_frames import ArrayFrames
from ocwm_tasks.pusht.readers.swm_columns import COLUMNS, build_episodes, check_width, episode_ids

SUFFIXES = (".h5", ".hdf5")
_HINT = "It may be truncated, or no data set of stable-worldmodel: copy or download it again."


def find_hdf5(root: Path) -> dict[str, Path]:
    """Return the file of each split: a single file is train, of several those with train and val in their names."""
    if root.is_file():
        return {"train": root} if root.suffix in SUFFIXES else {}
    files = sorted(path for path in root.iterdir() if path.suffix in SUFFIXES)
    if len(files) == 1:
        return {"train": files[0]}
    named = {split: [path for path in files if split in path.stem.lower()] for split in ("train", "val")}
    return {split: paths[0] for split, paths in named.items() if len(paths) == 1}


class SwmHdf5Data(PushtData):
    """HDF5 files of one data set."""

    kind = "swm_hdf5"

    @cached_property
    def _files(self) -> Mapping[str, Path]:
        return find_hdf5(self.root)

    @property
    def origins(self) -> tuple[str, ...]:
        """Of train and val."""
        return tuple(self._files)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files."""
        return tuple(self._files.values())

    @property
    def contents(self) -> tuple[Path, ...]:
        """None: the files hold the frames too; `identity` takes the columns instead."""
        return ()

    @cached_property
    def identity(self) -> dict[str, str]:
        """From states, actions and episode lengths, and the sizes of the files."""
        contents = {origin: self.origin(origin).manifest for origin in self.origins}
        return {"kind": self.kind, "name": "pusht", "manifest": digest(contents)}

    def read(self, origin: str) -> Episodes:
        """Read a split; its frames stay in the file."""
        path = self._files[origin]
        with _open(path) as file:
            missing = [name for name in (*COLUMNS, "ep_len", "ep_offset") if name not in file]
            if missing:
                raise BenchError(f"{path} lacks the column '{missing[0]}'; it has {', '.join(sorted(file))}", _HINT)
            lengths = np.asarray(file["ep_len"][:], dtype=np.int64).reshape(-1)
            firsts = np.asarray(file["ep_offset"][:], dtype=np.int64).reshape(-1)
            rows = len(file["state"])
            if len(lengths) != len(firsts) or not len(lengths) or lengths.min() < 1 or (firsts + lengths).max() > rows:
                raise BenchError(f"{path}: ep_len and ep_offset do not fit its {rows} rows", _HINT)
            order = np.concatenate(
                [np.arange(first, first + length) for first, length in zip(firsts, lengths, strict=True)]
            )
            columns = {}
            for name in COLUMNS:
                check_width(str(path), name, file[name].shape)
                columns[name] = _read(file[name], path)[order]
            pixels = "pixels" in file
        ids = episode_ids(len(lengths), origin)
        source = None
        if pixels:
            of_ids = dict(zip(ids.tolist(), firsts.tolist(), strict=True))
            identity = digest({"size": path.stat().st_size})
            source = ArrayFrames(lambda start, stop: _frames(path, start, stop), of_ids, identity=identity)
        return build_episodes(
            columns["state"], columns["action"], lengths, kind=self.kind, origin=origin, source=source
        )


def _open(path: Path) -> Any:
    import h5py

    if importlib.util.find_spec("hdf5plugin"):
        import hdf5plugin  # noqa: F401  (registers the filters that published files are compressed with)
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise BenchError(f"can't read {path} ({error})", _HINT) from error


def _read(column: Any, path: Path, start: int = 0, stop: int | None = None) -> NDArray[Any]:
    try:
        return np.asarray(column[start:stop])
    except OSError as error:
        raise BenchError(
            f"can't decode '{column.name}' of {path} ({error})",
            "If it is compressed with a plugin: pip install hdf5plugin",
        ) from error


def _frames(path: Path, start: int, stop: int) -> NDArray[np.uint8]:
    with _open(path) as file:
        frames = _read(file["pixels"], path, start, stop)
    if frames.ndim != 4 or frames.dtype != np.uint8 or 3 not in (frames.shape[1], frames.shape[3]):
        raise BenchError(f"{path}: 'pixels' are {frames.dtype} {frames.shape[1:]}, expected uint8 images", _HINT)
    return np.ascontiguousarray(frames if frames.shape[3] == 3 else frames.transpose(0, 2, 3, 1))
