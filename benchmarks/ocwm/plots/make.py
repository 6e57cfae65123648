"""Which figures the records at hand give, and where they are written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from ocwm.cells import Column
from ocwm.errors import BenchError, suggest
from ocwm.plots import curves, intervals, latency
from ocwm.plots.style import Look, looks, save
from ocwm.sections import Section, sections
from ocwm.store import Record

Draw = Callable[[Section, Mapping[str, Look]], Figure | None]

SUCCESS = "success"  # the group of metrics of closed-loop control


@dataclass(frozen=True)
class Kind:
    """A kind of figure: its name, what it needs (for the line that says why it is left out), how it is drawn.

    `draw` returns None where a section's records don't give it.
    """

    name: str
    needs: str
    draw: Draw


def make_figures(records: Sequence[Record], folder: Path, *, only: Sequence[str] = ()) -> tuple[list[Path], list[str]]:
    """Draw every figure that the records give.

    Args:
        records: as `store.read_records` gives them.
        folder: to write to; made where it is missing. Figures of the same name are replaced.
        only: these kinds; empty means all.

    Returns:
        The files, and a line for each kind that no section gives.

    Raises:
        BenchError: an unknown kind, or the folder can't be written to.
    """
    known = {kind.name: kind for kind in KINDS}
    for name in only:
        if name not in known:
            raise BenchError(f"no figure '{name}'", suggest(name, known))
    found = sections(records)
    stems = _stems(found)
    written: list[Path] = []
    drawn = set()
    for kind, section, figure in draw_figures(found, only=only):
        path = folder / f"{stems[section.title]}_{kind.name}.png"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save(figure, path)
        except OSError as error:
            raise BenchError(f"can't write {path}: {error.strerror or error}") from error
        written.append(path)
        drawn.add(kind.name)
    missing = [kind for kind in KINDS if kind.name not in drawn and kind.name in (only or known)]
    return written, [f"left out: {kind.name} (no record with {kind.needs})" for kind in missing]


def draw_figures(found: Sequence[Section], *, only: Sequence[str] = ()) -> Iterator[tuple[Kind, Section, Figure]]:
    """Draw every figure of some kinds that sections give; a model looks the same in all of them."""
    shared = looks(found)
    for kind in KINDS:
        if only and kind.name not in only:
            continue
        for section in found:
            if (figure := kind.draw(section, shared)) is not None:
                yield kind, section, figure


def _stems(found: Sequence[Section]) -> dict[str, str]:
    """Return section title -> start of its file names: its short title, numbered where two have the same.

    Sections of references alone come last: their being there changes no name that is known.
    """
    stems: dict[str, str] = {}
    for section in sorted(found, key=lambda section: not any(row.learned for row in section.rows)):
        plain = re.sub(r"[^a-z0-9]+", "_", section.short_title.lower()).strip("_")
        same = sum(stem.partition("-")[0] == plain for stem in stems.values())
        stems[section.title] = f"{plain}-{same + 1}" if same else plain
    return stems


def _measured(section: Section, columns: Sequence[Column]) -> list[Column]:
    """Return the columns that a learned row has a figure in."""
    return [c for c in columns if any(row.learned and c.key in row.cells for row in section.rows)]


def _success(section: Section, shared: Mapping[str, Look]) -> Figure | None:
    columns = _measured(section, [c for c in section.columns if c.group == SUCCESS and c.unit == "%"])
    return intervals.by_model(section, columns, shared, title="Success") if columns else None


def _accuracy(section: Section, shared: Mapping[str, Look]) -> Figure | None:
    columns = [c for c in section.headline if c.unit == "%" and c.group != SUCCESS]
    columns = _measured(section, columns)
    groups = {column.group for column in columns}
    title = "Accuracy" if len(groups) > 1 else "".join(groups).capitalize()
    return intervals.by_model(section, columns, shared, title=title) if columns else None


def _by_type(section: Section, shared: Mapping[str, Look]) -> Figure | None:
    end = ".per_question"
    averages = ("average", "mean_over_types")
    columns = [c for c in section.columns if c.key.endswith(end) and c.kind.partition(".")[2] not in averages]
    columns = _measured(section, columns)
    return intervals.by_type(section, columns, shared) if columns else None


def _rollout(section: Section, shared: Mapping[str, Look]) -> Figure | None:
    return curves.by_horizon(section, shared) if curves.horizons(section) else None


def _planning_time(section: Section, shared: Mapping[str, Look]) -> Figure | None:
    column = next((c for c in section.headline if c.group == SUCCESS), None)
    if column is None or len(curves.timed_rows(section, column)) < 2:
        return None
    return curves.by_planning_time(section, column, shared)


def _masked(section: Section, shared: Mapping[str, Look]) -> Figure | None:
    columns = _measured(section, section.headline)
    return curves.by_masked(section, columns, shared) if len(curves.masked_rows(section)) > 1 and columns else None


def _latency(section: Section, shared: Mapping[str, Look]) -> Figure | None:
    return latency.stack(section) if latency.planning_rows(section) else None


KINDS = (
    Kind("success", "success rates of a learned method", _success),
    Kind("accuracy", "accuracies of a learned method", _accuracy),
    Kind("accuracy_by_type", "accuracies by question type", _by_type),
    Kind("rollout_error", "rollout errors at two horizons", _rollout),
    Kind("success_by_planning_time", "success and timed plans, of two rows of a section", _planning_time),
    Kind("masked_objects", "two numbers of masked objects, of one method in a section", _masked),
    Kind("latency", "timed plans", _latency),
)
