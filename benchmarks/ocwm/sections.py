"""Records -> sections, rows and cells: which runs may stand in one table, and what each figure is worth.

A section holds runs of one task with the same data, split, kind of encoder input, preset, protocol and component
versions; nothing is ever compared across sections. A row holds the runs that differ by training seeds only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import orjson

from ocwm.cells import Cell, Column, cells, training_seed
from ocwm.figures import headline_metrics
from ocwm.store import Record
from ocwm.verdicts import Separation, separations

_DATA_ORDER = ("embedded", "official", "trajectories")
_PRESET_ORDER = ("tiny", "smoke", "mini", "standard", "paper")
_OWN_VERSIONS = (
    "method",
    "trainer",
    "init",
    "encoder",
    "weights",
)  # differ from row to row; all others belong to the section


@dataclass(frozen=True)
class Row:
    """The runs of one method (or reference) in one configuration.

    Attributes:
        label: the name, with what the user changed against the preset.
        records: the records that count, one for each id.
        repeats: for every id that was run more than once: the record that counts and all of them.
        cells: metric key -> figure; a metric that was not measured is missing.
    """

    label: str
    records: tuple[Record, ...]
    repeats: tuple[tuple[Record, tuple[Record, ...]], ...]
    cells: Mapping[str, Cell]

    @cached_property
    def learned(self) -> bool:
        """False for references."""
        return self.records[0].kind == "method"

    @property
    def privileged(self) -> str:
        """The input that no method may read, "" where there is none."""
        name = self.records[0].privileged
        return "" if name == "none" else name.replace("_", " ")

    @property
    def encoder(self) -> str:
        """The encoder's name."""
        return self.records[0].encoder

    @cached_property
    def seeds(self) -> int:
        """Number of training seeds."""
        return len({training_seed(record) for record in self.records})

    @cached_property
    def dirty(self) -> bool:
        """Whether a record comes from a checkout with uncommitted changes."""
        return any(is_dirty(record) for record in self.records)


@dataclass(frozen=True)
class Section:
    """Everything that may stand in one table.

    Attributes:
        title: task, data, encoder input, preset and protocol; `short_title` in fewer words.
        rows: learned methods first, then references without and with privileged input.
        columns: metrics in the order of the records.
        encoders: their names.
        absent: references of the task without a record here.
        imagined: metric key -> least and largest share of imagined frames in the reasoner's input, where declared.
        separations: by metric key, where two learned rows have a figure and a world model can have an effect.
    """

    title: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    encoders: tuple[str, ...]
    absent: tuple[str, ...]
    imagined: Mapping[str, tuple[float, float]]
    separations: Mapping[str, Separation]

    def name_of(self, row: Row) -> str:
        """Return what separations call a row: its label, with the encoder where there are several."""
        return row.label if len(self.encoders) == 1 else f"{row.label} on {row.encoder}"

    @property
    def short_title(self) -> str:
        """Task, preset, data, encoder input and the first words of the protocol."""
        section = self.sample.section
        start = section["protocol"].partition(",")[0]
        words = [self.sample.task, section["preset"], section["data"], section["encoder_reads"], start]
        return " ".join(word for word in words if word)

    @property
    def headline(self) -> list[Column]:
        """The metrics of a short answer: those that the task names, else the first of each group that is reached."""
        named = [column for key in headline_metrics(self.sample.task) for column in self.columns if column.key == key]
        firsts: dict[str, Column] = {}
        for column in self.columns:
            if self.imagined.get(column.key, (1.0, 1.0))[1] > 0:
                firsts.setdefault(column.group, column)
        return named or list(firsts.values())

    @property
    def sample(self) -> Record:
        """Any record of the section, for what all of them share."""
        return self.rows[0].records[0]

    @property
    def records(self) -> list[Record]:
        """Every record that counts."""
        return [record for row in self.rows for record in row.records]


def is_dirty(record: Record) -> bool:
    """Say whether the record comes from a checkout with uncommitted changes."""
    return bool(record.provenance.get("dirty"))


def counted(records: Iterable[Record]) -> list[tuple[Record, tuple[Record, ...]]]:
    """Return, for every id, the record that counts (the first clean one, else the first) and all records of the id."""
    by_id: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda r: (r.task, r.method, r.id, r.repeat)):
        by_id.setdefault(record.id, []).append(record)
    return [(next((r for r in same if not is_dirty(r)), same[0]), tuple(same)) for same in by_id.values()]


def sections(records: Sequence[Record]) -> list[Section]:
    """Sort records into sections, in the order of the leaderboard: task, data, encoder input, preset, protocol."""
    groups: dict[bytes, list[Record]] = {}
    for record in records:
        groups.setdefault(orjson.dumps(_section_key(record)), []).append(record)
    titles = Counter(_title(same[0]) for same in groups.values())
    known = {task: _known_references(records, task) for task in {record.task for record in records}}
    found = []
    for key in sorted(groups, key=orjson.loads):
        same = groups[key]
        title = _title(same[0])
        if titles[title] > 1:
            versions = " ".join(f"{name} {value}" for name, value in _versions(same[0]).items())
            title += f" · manifest {same[0].data['manifest'][:8]}" + (f" · versions {versions}" if versions else "")
        found.append(_section(title, same, known[same[0].task]))
    return found


def _section_key(record: Record) -> list[Any]:
    section, split = record.section, record.split
    return [
        record.task,
        *_rank(section["data"], _DATA_ORDER),
        section["encoder_reads"] != "state",
        section["encoder_reads"],
        *_rank(section["preset"], _PRESET_ORDER),
        section["protocol"] != "published",
        section["protocol"],
        record.data["name"],
        record.data["manifest"],
        split["name"],
        split["hash"],
        sorted((name, str(value)) for name, value in _versions(record).items()),
    ]


def _rank(name: str, order: tuple[str, ...]) -> tuple[int, str]:
    return (order.index(name) if name in order else len(order)), name


def _versions(record: Record) -> dict[str, Any]:
    versions = record.identity.get("versions", {})
    return {name: versions[name] for name in sorted(versions) if name not in _OWN_VERSIONS}


def _title(record: Record) -> str:
    section = record.section
    parts = [
        record.task,
        f"{section['data']} data",
        f"{section['encoder_reads']} encoder",
        f"preset {section['preset']}",
    ]
    return " · ".join([*parts, f"protocol {section['protocol']}"] if section["protocol"] else parts)


def _known_references(records: Iterable[Record], task: str) -> set[str]:
    """Return the references of a task: those that any of its records is of, or names in its notes."""
    same = [record for record in records if record.task == task]
    named = {str(name) for record in same for name in record.notes.get("references", ())}
    return named | {record.method for record in same if record.kind == "reference"}


def _section(title: str, records: Sequence[Record], references: set[str]) -> Section:
    groups: dict[bytes, list[tuple[Record, tuple[Record, ...]]]] = {}
    for record, same in counted(records):
        config = {key: value for key, value in record.identity["config"].items() if key != "seeds"}
        versions = record.identity.get("versions", {})
        groups.setdefault(orjson.dumps([record.method, config, versions], option=orjson.OPT_SORT_KEYS), []).append(
            (record, same)
        )
    plain = {key: _label(found[0][0]) for key, found in groups.items()}
    twice = Counter((plain[key], found[0][0].encoder) for key, found in groups.items())
    rows = []
    for key, found in groups.items():
        first = found[0][0]
        # The same words for another configuration: versions or keys that the preset changed. The id tells them apart.
        label = plain[key] if twice[plain[key], first.encoder] == 1 else f"{plain[key]} #{first.id[:6]}"
        counting = tuple(record for record, _ in found)
        repeats = tuple((record, same) for record, same in found if len(same) > 1)
        rows.append(Row(label=label, records=counting, repeats=repeats, cells=cells(counting)))
    rows.sort(key=lambda row: (not row.learned, bool(row.privileged), row.label, row.encoder, row.records[0].id))
    columns = _columns([record for row in rows for record in row.records])
    shares = _imagined([record for row in rows if row.learned for record in row.records], columns)
    encoders = sorted({row.encoder for row in rows})
    missing = [
        name if len(encoders) == 1 else f"{name} on {encoder}"
        for name in sorted(references)
        for encoder in encoders
        if not any(row.records[0].method == name and row.encoder == encoder for row in rows)
    ]
    section = Section(
        title=title,
        rows=tuple(rows),
        columns=columns,
        encoders=tuple(encoders),
        absent=tuple(missing),
        imagined=shares,
        separations={},
    )
    learned = {section.name_of(row): row.cells for row in rows if row.learned}
    reached = [column for column in columns if shares.get(column.key, (0.0, 1.0))[1] > 0]
    return replace(section, separations=separations(learned, reached))


def _imagined(records: Sequence[Record], columns: Sequence[Column]) -> dict[str, tuple[float, float]]:
    """Return metric key -> least and largest share of imagined frames that its learned rows declare."""
    by_kind: dict[str, set[float]] = {}
    for record in records:
        for kind, share in (record.notes.get("imagined_share") or {}).items():
            by_kind.setdefault(kind, set()).add(float(share))
    return {column.key: (min(shares), max(shares)) for column in columns if (shares := by_kind.get(column.kind))}


def _label(record: Record) -> str:
    changed = [text for text in record.overrides if not text.startswith("encoder=")]
    words = ", ".join(text.removeprefix("method.") for text in sorted(changed))
    return f"{record.method} ({words})" if words else record.method


def _columns(records: Sequence[Record]) -> tuple[Column, ...]:
    """Merge the measured metrics of records in their order; one that only some have follows its predecessor."""
    order: list[str] = []
    measured: set[str] = set()
    found: dict[str, Column] = {}
    for record in records:
        if record.metrics.keys() <= measured:
            continue  # nothing new, as with nearly all records
        place = 0
        for key, metric in record.metrics.items():
            if metric["value"] is not None:
                measured.add(key)
            if key in found:
                place = order.index(key) + 1
                continue
            order.insert(place, key)
            place += 1
            found[key] = Column(key, metric["unit"], metric["higher_is_better"])
    return tuple(found[key] for key in order if key in measured)
