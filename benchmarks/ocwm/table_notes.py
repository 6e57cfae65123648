"""The sentences around a table: what holds for its section, what is separated, what the marks mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ocwm.cells import MIN_SEEDS, Cell, Column
from ocwm.figures import figure, preset_label
from ocwm.sections import Row, Section
from ocwm.store import Record


def section_facts(section: Section) -> Iterator[str]:
    """Yield what holds for the whole section."""
    sample = section.sample
    label = preset_label(sample.preset)
    yield (
        f"Data: {sample.data['name']} (manifest `{sample.data['manifest'][:12]}`), measured on split "
        f"`{sample.split['name']}` (`{sample.split['hash'][:12]}`). Encoder: {', '.join(section.encoders)}."
    )
    if label:
        yield f"**Preset `{sample.preset}`: {label}.** Compare its rows with each other and with nothing else."
    if untyped := {k: v for k, v in sample.notes.get("imagined_share", {}).items() if "." not in k}:
        yield f"Imagined frames in the input: {', '.join(f'{k} {_percent(v, v)}' for k, v in untyped.items())}."
    if section.absent:
        yield f"Absent references (no record here): {', '.join(section.absent)}."
    learned = [row for row in section.rows if row.learned]
    few = [s for s in section.separations.values() if s.common < MIN_SEEDS]
    if len(learned) < 2:
        yield "Nothing is bold: fewer than two learned rows."
    elif not section.separations:
        yield "Nothing is bold: no two learned rows share a metric in which a world model can have an effect."
    elif len(few) == len(section.separations):
        yield (
            f"Nothing is bold: a statement about two methods needs at least {MIN_SEEDS} training seeds that both have "
            f"(now {max(s.common for s in few)})."
        )
    else:
        tests = sum(s.test is not None for s in section.separations.values())
        yield (
            "Bold (a star in plain text): the best learned row, where it is separated from the runner-up over training "
            f"seeds (Holm-corrected over the {tests} comparisons of this section, see Verdicts)."
        )
    if any(row.dirty for row in section.rows):
        yield "‡ made from a checkout with uncommitted changes."
    for row in section.rows:
        for record, same in row.repeats:
            yield _repeats(row, record, same)
    told: dict[str, list[str]] = {}
    for row in section.rows:
        for warning in dict.fromkeys(warning for record in row.records for warning in record.warnings):
            told.setdefault(warning, []).append(row.label)
    for warning, labels in told.items():
        who = "" if len(labels) == len(section.rows) else f" ({', '.join(dict.fromkeys(labels))})"
        yield f"{warning[:1].upper()}{warning[1:].rstrip('.')}{who}."


def table_notes(section: Section, rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    """Return the lines below a table: how many items, what the model reaches, what the marks mean."""
    notes = [_items(rows, columns)]
    if shares := {column.kind: section.imagined[column.key] for column in columns if column.key in section.imagined}:
        parts = [f"{kind.partition('.')[2].replace('_', ' ')} {_percent(*share)}" for kind, share in shares.items()]
        notes.append(f"Imagined frames in the input: {', '.join(parts)}.")
    if any(unreached(section, column) for column in columns):
        notes.append("§ 0 % imagined frames: no world-model effect possible, so rows are not compared here.")
    if any(column.key in row.cells and row.cells[column.key].collapsed for row in rows for column in columns):
        notes.append("† at the floor in at least one run: collapsed, which is no measure of the method.")
    return notes


def _items(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Say how many items stand behind a figure of one run."""
    counts: dict[str, list[str]] = {}
    for column in columns:
        found = sorted({row.cells[column.key].n for row in rows if column.key in row.cells})
        text = "–".join(f"{count:,}" for count in dict.fromkeys((found[0], found[-1])))
        counts.setdefault(text, []).append(column.words)
    if len(counts) == 1:
        return f"n (items of a run): {next(iter(counts))}."
    parts = [f"{count} {', '.join(names)}" for count, names in counts.items()]
    return f"n (items of a run): {'; '.join(parts)}."


def _repeats(row: Row, record: Record, same: Sequence[Record]) -> str:
    """Say how far the repeats of one run lie apart; they are never counted in n."""
    head = (
        f"Repeats: {row.label}, model seed {record.seeds['model']}, {len(same)} records (number {record.repeat} counts)"
    )
    spreads = []
    for key in record.metrics:
        figures = [r.metrics.get(key, {}).get("value") for r in same]
        values = [value for value in figures if value is not None]
        scale = max(map(abs, values), default=0.0)
        if scale > 0:
            spreads.append(((max(values) - min(values)) / scale, key, min(values), max(values)))
    relative, key, low, high = max(spreads, default=(0.0, "", 0.0, 0.0))
    return (
        f"{head}: all figures equal." if relative == 0 else f"{head}: largest spread `{key}` {low:.6g} to {high:.6g}."
    )


def _percent(low: float, high: float) -> str:
    ends = [figure(100 * low, decimals=1 if low else 0), figure(100 * high, decimals=1 if high else 0)]
    return f"{'–'.join(dict.fromkeys(ends))} %"


def unreached(section: Section, column: Column) -> bool:
    """Say whether no frame of the metric's input is imagined, so that no world model can have an effect."""
    return section.imagined.get(column.key, (1.0, 1.0))[1] == 0


def marked_name(row: Row) -> str:
    """Return the row's name with the mark for uncommitted changes."""
    return row.label + (" ‡" if row.dirty else "")


def interval_text(cell: Cell, decimals: int) -> str:
    """Return a figure's interval: ± over training seeds, [low, high] over the items of one checkpoint, or nothing."""
    if cell.low is None or cell.high is None:
        return ""
    if cell.source == "seeds":
        return f" ±{figure((cell.high - cell.low) / 2, decimals=decimals)}"
    return f" [{figure(cell.low, decimals=decimals)}, {figure(cell.high, decimals=decimals)}]"
