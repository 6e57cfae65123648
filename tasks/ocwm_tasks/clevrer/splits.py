"""Which videos train, which decide, which are only measured on.

* embedded data: the generator's train, validation and test sets, from disjoint seeds.
* official data: test questions have no answers, so validation is measured on and dev is cut from train by a hash.
* trajectories: one set of scenes, split 80/20 by a hash, dev cut from the 80.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ocwm.errors import BenchError
from ocwm_tasks.clevrer.dataset import Dataset, Removals, Source
from ocwm_tasks.clevrer.scene import Scene

DEV_SHARE = 10  # percent of all scenes that are cut off for dev where the data has no dev set
TEST_SHARE = 20  # percent of the scenes that are measured on, for trajectories


@dataclass(frozen=True)
class Split:
    """Videos with one purpose.

    Attributes:
        name: train, dev or test.
        origin: name of the split on disk that its questions and videos come from.
        scenes: annotated scenes, with the future (160 frames) where it is known.
        questions: official question scenes of these videos.
        removals: truth about removed objects, in the order of `scenes`; empty where it is not known.
    """

    name: str
    origin: str
    scenes: Sequence[Scene]
    questions: Sequence[dict[str, Any]]
    removals: Sequence[Removals] = ()

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
    if dataset.kind == "embedded":
        names = {"train": "train", "dev": "validation", "test": "test"}
        return {name: _whole(dataset, name, origin, source) for name, origin in names.items()}
    if source == "trajectories":
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
    return {
        "train": _part(dataset, "train", "train", source, lambda percent: percent >= DEV_SHARE),
        "dev": _part(dataset, "dev", "train", source, lambda percent: percent < DEV_SHARE),
        "test": _whole(dataset, "test", "validation", source),
    }


def percent(index: int) -> int:
    """A number 0..99 that depends on the video's number only."""
    return int.from_bytes(hashlib.sha256(f"clevrer-{index}".encode()).digest()[:4], "big") % 100


def _whole(dataset: Dataset, name: str, origin: str, source: Source) -> Split:
    return _part(dataset, name, origin, source, lambda _: True)


def _part(dataset: Dataset, name: str, origin: str, source: Source, belongs: Callable[[int], bool]) -> Split:
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
