"""Settings of the embedded data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ocwm.errors import BenchError, suggest
from ocwm_tasks.clevrer.generator.facts import Margins
from ocwm_tasks.clevrer.generator.questions import QuestionConfig
from ocwm_tasks.clevrer.scene import MAX_OBJECTS


@dataclass(frozen=True)
class GeneratorConfig:
    """How many videos, of what size, with what in them.

    Attributes:
        train, validation, test: videos of each split; all of them are simulated and asked about.
        rendered_train, rendered_validation, rendered_test: the first so many of them (at most) get frames, masks and
            annotation files.
        width: of the frames in pixels; the height is two thirds of it. A multiple of 6.
        min_objects, max_objects: in a video.
        future_share: of the videos have a first contact in frames 128..159, in the others there is none.
        flip_share: of the videos have at least one pair whose contact depends on a third object (some of the others by
            chance).
        questions: see `QuestionConfig`.

    Errors: BenchError for a value out of its range.
    """

    train: int = 1000
    validation: int = 250
    test: int = 660
    rendered_train: int = 500
    rendered_validation: int = 100
    rendered_test: int = 50
    width: int = 96
    min_objects: int = 3
    max_objects: int = 6
    future_share: float = 0.7
    flip_share: float = 0.8
    questions: QuestionConfig = field(default_factory=QuestionConfig)

    def __post_init__(self) -> None:
        for split in ("train", "validation", "test"):
            self._check(split, 0, 5000)  # the official numbers leave room for 5,000 videos in validation and in test
            self._check(f"rendered_{split}", 0, None)
        self._check("min_objects", 2, MAX_OBJECTS)
        self._check("max_objects", self.min_objects, MAX_OBJECTS)
        self._check("future_share", 0, 1)
        self._check("flip_share", 0, 1)
        self._check("width", 48, 1920)
        if self.width % 6:
            raise BenchError(f"task.generator.width={self.width} is no multiple of 6", "Try 96, 192 or 480.")

    @property
    def height(self) -> int:
        """Of the frames in pixels: the picture is 3:2 as CLEVRER's."""
        return self.width // 3 * 2

    def videos(self, split: str) -> int:
        """Number of videos of a split."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[split]

    def rendered(self, split: str) -> int:
        """Number of videos of a split that get frames: its first ones."""
        wanted = {"train": self.rendered_train, "validation": self.rendered_validation, "test": self.rendered_test}
        return min(wanted[split], self.videos(split))

    def _check(self, name: str, low: float, high: float | None) -> None:
        value = getattr(self, name)
        if value < low or (high is not None and value > high):
            limits = f"from {low} to {high}" if high is not None else f"at least {low}"
            raise BenchError(f"task.generator.{name}={value} is out of range", f"Choose a value {limits}.")


def generator_config(settings: Mapping[str, Any]) -> GeneratorConfig:
    """Build the settings from plain values, with nested `questions` and `questions.margins`.

    Errors: BenchError for an unknown name or a value out of its range.
    """
    settings = dict(settings)
    questions = dict(settings.pop("questions", {}))
    margins = dict(questions.pop("margins", {}))
    if "choice_shares" in questions:
        questions["choice_shares"] = tuple(questions["choice_shares"])
    for part, names, kind in (
        ("task.generator", settings, GeneratorConfig),
        ("task.generator.questions", questions, QuestionConfig),
        ("task.generator.questions.margins", margins, Margins),
    ):
        known = [entry.name for entry in fields(kind)]
        for name in names:
            if name not in known:
                raise BenchError(f"unknown key {part}.{name}", suggest(name, known))
    return GeneratorConfig(**settings, questions=QuestionConfig(**questions, margins=Margins(**margins)))
