"""stable-worldmodel's Push-T sets as C-JEPA used them: a table in arrow files and a video for each episode.

    pusht_expert_train/data-00000-of-00001.arrow     episode_idx, step_idx, action, state, pixels (path of the video)
    pusht_expert_train/videos/0_pixels.mp4
    pusht_expert_val/                                 optional

Tables may lie in several folders (shards) below; their episodes are numbered one after the other. Reading them needs pyarrow.

Shape letters: F rows of all episodes.
"""

from __future__ import annotations

import importlib.util
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocwm.errors import BenchError
from ocwm_tasks.pusht.episodes import Episodes
from ocwm_tasks.pusht.readers.data_set import PushtData
from ocwm_tasks.pusht.readers.stored_frames import VideoFrames
from ocwm_tasks.pusht.readers.swm_columns import COLUMNS, build_episodes, check_width, episode_ids

_HINT = "It may be truncated, or no data set of stable-worldmodel: copy or download it again."


def find_arrow(root: Path) -> dict[str, Path]:
    """Return the folder of each split: those below with train and val in their names, or the root itself."""
    if any(root.glob("*.arrow")):
        return {"train": root}
    found = {}
    for split in ("train", "val"):
        folders = [path for path in sorted(root.iterdir()) if path.is_dir() and split in path.name.lower()]
        with_tables = [path for path in folders if next(path.rglob("*.arrow"), None)]
        if len(with_tables) == 1:
            found[split] = with_tables[0]
    return found


class SwmArrowData(PushtData):
    """Arrow tables and videos."""

    kind = "swm_arrow"

    @cached_property
    def _folders(self) -> dict[str, Path]:
        return find_arrow(self.root)

    @property
    def origins(self) -> tuple[str, ...]:
        """Of train and val."""
        return tuple(self._folders)

    @cached_property
    def contents(self) -> tuple[Path, ...]:
        """The tables."""
        return tuple(path for folder in self._folders.values() for path in sorted(folder.rglob("*.arrow")))

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """Tables and videos."""
        videos = (path for folder in self._folders.values() for path in sorted(folder.rglob("*.mp4")))
        return (*self.contents, *videos)

    def read(self, origin: str) -> Episodes:
        """Read a split; its frames stay in the videos."""
        tables = sorted(self._folders[origin].rglob("*.arrow"))
        numbers, steps, videos = [], [], []
        columns: dict[str, list[NDArray[Any]]] = {name: [] for name in COLUMNS}
        first = 0
        for folder in sorted({path.parent for path in tables}):
            read = [_read_table(path) for path in tables if path.parent == folder]
            shard = {name: np.concatenate([table[name] for table in read]) for name in read[0]}
            numbers.append(shard["episode_idx"] + first)
            steps.append(shard["step_idx"])
            videos += [folder / name for name in shard["pixels"].tolist()]
            for name, parts in columns.items():
                parts.append(shard[name])
            first = int(numbers[-1].max()) + 1
        number, step = np.concatenate(numbers), np.concatenate(steps)
        order = np.lexsort((step, number))
        _, firsts, lengths = np.unique(number[order], return_index=True, return_counts=True)
        expected = np.concatenate([np.arange(length) for length in lengths])
        if not np.array_equal(step[order], expected):
            row = int(np.flatnonzero(step[order] != expected)[0])
            raise BenchError(
                f"{self._folders[origin]}: episode {number[order][row]} lacks step {expected[row]}, or has it twice",
                _HINT,
            )
        ids = episode_ids(len(lengths), origin).tolist()
        paths = {episode: videos[order[row]] for episode, row in zip(ids, firsts, strict=True)}
        return build_episodes(
            np.concatenate(columns["state"])[order],
            np.concatenate(columns["action"])[order],
            lengths.astype(np.int64),
            kind=self.kind,
            origin=origin,
            source=VideoFrames(paths, dict(zip(ids, lengths.tolist(), strict=True))),
        )


def _read_table(path: Path) -> dict[str, NDArray[Any]]:
    """Return the columns of one arrow file."""
    if importlib.util.find_spec("pyarrow") is None:
        raise BenchError(
            f"{path} is an arrow table, and pyarrow is not installed", "Run: pip install 'ocwm-bench[pusht-arrow]'"
        )
    import pyarrow

    try:
        with pyarrow.memory_map(str(path)) as source:
            try:
                table = pyarrow.ipc.open_stream(source).read_all()
            except pyarrow.ArrowInvalid:
                table = pyarrow.ipc.open_file(source).read_all()
            missing = [
                name for name in (*COLUMNS, "episode_idx", "step_idx", "pixels") if name not in table.column_names
            ]
            if missing:
                raise BenchError(
                    f"{path} lacks the column '{missing[0]}'; it has {', '.join(table.column_names)}", _HINT
                )
            columns = {name: _numbers(table[name], path, name) for name in COLUMNS}
            for name in ("episode_idx", "step_idx"):
                columns[name] = np.array(table[name].to_numpy(), dtype=np.int64)
            columns["pixels"] = np.array(table["pixels"].to_pylist(), dtype=np.str_)
    except (pyarrow.ArrowException, OSError) as error:
        raise BenchError(f"can't read {path} ({error})", _HINT) from error
    return columns


def _numbers(column: Any, path: Path, name: str) -> NDArray[Any]:
    """A column of lists of equal length as an array (F, width)."""
    flat = column.combine_chunks().flatten()
    rows = len(column)
    width = len(flat) // rows if rows else 0
    check_width(str(path), name, (rows, width))
    return np.array(flat.to_numpy(zero_copy_only=False), dtype=np.float64).reshape(rows, width)
