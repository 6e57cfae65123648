"""Keeps the text of questions from giving their answers away.

Questions are chosen from more candidates than are asked. For every word, word pair and wording a running sum tells how far its
answers have drifted from the wanted shares; of several candidates the one that brings the sums nearest to zero is taken.

Shape letters: C answer classes, P candidates.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, pairwise, product
from math import exp

import numpy as np
from numpy.typing import NDArray

from ocwm_tasks.clevrer.generator.phrases import words

Floats = NDArray[np.float64]

# A sum further from zero than this pulls no harder: one that can't be evened out must not drown the others.
ENOUGH = 10.0
TIE = 1e-3  # times a number below 1: decides between candidates that are as good as each other
HEAVY = 4.0  # weight of the sums over a whole wording, against 1 for a word in it


Marks = list[int]  # what a text is recognised by: rows of a tally, that of the wording first


class Tally:
    """Running sums of answer residuals (C numbers: the answer's one-hot less the wanted shares) for every mark."""

    def __init__(self, classes: int) -> None:
        # One numbering for all kinds of marks.
        number = count().__next__
        self._wordings: defaultdict[Hashable, int] = defaultdict(number)
        self._words: defaultdict[str, int] = defaultdict(number)
        self._pairs: defaultdict[tuple[str, str], int] = defaultdict(number)
        self._worded: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(number))
        self._sums: Floats = np.zeros((1024, classes))
        self._pulls: Floats = np.zeros((1024, classes))

    def read(self, text: str, wording: str, extra: Sequence[Hashable] = ()) -> Marks:
        """Marks of a text: its wording, its words, word pairs, words within the wording, and what else may be telling."""
        pieces = words(text)
        rows = [
            self._wordings[wording],
            *map(self._words.__getitem__, pieces),
            *map(self._pairs.__getitem__, pairwise(pieces)),
            *map(self._worded[wording].__getitem__, pieces),
            *map(self._wordings.__getitem__, extra),
        ]
        while max(rows) >= len(self._sums):
            self._sums = np.concatenate([self._sums, np.zeros_like(self._sums)])
            self._pulls = np.concatenate([self._pulls, np.zeros_like(self._pulls)])
        return rows

    def drifts(self, candidates: Sequence[Marks], residuals: Floats) -> Floats:
        """How much further from zero each candidate would bring the sums, (P,); negative: it evens them out.

        Args:
            candidates: marks of P candidates.
            residuals: (P, C).
        """
        lengths = np.array([len(rows) for rows in candidates])
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        pulls = self._pulls[list(chain.from_iterable(candidates))]
        along = (pulls * np.repeat(residuals, lengths, axis=0)).sum(axis=1)
        total = np.add.reduceat(along, starts) + (HEAVY - 1) * along[starts]
        return np.asarray(total / (lengths + HEAVY - 1))

    def add(self, marks: Marks, residual: Floats, times: int = 1) -> None:
        """Count a chosen candidate, or take it back with times = -1."""
        sums = self._sums[marks] + times * residual
        self._sums[marks] = sums
        self._pulls[marks] = np.minimum(np.maximum(sums, -ENOUGH), ENOUGH)


@dataclass(frozen=True)
class Place:
    """Where an option is counted: one of the cells of a group, all of which should hold about as many options."""

    group: Hashable
    cell: tuple[bool, ...]

    def cells(self) -> Iterator[tuple[bool, ...]]:
        """Every cell of the group."""
        return product((False, True), repeat=len(self.cell))


class Counts:
    """Options chosen so far, such as correct and wrong ones of a wording.

    Args:
        cap: no cell may get ahead of the smallest one of its group by more than this.
        pull: how strongly the smaller cells are preferred.
    """

    def __init__(self, *, cap: int, pull: float) -> None:
        self._cap = cap
        self._pull = pull
        self._counts: Counter[Place] = Counter()

    def weight(self, places: Sequence[Place]) -> float:
        """Relative chance with which an option of these places should be drawn; 0 where a cell would get too far ahead."""
        ahead = [self._counts[p] - min(self._counts[Place(p.group, cell)] for cell in p.cells()) for p in places]
        return 0.0 if max(ahead) >= self._cap else exp(-self._pull * sum(ahead))

    def add(self, places: Sequence[Place], times: int = 1) -> None:
        """Count a chosen option, or take it back with times = -1."""
        for place in places:
            self._counts[place] += times


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
