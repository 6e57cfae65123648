"""Figures over an axis: rollout error by horizon, a metric by the number of masked objects, success by planning time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from ocwm.cells import Cell, Column
from ocwm.cost_table import seconds_per_plan
from ocwm.plots.intervals import INTERVALS
from ocwm.plots.style import Look, drawing, legend_beside, row_order, spread
from ocwm.sections import Row, Section

MASKED = "num_masked"  # the key of a method's configuration that the curve runs over


def horizons(section: Section) -> dict[str, list[tuple[int, Column]]]:
    """Return metrics whose key ends in a number of steps, by their kind, where there are two or more of it."""
    found: dict[str, list[tuple[int, Column]]] = {}
    for column in section.columns:
        end = column.key.rpartition(".")[2]
        if end.isdecimal():
            found.setdefault(column.kind, []).append((int(end), column))
    return {kind: sorted(steps, key=lambda step: step[0]) for kind, steps in found.items() if len(steps) > 1}


def by_horizon(section: Section, looks: Mapping[str, Look]) -> Figure:
    """Draw one panel for each kind of error: lines over horizons with their intervals, on logarithmic axes."""
    kinds = horizons(section)
    lowest = {kind: _lowest(section, [column for _, column in steps]) for kind, steps in kinds.items()}
    hidden = sorted(
        {
            section.name_of(row)
            for kind, steps in kinds.items()
            for row in section.rows
            for _, column in steps
            if column.key in row.cells and row.cells[column.key].mean < lowest[kind]
        }
    )
    note = f"{section.title}. Bands: 95 % over training seeds where there are three, else over items."
    note += f" Too near to 0 to be drawn: {', '.join(hidden)}." if hidden else ""
    drawn: dict[str, Look] = {}
    with drawing(3.3 * len(kinds) + 1.9, 3.1, title="Error of rollouts, by horizon", note=note) as figure:
        panels = figure.subplots(1, len(kinds), squeeze=False)[0]
        for axes, (kind, steps) in zip(panels, kinds.items(), strict=True):
            for row in row_order(section):
                look, name = looks[section.name_of(row)], section.name_of(row)
                points = [(step, row.cells[c.key]) for step, c in steps if c.key in row.cells]
                points = [(step, cell) for step, cell in points if cell.mean >= lowest[kind]]
                if not points:
                    continue
                drawn[name] = look
                at = [step for step, _ in points]
                axes.plot(at, [cell.mean for _, cell in points], color=look.colour, marker=look.marker,
                          linestyle=look.dash, label=name, linewidth=1.8 if row.learned else 1.2)  # fmt: skip
                if all(cell.low is not None for _, cell in points):
                    low = [max(cell.low or 0.0, lowest[kind] / 10) for _, cell in points]
                    axes.fill_between(at, low, [cell.high or 0.0 for _, cell in points], color=look.colour, alpha=0.12,
                                      linewidth=0)  # fmt: skip
            axes.set_title(kind.partition(".")[2].replace("_", " "))
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xticks([step for step, _ in steps], [str(step) for step, _ in steps])
            low, high = axes.get_ylim()
            axes.set_ylim(bottom=max(low, 0.4 * lowest[kind]))
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 50 * low else (1.0, 2.0, 5.0)))
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.minorticks_off()
            axes.set_xlabel("steps ahead")
            axes.set_ylabel(steps[0][1].unit)
        legend_beside(figure, drawn, lines=True)
    return figure


def _lowest(section: Section, columns: Sequence[Column]) -> float:
    """Return the least error of rows without privileged input: ceilings may lie far below and would flatten the rest."""
    found = [
        row.cells[column.key].mean
        for row in section.rows
        for column in columns
        if not row.privileged and column.key in row.cells and row.cells[column.key].mean > 0
    ]
    return min(found, default=1e-12)


def masked_rows(section: Section) -> list[tuple[int, Row]]:
    """Return learned rows of one class that differ by the number of masked objects, fewest first; else nothing."""
    groups: dict[str, dict[int, Row]] = {}
    for row in section.rows:
        method = row.records[0].config.get("method", {})
        if row.learned and isinstance(method.get(MASKED), int):
            # Rows that differ in something else as well: the first in table order stands for its count.
            groups.setdefault(str(method.get("_target_")), {}).setdefault(method[MASKED], row)
    largest = max(groups.values(), key=len, default={})
    return sorted(largest.items()) if len(largest) > 1 else []


def by_masked(section: Section, columns: Sequence[Column], looks: Mapping[str, Look]) -> Figure:
    """Draw one panel for each metric over the number of masked objects."""
    rows = masked_rows(section)
    with drawing(
        2.7 * len(columns) + 0.6, 3.0, title="By number of masked objects", note=f"{section.title}. {INTERVALS}"
    ) as figure:
        panels = figure.subplots(1, len(columns), squeeze=False)[0]
        for axes, column in zip(panels, columns, strict=True):
            points = [(count, row, row.cells[column.key]) for count, row in rows if column.key in row.cells]
            axes.plot(
                [count for count, _, _ in points], [cell.mean for _, _, cell in points], color="#bbbbbb", zorder=1
            )
            for count, row, cell in points:
                look = looks[section.name_of(row)]
                spread(axes, count, cell.low, cell.high, look, upright=True)
                axes.plot(
                    [count] * len(cell.by_seed), list(cell.by_seed.values()), ".", color=look.colour, markersize=3
                )
                hollow = "white" if cell.collapsed else look.colour
                axes.plot(count, cell.mean, look.marker, color=look.colour, markerfacecolor=hollow)
            axes.set_title(f"{column.group}\n{column.words} {column.arrow}")
            axes.set_xlabel("masked objects")
            axes.set_ylabel(column.unit)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.margins(x=0.15)
    return figure


def timed_rows(section: Section, column: Column) -> list[tuple[float, Row, Cell]]:
    """Return rows with a success rate and the seconds of a plan (mean over their runs), fastest first."""
    found = []
    for row in section.rows:
        seconds = [taken for record in row.records if (taken := seconds_per_plan(record)) is not None]
        if seconds and column.key in row.cells:
            found.append((sum(seconds) / len(seconds), row, row.cells[column.key]))
    return sorted(found, key=lambda point: point[0])


def by_planning_time(section: Section, column: Column, looks: Mapping[str, Look]) -> Figure:
    """Draw success over the seconds of one plan, with the front of those that nothing faster beats."""
    points = timed_rows(section, column)
    note = f"{section.title}. Median seconds of one plan, without the simulator. Line: what nothing faster beats."
    with drawing(6.6, 3.4, title=f"Success against planning time: {column.words}", note=note) as figure:
        axes = figure.subplots()
        front: list[tuple[float, float]] = []
        for seconds, row, cell in points:
            look = looks[section.name_of(row)]
            spread(axes, seconds, cell.low, cell.high, look, upright=True)
            axes.plot(seconds, cell.mean, look.marker, color=look.colour, markersize=7)
            if not front or cell.mean > front[-1][1]:
                front.append((seconds, cell.mean))
        low, high = points[0][0] / 1.6, points[-1][0] * 1.6
        front.append((high, front[-1][1]))
        axes.step([at for at, _ in front], [rate for _, rate in front], where="post", color="#bbbbbb", zorder=0)
        bounds = [row for row in row_order(section) if not row.learned and column.key in row.cells]
        for row in bounds:
            look = looks[section.name_of(row)]
            axes.axhline(row.cells[column.key].mean, color=look.colour, linestyle=look.dash, linewidth=1.2)
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.minorticks_off()
        axes.set_ylim(-3, 106)
        axes.set_xlabel("seconds of one plan")
        axes.set_ylabel("success, %")
        shown = {section.name_of(row): looks[section.name_of(row)] for row in [row for _, row, _ in points] + bounds}
        legend_beside(figure, shown, lines=True)
    return figure
