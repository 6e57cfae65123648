"""Figures of shares in percent: success and accuracy by model, accuracy by question type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from ocwm.cells import Column
from ocwm.plots.style import BAND, Look, drawing, legend_beside, row_order, spread
from ocwm.sections import Section
from ocwm.table_notes import unreached

INTERVALS = "Bars: 95 % over training seeds (dots) where there are three, else over the items of one checkpoint. Hollow: collapsed."


def by_model(section: Section, columns: Sequence[Column], looks: Mapping[str, Look], *, title: str) -> Figure:
    """Draw one panel for each metric: models one below the other, with interval and the figure of every seed."""
    rows = [row for row in row_order(section) if any(column.key in row.cells for column in columns)]
    names = [section.name_of(row) for row in rows]
    width, height = 2.2 + 2.5 * len(columns), 1.5 + 0.27 * len(rows)
    with drawing(width, height, title=title, note=f"{section.title}. {INTERVALS}") as figure:
        panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
        for axes, column in zip(panels, columns, strict=True):
            for place, row in enumerate(rows):
                cell, look = row.cells.get(column.key), looks[section.name_of(row)]
                if cell is None:
                    axes.text(0.5, place, "not measured", fontsize=7, color="#8a8a8a", va="center",
                              transform=axes.get_yaxis_transform(), ha="center")  # fmt: skip
                    continue
                spread(axes, place, cell.low, cell.high, look, upright=False)
                if len(cell.by_seed) > 1:
                    axes.plot(list(cell.by_seed.values()), [place] * len(cell.by_seed), ".", color=look.colour,
                              markersize=3, alpha=0.6)  # fmt: skip
                hollow = "white" if cell.collapsed else look.colour
                axes.plot(cell.mean, place, look.marker, color=look.colour, markerfacecolor=hollow)
            axes.set_title(f"{column.group}\n{column.words}")
            axes.set_xlabel(_verdict(section, column), fontsize=7.5)
            axes.grid(visible=False, axis="y")
            axes.set_yticks(range(len(rows)), names)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} %")
            axes.xaxis.set_major_locator(_ticks())
            axes.margins(x=0.08)
            axes.tick_params(axis="y", length=0)
        panels[0].set_ylim(len(rows) - 0.5, -0.5)
        learned = sum(row.learned for row in rows)
        for axes in panels if 0 < learned < len(rows) else ():
            axes.axhline(learned - 0.5, color="#bbbbbb", linewidth=0.8, linestyle=":")
    return figure


def by_type(section: Section, columns: Sequence[Column], looks: Mapping[str, Look]) -> Figure:
    """Draw accuracy per question by question type, one panel for each reasoner; types that see no imagined frame shaded."""
    groups = list(dict.fromkeys(column.group for column in columns))
    rows = [row for row in row_order(section) if any(column.key in row.cells for column in columns)]
    note = f"{section.title}. Shaded: no imagined frame in the input, so no world model can have an effect. {INTERVALS}"
    with drawing(3.7 * len(groups) + 1.9, 3.1, title="Accuracy per question, by question type", note=note) as figure:
        panels = figure.subplots(1, len(groups), squeeze=False)[0]
        for axes, group in zip(panels, groups, strict=True):
            mine = [column for column in columns if column.group == group]
            step = 0.8 / max(1, len(rows))
            for place, column in enumerate(mine):
                if unreached(section, column):
                    axes.axvspan(place - 0.5, place + 0.5, color=BAND, linewidth=0)
                for number, row in enumerate(rows):
                    cell, look = row.cells.get(column.key), looks[section.name_of(row)]
                    if cell is not None:
                        at = place - 0.4 + step * (number + 0.5)
                        spread(axes, at, cell.low, cell.high, look, upright=True)
                        hollow = "white" if cell.collapsed else look.colour
                        axes.plot(at, cell.mean, look.marker, color=look.colour, markerfacecolor=hollow, markersize=4)
            axes.set_title(group)
            axes.set_xticks(range(len(mine)), [column.kind.partition(".")[2].replace("_", " ") for column in mine])
            axes.set_xlim(-0.5, len(mine) - 0.5)
            axes.grid(visible=False, axis="x")
            axes.set_ylim(0, 103)
            axes.set_ylabel("% correct" if group == groups[0] else "")
        legend_beside(figure, {section.name_of(row): looks[section.name_of(row)] for row in rows})
    return figure


def _verdict(section: Section, column: Column) -> str:
    if unreached(section, column):
        return "no world-model effect possible"
    separation = section.separations.get(column.key)
    if separation is None:
        return ""
    pair = f"{separation.best} vs {separation.runner_up}:\n"
    if separation.test is None:
        return f"{pair}no verdict ({separation.common} common seed{'s' * (separation.common != 1)})"
    return f"{pair}{'separated' if separation.separated else 'not separated'}"


def _ticks() -> object:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10], min_n_ticks=3)
