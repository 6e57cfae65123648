"""The page: a short answer, one table of all headline figures to sort and filter, figures, evidence, every table."""

from __future__ import annotations

import html as escape
import io
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from ocwm.errors import BenchError
from ocwm.evidence import Evidence, Picture
from ocwm.export import is_separated
from ocwm.figures import decimals_of, figure
from ocwm.markup import Block, Lines
from ocwm.page import html
from ocwm.run_list import run_blocks
from ocwm.sections import Row, Section, sections
from ocwm.store import Record
from ocwm.summary import short_answer
from ocwm.table_notes import interval_text, marked_name
from ocwm.tables import LEGEND, section_blocks
from ocwm.whole_files import write_whole

LARGEST = 5_000_000  # bytes
_DPI = 110  # of figures
_NOTHING = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_HOW = (
    "A row is one method in one configuration; *learned* rows are world models, *reference* rows floors and ceilings. "
    "Figures of two sections can't be compared.",
    LEGEND,
    "**Bold**: separated from the runner-up over training seeds. † collapsed to the floor. § no imagined frame reaches "
    "the answer. ‡ made from a checkout with uncommitted changes.",
)
_FILTERS = (("task", "Task"), ("preset", "Preset"), ("kind", "Kind"), ("metric", "Metric"))


def build(records: Sequence[Record], evidence: Mapping[str, Sequence[Evidence]] | None = None) -> str:
    """Return the page; the same records and evidence always give the same bytes.

    Args:
        records: as `store.read_records` gives them.
        evidence: items to show, by the title of their section.

    Raises:
        BenchError: there is no record, or the page would be larger than LARGEST.
    """
    found = sections(records)
    if not found:
        raise BenchError("no record to show", "Make one with bench run.")
    shown = evidence or {}
    links = [
        f'<a href="#{_anchor(number)}">{escape.escape(section.short_title)}</a>' for number, section in _numbered(found)
    ]
    body = [
        "<header><h1>ocwm-bench</h1><p>Object-centric world models, measured side by side. This page is made from run "
        "records and nothing else, and works without a network.</p></header>",
        f'<nav aria-label="Sections"><a href="#figures-of-all">All figures</a>{"".join(links)}</nav>',
        "<main>",
        "<section><h2>The short answer</h2>",
        html.blocks(_answer(found), name="The short answer"),
        "<details><summary>How to read this</summary>",
        html.blocks([Lines(_HOW)], name=""),
        "</details></section>",
        _all_figures(found),
    ]
    pictures = _pictures(found)
    for number, section in _numbered(found):
        body.append(_section(section, _anchor(number), pictures.get(section.title, ()), shown.get(section.title, ())))
    body.append("</main>")
    page = _document("\n".join(body))
    if len(page.encode()) > LARGEST:
        raise BenchError(
            f"the page would have {len(page.encode()) / 1e6:.1f} MB, more than {LARGEST / 1e6:.0f}",
            "Show less: --task, --preset or a smaller --items.",
        )
    return page


def write(path: Path, page: str) -> None:
    """Write the page, whole or not at all. Errors: BenchError."""
    try:
        write_whole(path, page.encode())
    except OSError as error:
        raise BenchError(f"can't write {path}: {error.strerror or error}", "Choose another --out.") from error


def _answer(found: Sequence[Section]) -> list[Block]:
    return short_answer(found) or [Lines(("There are no records of learned methods yet.",), points=False)]


def _numbered(found: Sequence[Section]) -> Iterator[tuple[int, Section]]:
    return enumerate(found, start=1)


def _anchor(number: int) -> str:
    return f"section-{number}"


def _all_figures(found: Sequence[Section]) -> str:
    """One line for each section, row and metric."""
    header = ("section", "model", "kind", "metric", "value", "95 % interval", "n", "training seeds")
    rows = [
        line for number, section in _numbered(found) for row in section.rows for line in _lines(section, row, number)
    ]
    options = {
        key: sorted({_attribute(line, key) for line in rows} - {""}) for key in ("task", "preset", "kind", "metric")
    }
    controls = "".join(
        f'<label>{label}<select data-filter="{key}"><option value="">all</option>'
        + "".join(f"<option>{option}</option>" for option in options[key])
        + "</select></label>"
        for key, label in _FILTERS
    )
    heads = "".join(
        f'<th scope="col"{" class=number" if place > 3 else ""} aria-sort="none"><button type="button">{name}</button></th>'
        for place, name in enumerate(header)
    )
    table = f"<table><thead><tr>{heads}</tr></thead>\n<tbody>\n{''.join(rows)}</tbody></table>"
    return (
        '<section id="figures-of-all"><h2>All figures</h2>'
        "<p>Click a column to sort by it; choose what to show. Rows of different sections can't be compared.</p>"
        f'<form class="filters" data-table="all"><label>Search<input type="search" placeholder="model or metric"></label>'
        f'{controls}<label class="check"><input type="checkbox" checked data-headline>headline metrics only</label>'
        '<button type="reset">Reset</button>'
        '<output aria-live="polite"></output></form>'
        f'<div id="all">{html.scrolled(table, name="All figures")}</div></section>'
    )


def _lines(section: Section, row: Row, number: int) -> Iterator[str]:
    sample, headline = section.sample, {column.key for column in section.headline}
    kind = "learned" if row.learned else "reference"
    for column in section.columns:
        cell = row.cells.get(column.key)
        if cell is None:
            continue
        decimals = decimals_of([cell.mean], column.unit)
        value = figure(cell.mean, decimals=decimals) + (f" {column.unit}" if column.unit else "")
        if is_separated(section, row, column):
            value = f"<strong>{value}</strong>"
        name = f"{column.group} {column.words} {column.arrow}"
        yield (
            f'<tr data-task="{sample.task}" data-preset="{sample.preset}" data-kind="{kind}" '
            f'data-metric="{escape.escape(f"{column.group} {column.words}")}"{" data-head" if column.key in headline else ""}>'
            f'<td><a href="#{_anchor(number)}">{escape.escape(section.short_title)}</a></td>'
            f"<td>{html.text(marked_name(row))}{' †' if cell.collapsed else ''}</td><td>{kind}</td>"
            f"<td>{escape.escape(name)}</td>"
            f'<td class="number" data-value="{cell.mean!r}">{value}</td>'
            f'<td class="number">{escape.escape(interval_text(cell, decimals).strip()) or "–"}</td>'
            f'<td class="number">{cell.n:,}</td><td class="number">{len(cell.by_seed)}</td></tr>\n'
        )


def _attribute(line: str, key: str) -> str:
    return line.partition(f'data-{key}="')[2].partition('"')[0]


def _section(section: Section, anchor: str, pictures: Sequence[Picture], evidence: Sequence[Evidence]) -> str:
    drawn = "".join(map(html.picture, pictures))
    items = "".join(map(html.evidence, evidence))
    blocks = section_blocks(section, level=2)
    facts, rest = blocks[:2], blocks[2:]
    return "\n".join(
        [
            f'<section id="{anchor}">',
            html.blocks(facts, name=section.title),
            f'<div class="figures">{drawn}</div>' if drawn else "",
            f"<details open><summary>Single items</summary>{items}</details>" if items else "",
            f"<details><summary>All tables</summary>{html.blocks(rest, name=section.title)}</details>",
            f"<details><summary>Records</summary>{html.blocks(run_blocks(section, level=3), name='Records')}</details>",
            "</section>",
        ]
    )


def _pictures(found: Sequence[Section]) -> dict[str, list[Picture]]:
    """The figures of each section, by its title."""
    from ocwm.plots import draw_figures
    from ocwm.plots.style import save

    drawn: dict[str, list[Picture]] = {}
    for kind, section, plot in draw_figures(found):
        buffer = io.BytesIO()
        save(plot, buffer, dpi=_DPI)
        words = f"{kind.name.replace('_', ' ')}: {section.short_title}"
        drawn.setdefault(section.title, []).append(Picture(buffer.getvalue(), words))
    return drawn


def _document(body: str) -> str:
    here = files("ocwm.page")
    style, script = (here.joinpath(name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_NOTHING}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>ocwm-bench report</title>\n'
        f'<link rel="icon" href="data:,">\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n<script>\n{script}</script>\n'
        "</body>\n</html>\n"
    )
