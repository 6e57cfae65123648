"""Published figures, bundled as facts by the plugin packages: tables of their own, never mixed with measured ones.

A package's `published.yaml` lies beside its `conf` folder:

    tasks:
      NAME:
        unit: "% correct"
        caveats: [sentence, ...]
        tables:
          - {title: ..., source: ..., notes: [...], columns: [...], rows: [[...], ...]}

A cell is a word, a figure, a list of figures (written "a / b") or null (not given by the source).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ocwm import registry
from ocwm.errors import BenchError
from ocwm.markup import Block, Heading, Lines, grid


def published_blocks(task: str, *, level: int = 2) -> list[Block]:
    """Return the published tables of a task with their sources and caveats; empty where none are bundled.

    Raises:
        BenchError: a bundled file is malformed.
    """
    blocks: list[Block] = []
    for folder in registry.conf_folders().values():
        path = folder.parent / "published.yaml"
        if path.is_file():
            blocks += _blocks(registry.read_yaml(path).get("tasks", {}).get(task), path, level)
    return blocks


def _blocks(content: dict[str, Any] | None, path: Path, level: int) -> list[Block]:
    if content is None:
        return []
    blocks: list[Block] = []
    if caveats := content.get("caveats"):
        blocks.append(Lines(tuple(map(str, caveats))))
    for table in content["tables"]:
        columns = [str(column) for column in table["columns"]]
        for row in table["rows"]:
            if len(row) != len(columns):
                raise BenchError(
                    f"{path}: a row of '{table['title']}' has {len(row)} entries, not {len(columns)}: {row}"
                )
        body = [[_text(value) for value in row] for row in table["rows"]]
        words = next((i for i in range(len(columns)) if isinstance(table["rows"][0][i], float | list)), len(columns))
        unit = f" In {content['unit']}." if content.get("unit") else ""
        blocks += [
            Heading(level, str(table["title"])),
            Lines((f"Source: {table['source']}.{unit}",), points=False),
            grid(columns, body, words=words),
        ]
        if notes := table.get("notes"):
            blocks.append(Lines(tuple(map(str, notes))))
    return blocks


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " / ".join(map(_text, value))
    return "–" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
