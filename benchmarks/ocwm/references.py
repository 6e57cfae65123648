"""Which reference records belong beside a run, and what they say: floors and ceilings of a metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ocwm.sections import counted
from ocwm.store import Record

_FREE = ("method", "trainer", "init")  # components whose version may differ between a run and its references


@dataclass(frozen=True)
class Bound:
    """A reference's figure for one metric: its name and the mean over its runs."""

    name: str
    value: float


def matching_references(record: Record, records: Sequence[Record]) -> dict[str, list[Record]]:
    """Return the reference records that may stand beside a run: name -> one for each of its seeds.

    They share the run's task, data, split, section (preset, protocol, encoder input), encoder with its settings,
    component versions, and whatever the user changed in the task. Of repeats the first clean one is taken.
    """
    found: dict[str, list[Record]] = {}
    wanted = _conditions(record)
    for candidate, _ in counted(r for r in records if r.kind == "reference" and r.task == record.task):
        if _conditions(candidate) == wanted:
            found.setdefault(candidate.method, []).append(candidate)
    return dict(sorted(found.items()))


def absent_references(record: Record, references: Mapping[str, Sequence[Record]]) -> list[str]:
    """Return the references that the task names in the record's notes and that have no matching record."""
    named = (str(name) for name in record.notes.get("references", ()))
    return sorted(name for name in named if not references.get(name) and name != record.method)


def floor(record: Record, key: str, references: Mapping[str, Sequence[Record]]) -> Bound | None:
    """Return the best reference without privileged input, apart from the run itself: what a method has to beat."""
    return _best(record, key, [same for same in references.values() if same[0].privileged == "none"])


def ceiling(record: Record, key: str, references: Mapping[str, Sequence[Record]]) -> Bound | None:
    """Return the best reference with privileged input, apart from the run itself."""
    return _best(record, key, [same for same in references.values() if same[0].privileged != "none"])


def _best(record: Record, key: str, candidates: Sequence[Sequence[Record]]) -> Bound | None:
    bounds = []
    for same in candidates:
        figures = [r.metrics.get(key, {}).get("value") for r in same]
        values = [float(value) for value in figures if value is not None]
        if values and same[0].method != record.method:
            bounds.append(Bound(same[0].method, sum(values) / len(values)))
    sign = 1 if record.metrics[key]["higher_is_better"] else -1
    return max(bounds, key=lambda bound: sign * bound.value, default=None)


def _conditions(record: Record) -> list[object]:
    """Return everything that must be equal."""
    versions = record.identity.get("versions", {})
    return [
        record.task,
        dict(record.data),
        dict(record.split),
        dict(record.section),
        record.identity["config"].get("encoder"),
        {name: version for name, version in versions.items() if name not in _FREE},
        sorted(text for text in record.overrides if text.startswith("task.")),
        record.seeds["encoder"],
    ]
