"""Which videos train, which decide, which are only measured on.

* embedded data: the generator's train, validation and test sets, from disjoint seeds.
* official data: test questions have no answers, so validation is measured on and dev is cut from train by a hash.
* trajectories: one set of scenes, split 80/20 by a hash, dev cut from the 80.

Where slots exist already the same holds for their videos: no scene is read then.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ocwm.errors import BenchError
from ocwm_tasks.clevrer.annotation import BROKEN_ANNOTATIONS
from ocwm_tasks.clevrer.dataset import Dataset, Removals, Source
from ocwm_tasks.clevrer.scene import Scene

DEV_SHARE = 10  # percent of all scenes that are cut off for dev where the data has no dev set
TEST_SHARE = 20  # percent of the scenes that are measured on, for trajectories

ORIGINS = {"train": "train", "dev": "validation", "test": "test"}  # splits of embedded data on disk

Belongs = Callable[[int], bool]


@dataclass(frozen=True)
class Split:
    """Videos with one purpose.

    Attributes:
        name: train, dev or test.
        origin: name of the split on disk that its questions and videos come from.
        scenes: annotated scenes, with the future (160 frames) where it is known; none for slots that exist already.
        questions: official question scenes of these videos.
        removals: truth about removed objects, in the order of `scenes`; empty where it is not known.
        videos: numbers of the videos whose slots exist already, ascending; empty where there are scenes.
        left_out: number of questions whose video has no slots.
    """

    name: str
    origin: str
    scenes: Sequence[Scene]
    questions: Sequence[dict[str, Any]]
    removals: Sequence[Removals] = ()
    videos: Sequence[int] = ()
    left_out: int = 0

    @property
    def contents(self) -> list[str]:
        """What tells a video from others wherever it lies: its objects and their motion; for stored slots its number."""
        if not self.scenes:
            return [f"{self.origin} {video}" for video in self.videos]
        return [
            hashlib.sha256(repr(scene.objects).encode() + scene.positions.tobytes()).hexdigest()
            for scene in self.scenes
        ]

    @property
    def hash(self) -> str:
        """Identity of what is measured on: video numbers and questions."""
        text = json.dumps([[scene.index for scene in self.scenes], list(self.questions)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def choose_source(dataset: Dataset, wanted: str) -> Source:
    """Annotations or trajectories: with `auto` whatever there are more scenes of."""
    counts: dict[Source, int] = {}
    for split in dataset.splits:
        for source in dataset.sources(split):
            counts[source] = counts.get(source, 0) + len(dataset.scenes(split, source=source))
    if not counts:
        raise BenchError(
            f"{dataset.root} has neither annotations nor trajectories", "Put annotation_train/ and so on there."
        )
    if wanted == "auto":
        return max(counts, key=lambda source: counts[source])
    for source in counts:
        if source == wanted:
            return source
    raise BenchError(f"task.source={wanted}: {dataset.root} has {', '.join(counts)} only", "Use task.source=auto.")


def read_splits(dataset: Dataset, source: Source) -> dict[str, Split]:
    """Read train, dev and test."""
    if source == "trajectories" and dataset.kind != "embedded":
        origin = next(split for split in dataset.splits if source in dataset.sources(split))
        return {
            "train": _part(dataset, "train", origin, source, lambda percent: percent < 100 - TEST_SHARE - DEV_SHARE),
            "dev": _part(
                dataset,
                "dev",
                origin,
                source,
                lambda percent: 100 - TEST_SHARE - DEV_SHARE <= percent < 100 - TEST_SHARE,
            ),
            "test": _part(dataset, "test", origin, source, lambda percent: percent >= 100 - TEST_SHARE),
        }
    return {name: _part(dataset, name, origin, source, part) for name, (origin, part) in plan(dataset).items()}


def stored_splits(dataset: Dataset, stored: Mapping[str, Sequence[int]], *, where: str) -> dict[str, Split]:
    """Train, dev and test of videos whose slots exist already; of the data set only the questions are read.

    Args:
        dataset: whose questions are asked.
        stored: numbers of the videos that have slots, by split on disk.
        where: what holds the slots, for errors.

    Raises:
        BenchError: questions about videos without slots (but for videos that are known to be broken: theirs are left
            out), a split that the slots lack, or one that no video is left for.
    """
    found = {}
    for name, (origin, belongs) in plan(dataset).items():
        if origin not in stored:
            raise BenchError(f"{where} has no slots of the split '{origin}'", f"It has {', '.join(stored)}.")
        asked = [scene for scene in dataset.questions(origin) if belongs(percent(scene["scene_index"]))]
        videos = sorted(video for video in stored[origin] if belongs(percent(video)))
        if not videos:
            raise BenchError(
                f"{where}: no video is left for {name} ({len(stored[origin])} in split '{origin}')", "Add more videos."
            )
        known = set(videos)
        missing = {scene["scene_index"] for scene in asked} - known
        broken = set(BROKEN_ANNOTATIONS) if dataset.kind == "official" else set()
        if nowhere := sorted(missing - broken):
            raise BenchError(
                f"{len(nowhere)} videos with questions in split '{origin}' have no slots in {where}, "
                f"the first is video {nowhere[0]}",
                "Give slots of all videos, or drop their questions.",
            )
        kept = [scene for scene in asked if scene["scene_index"] in known]
        left_out = sum(len(scene["questions"]) for scene in asked if scene["scene_index"] in missing)
        found[name] = Split(name, origin, (), kept, videos=videos, left_out=left_out)
    return found


def percent(index: int) -> int:
    """A number 0..99 that depends on the video's number only."""
    return int.from_bytes(hashlib.sha256(f"clevrer-{index}".encode()).digest()[:4], "big") % 100


def plan(dataset: Dataset) -> dict[str, tuple[str, Belongs]]:
    """Where train, dev and test come from: the split on disk, and which of its videos (by their percent)."""
    if dataset.kind == "embedded":
        return {name: (origin, lambda _: True) for name, origin in ORIGINS.items()}
    return {
        "train": ("train", lambda percent: percent >= DEV_SHARE),
        "dev": ("train", lambda percent: percent < DEV_SHARE),
        "test": ("validation", lambda _: True),
    }


def _part(dataset: Dataset, name: str, origin: str, source: Source, belongs: Belongs) -> Split:
    future = dataset.kind == "embedded"
    scenes = dataset.scenes(origin, source=source, future=future)
    kept = [index for index in scenes.indices if belongs(percent(index))]
    if not kept:
        raise BenchError(
            f"{dataset.root}: no scene is left for {name} ({len(scenes)} in split '{origin}')", "Add more scenes."
        )
    chosen = set(kept)
    questions = [scene for scene in dataset.questions(origin) if scene["scene_index"] in chosen]
    removals = [removal for removal in dataset.removals(origin) if removal.index in chosen]
    return Split(name, origin, [scenes.of(index) for index in kept], questions, removals)
