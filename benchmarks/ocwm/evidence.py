"""What a task can show of single items beside its figures: pictures, a question, what each model made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ocwm.markup import Grid
from ocwm.store import Record


@dataclass(frozen=True)
class Shown:
    """A row of a section, by one of its runs.

    Attributes:
        name: of the row.
        record: of the run.
        items: what it kept of single items, see `store.read_items`.
    """

    name: str
    record: Record
    items: Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Picture:
    """A drawing of its own size.

    Attributes:
        content: SVG text, or a JPEG or PNG file's bytes.
        words: what it shows, for those who can't see it.
        caption: below it.
    """

    content: str | bytes
    words: str
    caption: str = ""


@dataclass(frozen=True)
class Strip:
    """Pictures in a row, under a label."""

    label: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Evidence:
    """One item (a question, an episode).

    Attributes:
        title: what it is.
        texts: sentences about it, in Markdown's `code` and **bold**.
        strips: what was seen and imagined.
        table: what each model made of it.
    """

    title: str
    texts: tuple[str, ...] = ()
    strips: tuple[Strip, ...] = ()
    table: Grid | None = None


def most_disputed(outcomes: Sequence[Mapping[int, bool]], *, count: int) -> list[int]:
    """Return up to `count` items that all runs have, those first on which they differ most; then the lower number.

    Args:
        outcomes: of each run, item number -> right or wrong.
        count: how many.
    """
    if not outcomes:
        return []
    common = set.intersection(*(set(one) for one in outcomes))
    balance = {item: abs(2 * sum(one[item] for one in outcomes) - len(outcomes)) for item in common}
    return sorted(sorted(common, key=lambda item: (balance[item], item))[:count])
