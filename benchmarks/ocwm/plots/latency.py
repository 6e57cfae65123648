"""Figure of where the time of a plan goes."""

from __future__ import annotations

from matplotlib.figure import Figure

from ocwm.cost_table import machines, plan_parts, seconds_per_plan
from ocwm.plots.style import COLOURS, drawing, row_order
from ocwm.sections import Row, Section


def planning_rows(section: Section) -> list[Row]:
    """Return the rows with a timed plan."""
    return [row for row in row_order(section) if any(plan_parts(record) for record in row.records)]


def stack(section: Section) -> Figure:
    """Draw the median seconds of one plan by part, one bar for each row (its first timed run)."""
    rows = planning_rows(section)
    timed = [next(record for record in row.records if plan_parts(record)) for row in rows]
    names = list(dict.fromkeys(name for record in timed for name in plan_parts(record)))
    where = machines(timed).partition("Measured on: ")[2]
    note = f"{section.title}. Medians by part; the line ends at the 95th percentile. Measured on: {where}"
    with drawing(7.0, 1.2 + 0.36 * len(rows), title="Where the time of one plan goes", note=note) as figure:
        axes = figure.subplots()
        for number, name in enumerate(names):
            widths = [plan_parts(record).get(name, 0.0) for record in timed]
            starts = [sum(plan_parts(record).get(before, 0.0) for before in names[:number]) for record in timed]
            axes.barh(range(len(rows)), widths, left=starts, height=0.6, color=COLOURS[number % len(COLOURS)], label=name,
                      edgecolor="white", linewidth=0.6)  # fmt: skip
        for place, record in enumerate(timed):
            total, late = seconds_per_plan(record) or 0.0, seconds_per_plan(record, "p95") or 0.0
            axes.hlines(place, total, max(total, late), color="#555555", linewidth=1)
            axes.annotate(f"{total:.3g} s", (max(total, late), place), xytext=(4, 0), textcoords="offset points",
                          va="center", fontsize=8)  # fmt: skip
        axes.set_yticks(range(len(rows)), [section.name_of(row) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.margins(x=0.15)
        axes.set_xlim(left=0)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("seconds of one plan")
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper")
    return figure
