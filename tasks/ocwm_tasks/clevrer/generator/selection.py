"""Keeps the text of questions from giving their answers away.

Questions are chosen from more candidates than are asked. For every word, word pair and wording a running sum tells how far its
answers have drifted from the wanted shares; of several candidates the one that brings the sums nearest to zero is taken.

Shape letters: C answer classes, P candidates.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import count
from math import exp

import numpy as np
from numpy.typing import NDArray

from ocwm_tasks.clevrer.generator.phrases import words

Floats = NDArray[np.float64]

# A sum further from zero than this pulls no harder: one that can't be evened out must not drown the others.
ENOUGH = 10.0
HEAVY = 4.0  # weight of the sums over a whole wording, against 1 for a word in it


@dataclass(frozen=True)
class Marks:
    """What a text is recognised by, as rows of a tally; the first `heavy` of them weigh more."""

    rows: NDArray[np.int64]
    heavy: int


class Tally:
    """Running sums of answer residuals (C numbers: the answer's one-hot less the wanted shares) for every mark."""

    def __init__(self, classes: int) -> None:
        self._rows: defaultdict[Hashable, int] = defaultdict(count().__next__)
        self._sums: Floats = np.zeros((4096, classes))

    def read(self, text: str, frame: str, extra: Sequence[Hashable] = ()) -> Marks:
        """Marks of a text: its wording, whatever else may give an answer away, its words, word pairs and words within the wording."""
        pieces = words(text)
        names: dict[Hashable, None] = {frame: None}
        heavy = len(names)
        names.update(dict.fromkeys(("extra", item) for item in extra))
        names.update(dict.fromkeys(pieces))
        names.update(dict.fromkeys(zip(pieces, pieces[1:], strict=False)))
        names.update(dict.fromkeys((frame, piece, "in") for piece in pieces))
        rows = np.array([self._rows[name] for name in names], dtype=np.int64)
        while len(self._rows) > len(self._sums):
            self._sums = np.concatenate([self._sums, np.zeros_like(self._sums)])
        return Marks(rows, heavy)

    def drift(self, marks: Marks, residual: Floats) -> float:
        """How much further from zero the sums would be with this candidate: negative means that it evens them out."""
        along = np.clip(self._sums[marks.rows], -ENOUGH, ENOUGH) @ residual
        more = HEAVY - 1
        return float(along.sum() + more * along[: marks.heavy].sum()) / (len(along) + more * marks.heavy)

    def add(self, marks: Marks, residual: Floats, times: int = 1) -> None:
        """Count a chosen candidate, or take it back with times = -1."""
        self._sums[marks.rows] += times * residual


class Contrasts:
    """Signed counts that must stay near zero, such as correct against wrong options of a wording."""

    def __init__(self, *, cap: float, pull: float) -> None:
        self._cap = cap
        self._pull = pull
        self._sums: dict[Hashable, float] = {}

    def weight(self, signs: Sequence[tuple[Hashable, int]]) -> float:
        """Relative chance with which a cell of options should be drawn; 0 when a count would leave its bounds."""
        pressure = 0.0
        for key, sign in signs:
            total = self._sums.get(key, 0.0)
            if abs(total + sign) > max(self._cap, abs(total)):
                return 0.0
            pressure += total * sign
        return exp(min(50.0, -self._pull * pressure))

    def add(self, signs: Sequence[tuple[Hashable, int]], times: int = 1) -> None:
        """Count a chosen option, or take it back with times = -1."""
        for key, sign in signs:
            self._sums[key] = self._sums.get(key, 0.0) + times * sign


def draw(weights: Sequence[float], rng: np.random.Generator) -> int | None:
    """Index drawn in proportion to the weights; None when all are 0."""
    total = sum(weights)
    if total <= 0:
        return None
    point = float(rng.random()) * total
    for index, weight in enumerate(weights):
        point -= weight
        if point < 0:
            return index
    return max(index for index, weight in enumerate(weights) if weight > 0)
