"""The records of a section, with the command line that makes each of them again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from ocwm.markup import Block, Heading, Lines, grid
from ocwm.sections import Row, Section
from ocwm.store import Record

_HOW = (
    "One command for each record, at its commit and with the same data. On the same machine type, thread count and build of "
    "torch the figures are the same bit for bit; elsewhere they may differ by rounding."
)


def run_blocks(section: Section, *, level: int) -> list[Block]:
    """Return links to the records and commands, one line for each row and set of options."""
    body = []
    for row in section.rows:
        groups: dict[str, list[Record]] = {}
        for record in sorted(row.records, key=lambda record: sorted(record.seeds.items())):
            groups.setdefault(command_of(record, seed="S"), []).append(record)
        for command, records in groups.items():
            seeds = ", ".join(str(record.seeds["model"]) for record in records)
            text = command if "S" in command.split() else command_of(records[0])
            body.append([row.label, ", ".join(map(link, records)), _commits(row), f"`{text}`", seeds])
    header = ["model", "records", "commit", "command", "S"]
    return [Heading(level, "Records"), Lines((_HOW,), points=False), grid(header, body, words=5)]


def command_of(record: Record, *, seed: str | None = None) -> str:
    """Return the command line of a record.

    Args:
        record: the run.
        seed: what to write instead of its seed, where one word sets the seeds of model and reasoner.
    """
    parts = ["bench", "run", "--method", record.method, "--task", record.task, "--preset", record.preset]
    parts += _seeds(record.seeds, seed)
    if record.section["data"] != "embedded":
        parts.append("task.root=DIR")
    return " ".join([*parts, *map(shlex.quote, record.overrides)])


def link(record: Record) -> str:
    """Return a Markdown link to the record's file, as seen from beside the results folder."""
    name = record.id if record.repeat == 1 else f"{record.id}.r{record.repeat}"
    return f"[{record.id[:6]}](results/runs/{record.task}/{record.method}/{name}.json)"


def _seeds(seeds: Mapping[str, int], word: str | None) -> list[str]:
    model, reasoner = seeds["model"], seeds["reasoner"]
    found = ["--seed", word if word is not None and model == reasoner else str(model)]
    found += [f"seeds.reasoner={reasoner}"] if model != reasoner else []
    return found + [f"seeds.{axis}={seeds[axis]}" for axis in ("data", "encoder", "eval") if seeds[axis]]


def _commits(row: Row) -> str:
    found = dict.fromkeys(str(record.provenance.get("commit") or "unknown")[:7] for record in row.records)
    return ", ".join(found) + (" ‡" if row.dirty else "")
