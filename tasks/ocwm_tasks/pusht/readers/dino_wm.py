"""DINO-WM's `pusht_noise` (arXiv 2411.04983).

    train/states.pth         (n, 246, 5): agent x, y, block x, y, angle; padded
    train/velocities.pth     (n, 246, 2): of the agent
    train/rel_actions.pth    (n, 246, 2): target minus agent position, in px
    train/seq_lengths.pkl    n rows that are no padding
    train/obses/episode_000.mp4      224 px; numbers of at least three digits
    val/                     the same

Shape letters: n episodes, F rows of all episodes.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocwm.errors import BenchError
from ocwm.unpickle import load_pickle, load_torch
from ocwm_tasks.pusht.episodes import Episodes
from ocwm_tasks.pusht.readers.data_set import VAL_IDS, PushtData
from ocwm_tasks.pusht.readers.stored_frames import VideoFrames
from ocwm_tasks.pusht.state import ACTION_SCALE, ANGLE, wrap

_ARRAYS = {"states": 5, "velocities": 2, "rel_actions": 2}
_LENGTHS = "seq_lengths.pkl"


class DinoWmData(PushtData):
    """`pusht_noise`, or either of its two folders beside a missing one."""

    kind = "dino_wm"
    notes = (
        "The environment that recorded it lets 0.01 s pass at a reset: use the published reset to replay from recorded rows.",
    )

    @cached_property
    def origins(self) -> tuple[str, ...]:
        """Of train and val."""
        return tuple(name for name in ("train", "val") if (self.root / name / "states.pth").is_file())

    @property
    def contents(self) -> tuple[Path, ...]:
        """Arrays and lengths."""
        names = (*(f"{name}.pth" for name in _ARRAYS), _LENGTHS)
        return tuple(self.root / origin / name for origin in self.origins for name in names)

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """Arrays, lengths and videos."""
        videos = (sorted((self.root / origin / "obses").glob("episode_*.mp4")) for origin in self.origins)
        return (*self.contents, *(path for paths in videos for path in paths))

    def read(self, origin: str) -> Episodes:
        """Read a split."""
        folder = self.root / origin
        lengths = _lengths(folder / _LENGTHS)
        arrays = {name: _array(folder / f"{name}.pth", width, lengths) for name, width in _ARRAYS.items()}
        known = np.arange(arrays["states"].shape[1]) < lengths[:, None]  # not padding
        states = np.concatenate([arrays["states"][known], arrays["velocities"][known]], axis=1).astype(np.float64)
        states[:, ANGLE] = wrap(states[:, ANGLE])
        ids = np.arange(len(lengths)) + (VAL_IDS if origin == "val" else 0)
        videos = folder / "obses"
        source = None
        if videos.is_dir():
            paths = {int(episode): videos / f"episode_{number:03d}.mp4" for number, episode in enumerate(ids)}
            source = VideoFrames(paths, dict(zip(ids.tolist(), lengths.tolist(), strict=True)))
        return Episodes(
            states,
            (arrays["rel_actions"][known] / ACTION_SCALE).astype(np.float32),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            ids,
            source=source,
            about={"kind": self.kind, "split": origin, "velocities": "recorded", "exact_replay": False},
        )


def _lengths(path: Path) -> NDArray[np.int64]:
    loaded = load_pickle(path)
    try:
        lengths = np.asarray(loaded, dtype=np.int64)
    except (TypeError, ValueError) as error:
        raise BenchError(f"{path} holds no list of lengths ({error})", "Copy or download it again.") from error
    if lengths.ndim != 1 or not len(lengths) or lengths.min() < 1:
        raise BenchError(f"{path} holds no list of lengths of at least 1", "Copy or download it again.")
    return lengths


def _array(path: Path, width: int, lengths: NDArray[np.int64]) -> NDArray[np.float32]:
    tensor: Any = load_torch(path)
    shape = tuple(getattr(tensor, "shape", ()))
    if len(shape) != 3 or shape[0] != len(lengths) or shape[1] < lengths.max() or shape[2] != width:
        raise BenchError(
            f"{path} has shape {shape}, expected ({len(lengths)}, at least {lengths.max()}, {width})",
            "All files of a split must be of one download.",
        )
    return np.asarray(tensor.float().numpy(), dtype=np.float32)
