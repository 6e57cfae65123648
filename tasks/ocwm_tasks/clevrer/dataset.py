"""What a CLEVRER data set offers, whatever it was read from.

Shape letters: T frames, H height, W width, n objects.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from ocwm.errors import BenchError, suggest
from ocwm_tasks.clevrer.annotation import BROKEN_ANNOTATIONS, read_annotation
from ocwm_tasks.clevrer.json_input import read_json, reading
from ocwm_tasks.clevrer.layout_official import SplitFiles
from ocwm_tasks.clevrer.scene import OBSERVED_FRAMES, ROLLOUT_FRAMES, Collision, Scene
from ocwm_tasks.clevrer.trajectories import read_trajectories
from ocwm_tasks.clevrer.video import read_frames

Source = Literal["annotation", "trajectories"]
Part = Literal["videos", "annotations", "trajectories", "questions"]


class Scenes(Sequence[Scene]):
    """The scenes of a split, read one at a time as they are asked for; `indices` are their video numbers."""

    def __init__(self, indices: Sequence[int], load: Callable[[int], Scene]) -> None:
        self.indices = tuple(indices)
        self._known = frozenset(self.indices)
        self._load = load

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, place: int) -> Scene: ...
    @overload
    def __getitem__(self, place: slice) -> Scenes: ...
    def __getitem__(self, place: int | slice) -> Scene | Scenes:
        if isinstance(place, slice):
            return Scenes(self.indices[place], self._load)
        return self._load(self.indices[place])

    def __iter__(self) -> Iterator[Scene]:
        return map(self._load, self.indices)

    def of(self, index: int) -> Scene:
        """Return the scene of a video number.

        Raises:
            BenchError: there is none, or its file is broken.
        """
        if index not in self._known:
            raise BenchError(f"there is no scene of video {index}", f"There are {len(self.indices)} scenes.")
        return self._load(index)


@dataclass(frozen=True, eq=False)
class Removals:
    """What happens in a video when one of its objects is taken out from the start.

    Attributes:
        index: number of the video.
        collisions: for each object whose removal was simulated, the collisions of the others up to frame 159.
        positions: (n, 160, n, 2) float32 world units; row r is without object r, whose column is NaN. All of a row is
            NaN where the removal was not simulated.
        visible: (n, 160, n) bool.
    """

    index: int
    collisions: Mapping[int, tuple[Collision, ...]]
    positions: NDArray[np.float32]
    visible: NDArray[np.bool_]

    @property
    def pairs(self) -> dict[int, frozenset[frozenset[int]]]:
        """For each object whose removal was simulated, the pairs that collide without it."""
        return {
            removed: frozenset(frozenset((collision.a, collision.b)) for collision in collisions)
            for removed, collisions in self.collisions.items()
        }


class Dataset(ABC):
    """Videos, scenes and questions of the splits train, validation and test, as far as they are there."""

    kind: Literal["embedded", "official"]

    def __init__(self, root: Path, *, files: Mapping[str, SplitFiles]) -> None:
        self.root = root
        self._files = files

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits that anything is there of, in the order train, validation, test."""
        return tuple(self._files)

    def files(self, split: str) -> SplitFiles:
        """Return the files of a split.

        Raises:
            BenchError: there is no such split.
        """
        if split not in self._files:
            raise BenchError(f"{self.root} has no split '{split}'", suggest(split, self._files))
        return self._files[split]

    def indices(self, split: str, part: Part) -> tuple[int, ...]:
        """Return the numbers of the videos that have the part, ascending; reads the question file for "questions"."""
        if part == "questions":
            return tuple(sorted(scene["scene_index"] for scene in self.questions(split)))
        return tuple(getattr(self.files(split), part))

    def frames(self, split: str, index: int) -> NDArray[np.uint8]:
        """Decode a video, (128, H, W, 3) RGB.

        Raises:
            BenchError: it is missing, can't be decoded or has another length.
        """
        videos = self.files(split).videos
        if index not in videos:
            raise BenchError(f"{self.root} has no video {index} in split '{split}'", f"{len(videos)} are there.")
        return read_frames(videos[index], length=OBSERVED_FRAMES)

    def questions(self, split: str) -> list[dict[str, Any]]:
        """Return the scenes of a question file, as the file has them.

        Raises:
            BenchError: the file is missing, no JSON, or no list of scenes with questions.
        """
        path = self.files(split).questions
        if path is None:
            message = f"{self.root / 'questions' / f'{split}.json'} is missing: there are no questions for '{split}'"
            raise BenchError(message, "Put the question file there, or ask for another split.")
        scenes = read_json(path)
        _check_questions(scenes, path)
        return list(scenes)

    @abstractmethod
    def sources(self, split: str) -> tuple[Source, ...]:
        """Return where the scenes of a split can be read from, the truest first."""

    @abstractmethod
    def scenes(self, split: str, *, source: Source = "annotation", future: bool = False) -> Scenes:
        """Return the scenes of a split from one source: coordinate systems are never mixed.

        Args:
            split: which one.
            source: "annotation" gives the truth in world coordinates, "trajectories" a model's estimate in
                image-plane coordinates.
            future: 160 frames instead of 128.

        Raises:
            BenchError: the source or the future is not there.
        """

    @abstractmethod
    def skipped(self, split: str) -> dict[int, str]:
        """Return the videos whose annotation is left out, and why."""

    @abstractmethod
    def removals(self, split: str) -> list[Removals]:
        """Return the truth about removed objects, in the order of `scenes`; empty where it is not known."""

    @abstractmethod
    def generator(self) -> dict[str, Any] | None:
        """Return what made the data, with version, settings and seeds; None for data of unknown origin."""


class OfficialDataset(Dataset):
    """A folder in the official layout."""

    kind = "official"

    def sources(self, split: str) -> tuple[Source, ...]:  # noqa: D102
        files = self.files(split)
        there: dict[Source, bool] = {
            "annotation": bool(files.annotations),
            "trajectories": bool(files.trajectories),
        }
        return tuple(source for source, is_there in there.items() if is_there)

    def scenes(self, split: str, *, source: Source = "annotation", future: bool = False) -> Scenes:  # noqa: D102
        files, skipped = self.files(split), self.skipped(split)
        if future:
            hint = f"Frames {OBSERVED_FRAMES}..{ROLLOUT_FRAMES - 1} are known for generated data only."
            raise BenchError(f"{self.root} does not hold the future of its videos", hint)
        if source not in self.sources(split):
            hint = f"Sources of this split: {', '.join(self.sources(split)) or 'none'}."
            raise BenchError(f"{self.root} has no {source} for split '{split}'", hint)
        if source == "trajectories":
            return Scenes(
                list(files.trajectories), lambda index: read_trajectories(files.trajectories[index], index=index)
            )
        indices = [index for index in files.annotations if index not in skipped]
        return Scenes(indices, lambda index: read_annotation(files.annotations[index], index=index))

    def skipped(self, split: str) -> dict[int, str]:  # noqa: D102
        annotations = self.files(split).annotations
        return {index: reason for index, reason in BROKEN_ANNOTATIONS.items() if index in annotations}

    def removals(self, split: str) -> list[Removals]:  # noqa: D102
        self.files(split)
        return []

    def generator(self) -> dict[str, Any] | None:  # noqa: D102
        return None


def _check_questions(scenes: Any, path: Path) -> None:
    """Look at what every reader of a question file relies on."""
    with reading(path, "question file"):
        if not isinstance(scenes, list):
            raise TypeError(f"expected a list of scenes, found a {type(scenes).__name__}")
        for place, scene in enumerate(scenes):
            _require(scene, ("scene_index", "questions"), where=f"scene {place}")
            for question in scene["questions"]:
                fields = ("question_id", "question", "question_type")
                _require(question, fields, where=f"a question of scene {scene['scene_index']}")


def _require(item: Any, fields: tuple[str, ...], *, where: str) -> None:
    if not isinstance(item, dict):
        raise TypeError(f"{where} is a {type(item).__name__}, expected an object with {', '.join(fields)}")
    for name in fields:
        if name not in item:
            raise ValueError(f"{where} has no '{name}'")
