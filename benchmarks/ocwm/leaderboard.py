"""leaderboard.md: a pure function of the records, with published figures in tables of their own at the end."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path

from ocwm.cells import MIN_SEEDS
from ocwm.errors import BenchError
from ocwm.figures import preset_label
from ocwm.markup import Block, Heading, Lines, grid, render
from ocwm.published_tables import published_blocks
from ocwm.run_list import run_blocks
from ocwm.sections import Section, sections
from ocwm.store import Record
from ocwm.summary import short_answer
from ocwm.tables import LEGEND, section_blocks

_WHAT = (
    "Written by `bench leaderboard` from the records in `results/` and nothing else; do not edit. "
    "The rules behind it: [docs/statistics.md](docs/statistics.md)."
)
_HOW = (
    "A row is one method in one configuration. *Learned* rows are world models; *reference* rows are floors (what a "
    "method must beat) and ceilings. A reference that *reads* something reads an input that no method may, for example "
    "the true future.",
    "Each section has its own data, encoder input, preset and protocol. Figures of two sections can't be compared.",
    "↑ higher is better, ↓ lower is better. – not measured.",
    LEGEND,
    "A figure is **bold** only where the best learned row is separated from the runner-up over at least three training "
    "seeds. *Verdicts* says so for each metric, and how many more seeds or episodes it would take otherwise.",
    "*Attribution* says how much of the way from floor to ceiling a row goes, how far the reasoner's seed alone moves a "
    "figure, and what the run saw before it was measured.",
    "Figures from papers stand in columns and tables of their own, with the reasons why they can't be compared.",
    "§ the reasoner's input holds no imagined frame: whatever differs between rows there, the world model did not "
    "cause it. † collapsed to the floor. ‡ made from a checkout with uncommitted changes.",
    "Repeats of a run with the same seeds are listed with their spread and not counted.",
)


def build(records: Sequence[Record]) -> str:
    """Return the text of leaderboard.md; the same records always give the same bytes."""
    found = sections(records)
    blocks: list[Block] = [
        Heading(1, "Leaderboard"),
        Lines((_WHAT,), points=False),
        Heading(2, "The short answer"),
        *(short_answer(found) or [Lines(("There are no records of learned methods yet.",), points=False)]),
        Heading(2, "How to read this"),
        Lines(_HOW),
        Heading(2, "What can't be concluded"),
        Lines(tuple(_limits(found))),
    ]
    if found:
        blocks += [Heading(2, "Sections"), _overview(found)]
    for section in found:
        blocks += section_blocks(section)
        blocks += run_blocks(section, level=3)
    for task in sorted({record.task for record in records}):
        if published := published_blocks(task, level=3):
            head = f"Published figures: {task}"
            note = (
                "Copied from the named sources, not measured here; other data and other sizes than in the rows above."
            )
            blocks += [Heading(2, head), Lines((note,), points=False), *published]
    return render(blocks, "md")


def write(path: Path, records: Sequence[Record]) -> bool:
    """Write leaderboard.md where it is not current; say whether it was written."""
    text = build(records)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BenchError(f"can't write {path}: {error.strerror or error}") from error
    return True


def differences(path: Path, records: Sequence[Record]) -> str:
    """Return how the file differs from what the records say, as a unified diff; "" where it is current."""
    current = path.read_text(encoding="utf-8") if path.is_file() else ""
    lines = difflib.unified_diff(
        current.splitlines(), build(records).splitlines(), str(path), "from the records", lineterm="", n=0
    )
    return "\n".join(lines)


def _overview(found: Sequence[Section]) -> Block:
    body = []
    for section in found:
        learned = [row for row in section.rows if row.learned]
        bold = sum(separation.separated for separation in section.separations.values())
        seeds = sorted({row.seeds for row in learned})
        count = "–" if not seeds else "–".join(dict.fromkeys(map(str, (seeds[0], seeds[-1]))))
        body.append([section.title, str(len(learned)), count, str(len(section.rows) - len(learned)), str(bold)])
    header = ["section", "learned rows", "training seeds", "references", "metrics with a separated best row"]
    return grid(header, body)


def _limits(found: Sequence[Section]) -> Iterator[str]:
    """Yield what the records at hand don't show."""
    if not found:
        yield "Anything: there are no records yet."
        return
    learned = [row for section in found for row in section.rows if row.learned]
    few = sum(row.seeds < MIN_SEEDS for row in learned)
    if few:
        yield (
            f"{few} of {len(learned)} learned rows have fewer than {MIN_SEEDS} training seeds. They say how good those "
            "checkpoints are, not how good the method is."
        )
    if learned and not any(s.separated for section in found for s in section.separations.values()):
        yield "No best learned row is separated from its runner-up in any metric: no method is shown to be the best."
    kinds = {section.sample.section["data"] for section in found}
    if kinds == {"embedded"}:
        yield "All rows are measured on generated data. Nothing here says how a method does on the official data sets."
    elif "embedded" in kinds:
        yield "Rows on embedded (generated) data say nothing about the official data sets, and the other way round."
    for preset in dict.fromkeys(section.sample.preset for section in found):
        if label := preset_label(preset):
            yield f"Rows of preset `{preset}` are {label}: a method that is behind may only need longer training."
    if any(section.sample.section["encoder_reads"] == "state" for section in found):
        yield "Rows with a state encoder are given the true objects. They say nothing about objects found in pixels."
    unreached = sorted(
        {".".join(key.split(".")[:2]) for s in found for key, share in s.imagined.items() if not share[1]}
    )
    if unreached:
        yield f"No effect of a world model can show in {', '.join(f'`{kind}`' for kind in unreached)} where marked §."
    if any(cell.collapsed for row in learned for cell in row.cells.values()):
        yield "A collapsed row (†) shows that a training run failed, not that the method can't do it."
