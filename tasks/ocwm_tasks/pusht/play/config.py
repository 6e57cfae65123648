"""Settings of the play data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ocwm.errors import BenchError, suggest

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class PlayConfig:
    """How much is played, and how.

    Attributes:
        train, dev, test: episodes of each split.
        steps: actions of an episode; it has one row more.
        speed: largest action on the way to the block, in units of 100 px; 0.3 moves the agent by about 12 px a step.
        push_speed: the same while it pushes.
        speed_spread: each episode has a speed of its own, up to this share above or below.
        noise: standard deviation of what is added to each coordinate of every action.
        goal_share: share of the pushes that are chosen to bring the block nearer to a goal pose; the others are random.
        push_min, push_max: length of a push in px.
        aim_spread: standard deviation in px of where on the block's outline a push lands, around where it was aimed.

    Raises:
        BenchError: for a value out of its range.
    """

    train: int = 2000
    dev: int = 100
    test: int = 200
    steps: int = 120
    speed: float = 0.37
    push_speed: float = 0.17
    speed_spread: float = 0.2
    noise: float = 0.05
    goal_share: float = 0.5
    push_min: float = 50.0
    push_max: float = 150.0
    aim_spread: float = 4.0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("train", 1, None),
            ("dev", 1, None),
            ("test", 1, None),
            ("steps", 1, None),
            ("speed", 0.05, 1.0),
            ("push_speed", 0.05, 1.0),
            ("speed_spread", 0.0, 0.9),
            ("noise", 0.0, 1.0),
            ("goal_share", 0.0, 1.0),
            ("push_min", 1.0, self.push_max),
            ("push_max", 1.0, 400.0),
            ("aim_spread", 0.0, 50.0),
        ):
            value = getattr(self, name)
            if value < low or (high is not None and value > high):
                limits = f"at least {low}" if high is None else f"from {low} to {high}"
                raise BenchError(f"task.play.{name}={value} is out of range", f"Choose a value {limits}.")

    def episodes(self, split: str) -> int:
        """Return the number of episodes of a split."""
        return {"train": self.train, "dev": self.dev, "test": self.test}[split]


def play_config(settings: Mapping[str, Any]) -> PlayConfig:
    """Build the settings from plain values. Errors: BenchError for an unknown name or a value out of its range."""
    known = [entry.name for entry in fields(PlayConfig)]
    for name in settings:
        if name not in known:
            raise BenchError(f"unknown key task.play.{name}", suggest(name, known))
    return PlayConfig(**settings)
