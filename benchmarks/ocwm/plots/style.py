"""One look for all figures: light background, colours that the colour-blind can tell apart, shapes as a second sign."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ocwm.sections import Row, Section

# Okabe and Ito 2008, without its yellow, which is too light for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREYS = ("#5f5f5f", "#8a8a8a", "#aaaaaa")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
DASHES: tuple[Any, ...] = ((0, (1, 1)), (0, (4, 2)), (0, (4, 1, 1, 1)), (0, (2, 2)), (0, (6, 2, 1, 2, 1, 2)))
INK, BAND = "#222222", "#f3f3f3"
_LETTERS = 16.5  # of a note, in an inch

_SETTINGS: dict[Any, Any] = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#8a8a8a",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
}


@dataclass(frozen=True)
class Look:
    """How a row is drawn everywhere: colour, marker, and the dashes of its line."""

    colour: str
    marker: str
    dash: Any


def looks(sections: Sequence[Section]) -> dict[str, Look]:
    """Return row name -> look, the same in all figures: learned rows in colours, references in greys."""
    learned = sorted({section.name_of(row) for section in sections for row in section.rows if row.learned})
    others = sorted({section.name_of(row) for section in sections for row in section.rows if not row.learned})
    found = {
        name: Look(COLOURS[i % len(COLOURS)], MARKERS[(i + i // len(COLOURS)) % len(MARKERS)], "solid")
        for i, name in enumerate(learned)
    }
    grey = {
        name: Look(GREYS[i % len(GREYS)], MARKERS[i % len(MARKERS)], DASHES[i % len(DASHES)])
        for i, name in enumerate(others)
    }
    return {**grey, **found}


@contextmanager
def drawing(width: float, height: float, *, title: str, note: str) -> Iterator[Figure]:
    """Open a figure of this size in inches, with a title above it and a note, wrapped, below."""
    lines = textwrap.wrap(note, int(width * _LETTERS))
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height + 0.12 * len(lines)), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontsize=10.5, fontweight="bold", color=INK)
        figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=7.5, color="#555555")
        yield figure


def save(figure: Figure, target: Path | IO[bytes], *, dpi: int = 150) -> None:
    """Write a PNG that depends on the figure only: the same records always give the same bytes."""
    with mpl.rc_context(_SETTINGS):
        figure.savefig(target, format="png", dpi=dpi, metadata={"Software": None})


def spread(axes: Axes, place: float, low: float | None, high: float | None, look: Look, *, upright: bool) -> None:
    """Draw an interval at a place: a line without caps, upright or lying."""
    if low is None or high is None:
        return
    draw = axes.vlines if upright else axes.hlines
    draw(place, low, high, color=look.colour, linewidth=1.6, alpha=0.75)


def row_order(section: Section) -> list[Row]:
    """Return the rows with the learned ones first, references without privileged input last but for those with one."""
    return sorted(section.rows, key=lambda row: (not row.learned, bool(row.privileged), row.label))


def legend_beside(figure: Figure, shown: Mapping[str, Look], *, lines: bool = False) -> None:
    """Put one legend for all panels to the right of them; with `lines` the dashes of each are shown too."""
    handles = [
        Line2D([], [], color=look.colour, marker=look.marker, linestyle=look.dash if lines else "none", label=name)
        for name, look in shown.items()
    ]
    figure.legend(handles=handles, loc="outside right upper", labelcolor=INK, handlelength=2.6 if lines else 1.2)
