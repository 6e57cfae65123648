"""The table at the end of a run: every metric with its interval, and floor and ceiling beside it."""

from __future__ import annotations

from collections.abc import Sequence

from ocwm.figures import decimals_of, figure, preset_label
from ocwm.markup import Block, Lines, grid, render
from ocwm.quality import quality_lines
from ocwm.references import Bound, absent_references, ceiling, floor, matching_references
from ocwm.sections import is_dirty
from ocwm.store import Record


def run_table(record: Record, records: Sequence[Record], *, form: str = "plain") -> str:
    """Return the table of one run.

    Args:
        record: the run.
        records: records to look for references in, as `store.read_records` gives them; the run's own may be among
            them. A metric without a matching reference says "absent".
        form: "plain", "md" or "latex".
    """
    references = matching_references(record, records)
    shares = record.notes.get("imagined_share", {})
    body = []
    measured = {key: metric for key, metric in record.metrics.items() if metric["value"] is not None}
    for key, metric in measured.items():
        low, high = metric["low"], metric["high"]
        bounds = floor(record, key, references), ceiling(record, key, references)
        shown = [metric["value"], *(bound.value for bound in bounds if bound)]
        decimals = decimals_of(shown, metric["unit"])
        share = shares.get(".".join(key.split(".")[:2]))
        body.append(
            [
                key,
                ("↑" if metric["higher_is_better"] else "↓") + (f" {metric['unit']}" if metric["unit"] else ""),
                figure(metric["value"], decimals=decimals) + (" †" if key in record.collapsed else ""),
                "–" if low is None else f"[{figure(low, decimals=decimals)}, {figure(high, decimals=decimals)}]",
                f"{metric['n']:,}",
                *(_bound(bound, decimals) for bound in bounds),
                *(["–" if share is None else f"{figure(100 * share, decimals=1 if share else 0)} %"] if shares else []),
            ]
        )
    header = ["metric", "unit", "value", "95 % interval", "n", "floor to beat", "ceiling"]
    header += ["imagined input"] if shares else []
    blocks: list[Block] = [grid(header, body, words=2), Lines(tuple(_notes(record, references)))]
    return render(blocks, form)


def _bound(bound: Bound | None, decimals: int) -> str:
    return "absent" if bound is None else f"{figure(bound.value, decimals=decimals)} {bound.name}"


def _notes(record: Record, references: dict[str, list[Record]]) -> list[str]:
    kinds = sorted({str(metric["interval"]) for metric in record.metrics.values() if metric["interval"]})
    notes = [
        f"Intervals: {', '.join(kinds) or 'none given'}; they hold for this checkpoint only. "
        "A statement about the method needs at least 3 seeds (bench table)."
    ]
    label = preset_label(record.preset)
    if missing := [key for key, metric in record.metrics.items() if metric["value"] is None]:
        notes.append(f"Not measured (no items): {', '.join(missing)}.")
    if label:
        notes.append(f"Preset {record.preset}: {label}.")
    if absent := absent_references(record, references):
        notes.append(f"Absent references: {', '.join(absent)}. Run them with --method NAME.")
    if 0 in record.notes.get("imagined_share", {}).values():
        notes.append(
            "Imagined input 0 %: the reasoner sees no frame that the model made, so no effect of it is possible."
        )
    if record.collapsed:
        notes.append("† at the floor: collapsed, which is no measure of the method.")
    if quality := record.notes.get("encoder_quality"):
        notes += quality_lines(quality)
    if is_dirty(record):
        notes.append("Made from a checkout with uncommitted changes; tables mark it.")
    return [*notes, *(f"Warning: {warning}" for warning in record.warnings)]
