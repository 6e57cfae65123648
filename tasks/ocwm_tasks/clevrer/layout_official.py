"""Finds the files of the official CLEVRER layout, in the variants that are in use.

    video_train/video_00000-01000/video_00000.mp4        or videos/train/..., with or without the thousand-folders
    annotation_train/annotation_00000-01000/annotation_00000.json        or annotations/train/...
    questions/train.json
    trajectories/sim_10000.json         estimated trajectories, of any split (optional)

`validation` may be called `val` everywhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ocwm.errors import BenchError

SPLITS = ("train", "validation", "test")
LAYOUT = (
    "Expected video_train/ (or videos/train/), annotation_train/ (or annotations/train/) and questions/train.json, "
    "the same for validation (or val) and test, or a folder that `bench data make` wrote."
)
_ALIASES = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}
_FIRST_INDEX = {"test": 15000, "validation": 10000, "train": 0}  # official numbers of the first video
_THOUSAND = re.compile(r"\w+_\d+-\d+")


@dataclass(frozen=True)
class SplitFiles:
    """What there is of one split; dictionaries are from video index to file, sorted by index."""

    videos: Mapping[int, Path] = field(default_factory=dict)
    annotations: Mapping[int, Path] = field(default_factory=dict)
    trajectories: Mapping[int, Path] = field(default_factory=dict)
    questions: Path | None = None

    def __bool__(self) -> bool:
        return bool(self.videos or self.annotations or self.trajectories or self.questions)


def find_files(root: Path) -> dict[str, SplitFiles]:
    """Return the files of each split that has any.

    Raises:
        BenchError: the root is missing, unreadable or holds nothing of the layout, or a file is there twice.
    """
    try:
        with os.scandir(root):  # fails where the root itself can't be read
            pass
        trajectories = _numbered(root / "trajectories", "sim", "json")
        files = {name: _split_files(root, name, trajectories) for name in SPLITS}
    except FileNotFoundError as error:
        raise BenchError(f"the data folder {root} does not exist", "Set task.root to a folder of data.") from error
    except NotADirectoryError as error:
        raise BenchError(f"{error.filename} is no folder", "Set task.root to a folder of data.") from error
    except PermissionError as error:
        raise BenchError(f"can't read {error.filename}: permission denied", "Check its permissions.") from error
    found = {name: split for name, split in files.items() if split}
    if not found:
        raise BenchError(f"{root} holds no CLEVRER data", LAYOUT)
    return found


def split_of(index: int) -> str:
    """Return the split that an official video number belongs to."""
    return next(name for name, first in _FIRST_INDEX.items() if index >= first)


def _split_files(root: Path, name: str, trajectories: Mapping[int, Path]) -> SplitFiles:
    questions = [path for alias in _ALIASES[name] if (path := root / "questions" / f"{alias}.json").is_file()]
    return SplitFiles(
        videos=_numbered(_folder(root, "video", name), "video", "mp4"),
        annotations=_numbered(_folder(root, "annotation", name), "annotation", "json"),
        trajectories={index: path for index, path in trajectories.items() if split_of(index) == name},
        questions=_only_one(questions),
    )


def _folder(root: Path, what: str, name: str) -> Path | None:
    places = [root / place for alias in _ALIASES[name] for place in (f"{what}_{alias}", f"{what}s/{alias}")]
    return _only_one([place for place in places if place.is_dir()])


def _only_one(paths: list[Path]) -> Path | None:
    if len(paths) > 1:
        raise BenchError(f"{paths[0]} and {paths[1]} are both there", "Keep one of them.")
    return paths[0] if paths else None


def _numbered(folder: Path | None, prefix: str, suffix: str) -> dict[int, Path]:
    """Find `prefix_00000.suffix` in the folder and in its thousand-folders."""
    found: dict[int, Path] = {}
    pattern = re.compile(rf"{prefix}_(\d+)\.{suffix}")
    if folder is None or not folder.is_dir():
        return found
    for path in _walk(folder):
        if match := pattern.fullmatch(path.name):
            if (index := int(match[1])) in found:
                raise BenchError(f"{path} and {found[index]} are both there", "Keep one of them.")
            found[index] = path
    return dict(sorted(found.items()))


def _walk(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            # Folders of single frames, one for each video, are no thousand-folders: they are passed over.
            if _THOUSAND.fullmatch(entry.name) and entry.is_dir():
                yield from _walk(Path(entry.path))
            else:
                yield Path(entry.path)
