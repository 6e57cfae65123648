"""Published figures, bundled as facts by the plugin packages; never mixed with measured ones.

A package's `published.yaml` lies beside its `conf` folder:

    tasks:
      NAME:
        beside: [METRIC, ...]        metrics whose published figures are put in columns beside measured ones
        caveats: [sentence, ...]
        tables:
          - title, source, table (its number there), unit, notes: [sentence, ...]
            metrics: [METRIC, ...]   keys as in records where the metric is one that is measured here
            shared: {...}            what all rows have in common: any key of a row
            rows:
              - {label: ..., figures: [...]}

A row has a `label` and as many `figures` as there are metrics: a number, {value: ..., spread: ...} with the spread as the
source gives it, or null (not given). It may say what it is: `setting` (words), `encoder`, `method` (the name here) with
`settings` (keys of that method that make it the same configuration), `data` (as records name it), `split` with `split_here`
(the name that records give the same split), `protocol`, `seeds` (training seeds), `episodes`, and `differs` (reasons why no
record here can be compared with it).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocwm import registry
from ocwm.errors import BenchError
from ocwm.stats import wilson
from ocwm.store import Record

_WORDS = ("setting", "encoder", "method", "data", "split", "split_here", "protocol")
_ROW_KEYS = frozenset({*_WORDS, "label", "settings", "seeds", "episodes", "differs", "figures"})
_ROUNDING = 0.051  # percent: a rate is k of n only where it is given so precisely that k can be no other number


@dataclass(frozen=True)
class PublishedFigure:
    """One figure: its value, the spread that its source gives, and the episodes behind it where they are known."""

    value: float
    spread: float | None = None
    episodes: int | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval in percent, computed here; None where the count can't be told."""
        if self.episodes is None:
            return None
        hits = round(self.value * self.episodes / 100)
        if abs(100 * hits / self.episodes - self.value) > _ROUNDING:
            return None
        low, high = wilson(hits, self.episodes)
        return 100 * low, 100 * high


@dataclass(frozen=True)
class PublishedRow:
    """One published row.

    Attributes:
        label, setting: words.
        source: who says so.
        method: name of the method or reference here, "" where there is none; `settings` are its keys.
        data, split, protocol, encoder: conditions in the words of records where they are the same; "" where not said.
        seeds: training seeds, None where not said.
        differs: further reasons against a comparison.
        figures: by metric key.
    """

    label: str
    setting: str
    source: str
    method: str
    settings: Mapping[str, Any]
    encoder: str
    data: str
    split: str
    split_here: str
    protocol: str
    seeds: int | None
    episodes: int | None
    differs: tuple[str, ...]
    figures: Mapping[str, PublishedFigure]

    def same_method(self, record: Record) -> bool:
        """Say whether a record is of the same method in the same configuration."""
        mine = record.config.get("method", {})
        same = all(key in mine and mine[key] == value for key, value in self.settings.items())
        return bool(self.method) and record.method == self.method and same

    def not_comparable(self, record: Record) -> list[str]:
        """Return why the row's figures can't be compared with a record's; empty where they can."""
        pairs = (
            ("data", record.section["data"], self.data),
            ("split", record.split["name"], self.split_here or self.split),
            ("protocol", record.section["protocol"], self.protocol),
            ("encoder", record.encoder, self.encoder),
            ("sizes and schedule", f"preset {record.preset}", "preset paper"),
        )
        shown = {"split": self.split, "sizes and schedule": "the paper's"}
        reasons = [
            f"{name} ({here} here, {shown.get(name) or there or 'not said'} there)"
            for name, here, there in pairs
            if here != there
        ]
        return [*reasons, *self.differs]


@dataclass(frozen=True)
class PublishedTable:
    """A published table: rows of one source, or of several that its rows name."""

    title: str
    source: str
    number: str
    unit: str
    metrics: tuple[str, ...]
    notes: tuple[str, ...]
    rows: tuple[PublishedRow, ...]


@dataclass(frozen=True)
class PublishedTask:
    """All that is bundled about a task."""

    beside: tuple[str, ...]
    caveats: tuple[str, ...]
    tables: tuple[PublishedTable, ...]


def published(task: str) -> PublishedTask:
    """Return the published figures of a task from all packages; empty where none are bundled.

    Raises:
        BenchError: a bundled file is malformed.
    """
    beside: list[str] = []
    caveats: list[str] = []
    tables: list[PublishedTable] = []
    for folder in registry.conf_folders().values():
        path = folder.parent / "published.yaml"
        if not path.is_file():
            continue
        content = registry.read_yaml(path).get("tasks", {}).get(task, {})
        beside += content.get("beside", [])
        caveats += map(str, content.get("caveats", []))
        tables += [_table(table, path) for table in content.get("tables", [])]
    return PublishedTask(tuple(beside), tuple(caveats), tuple(tables))


def _table(content: Mapping[str, Any], path: Path) -> PublishedTable:
    if missing := [key for key in ("title", "source", "unit", "metrics", "rows") if key not in content]:
        raise BenchError(f"{path}: the table '{content.get('title', '?')}' lacks {', '.join(missing)}")
    metrics = tuple(map(str, content["metrics"]))
    shared = content.get("shared", {})
    rows = [_row({**shared, **row}, metrics, content, path) for row in content["rows"]]
    return PublishedTable(
        title=str(content["title"]),
        source=str(content["source"]),
        number=str(content.get("table", "")),
        unit=str(content["unit"]),
        metrics=metrics,
        notes=tuple(map(str, content.get("notes", []))),
        rows=tuple(rows),
    )


def _row(row: Mapping[str, Any], metrics: tuple[str, ...], table: Mapping[str, Any], path: Path) -> PublishedRow:
    where = f"{path}: a row of '{table['title']}'"
    if unknown := sorted(row.keys() - _ROW_KEYS):
        raise BenchError(f"{where} has unknown keys: {', '.join(unknown)}")
    if "label" not in row or len(row.get("figures", ())) != len(metrics):
        raise BenchError(f"{where} needs a label and {len(metrics)} figures: {dict(row)}")
    episodes = row.get("episodes") if table["unit"] == "%" else None
    figures = {}
    for key, given in zip(metrics, row["figures"], strict=True):
        if given is None:
            continue
        parts = given if isinstance(given, Mapping) else {"value": given}
        if not isinstance(parts.get("value"), int | float) or set(parts) - {"value", "spread"}:
            raise BenchError(f"{where} has a figure that is no number: {given}")
        figures[key] = PublishedFigure(float(parts["value"]), parts.get("spread"), episodes)
    return PublishedRow(
        label=str(row["label"]),
        source=str(table["source"]),
        settings=row.get("settings", {}),
        seeds=row.get("seeds"),
        episodes=episodes,
        differs=tuple(map(str, row.get("differs", []))),
        figures=figures,
        **{key: str(row.get(key, "")) for key in _WORDS},
    )
