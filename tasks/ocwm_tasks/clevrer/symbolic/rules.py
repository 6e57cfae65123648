"""The thresholds that say what is a collision."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class CollisionRules:
    """When two objects are said to collide.

    Either they are within `reach` of each other and pushed apart by more than `impulse` (see `PairSignals`); or they
    come within `overlap`, closer than they can be without having touched: predictions run objects into each other.

    Attributes:
        reach: distance of the centres in units, one for each shape pair.
        impulse: push in units per frame, one for each shape pair.
        overlap: distance of the centres in units, one for each shape pair.
        window: samples over which a velocity is measured.
        cooldown: samples in which the same pair can't collide again.
    """

    reach: tuple[float, ...]
    impulse: tuple[float, ...]
    overlap: tuple[float, ...]
    window: int
    cooldown: int


@dataclass(frozen=True)
class RuleLadder:
    """Rules for positions of several qualities: what is sharp and sure on exact positions drowns in noisy ones.

    Attributes:
        levels: noise in units that each of `rules` was fitted for, ascending.
        rules: as many.
    """

    levels: tuple[float, ...]
    rules: tuple[CollisionRules, ...]

    def at(self, noise: float) -> CollisionRules:
        """The rules for positions with this noise: those of the nearest level, by ratio."""
        limits = [(max(low, high / 10) * high) ** 0.5 for low, high in pairwise(self.levels)]
        return self.rules[bisect_right(limits, noise)]


@dataclass(frozen=True)
class EventRules:
    """All rules of a reasoner.

    Attributes:
        observed: for observed samples.
        imagined: for predicted samples: they are blurred and drift, so these rules reach further.
        touch: distance of the centres in units within which next to all contacts are, one for each shape pair.
    """

    observed: RuleLadder
    imagined: RuleLadder
    touch: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a record."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EventRules:
        """From what `as_dict` gave, also after a round through JSON."""
        return cls(_ladder(values["observed"]), _ladder(values["imagined"]), tuple(values["touch"]))


def _ladder(values: dict[str, Any]) -> RuleLadder:
    rules = tuple(
        CollisionRules(
            tuple(rule["reach"]), tuple(rule["impulse"]), tuple(rule["overlap"]), rule["window"], rule["cooldown"]
        )
        for rule in values["rules"]
    )
    return RuleLadder(tuple(values["levels"]), rules)
