"""Single items for the page: each section's task is asked to show what its runs kept."""

from __future__ import annotations

from collections.abc import Sequence

from ocwm.errors import BenchError
from ocwm.evidence import Evidence, Shown
from ocwm.progress import say
from ocwm.sections import Section, sections
from ocwm.store import Record, read_items


def collect(records: Sequence[Record], *, count: int) -> dict[str, Sequence[Evidence]]:
    """Return up to `count` items of each section, by its title; what can't be shown is said and left out.

    Data that the pictures need and that is not in the cache is made.
    """
    found = {}
    for section in sections(records) if count else ():
        try:
            found[section.title] = _of(section, count)
        except BenchError as error:
            say(f"no single items of {section.short_title}: {error}")
    return found


def _of(section: Section, count: int) -> Sequence[Evidence]:
    from ocwm import run as engine
    from ocwm.config import compose

    runs = []
    for row in section.rows:
        record = min(row.records, key=lambda one: sorted(one.seeds.items()))
        if record.items_path is not None:
            runs.append(Shown(section.name_of(row), record, read_items(record)))
    if not runs:
        return ()
    sample = next((run.record for run in runs if run.record.kind == "method"), runs[0].record)
    seeds = [f"seeds.{axis}={seed}" for axis, seed in sample.seeds.items()]
    config = compose(
        method=sample.method,
        task=sample.task,
        preset=sample.preset,
        overrides=[*sample.overrides, *(seed for seed in seeds if seed not in sample.overrides)],
    )
    cell = engine.prepare(config)
    return cell.task.evidence(runs, engine.workspace(config, versions=cell.versions, data=cell.data), count=count)
