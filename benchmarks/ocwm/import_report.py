"""What `bench import` says: facts for `--json`, and the same as text."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ocwm.foreign_file import ForeignFile
from ocwm.importer import Converted, Dropped, FrameOrder, Imported

_SHOWN = 6
_SURE = 0.05  # relative difference of the two errors from which the order of the colours is taken for known


def file_facts(
    path: Path,
    name: str,
    file: ForeignFile,
    imported: Imported,
    *,
    output: Path,
    order: FrameOrder | None,
    sha256: str,
) -> dict[str, Any]:
    """Return what is known about imported weights, as JSON values."""
    use = list(imported.use)
    notes = list(imported.notes)
    colours: dict[str, Any] = {}
    if order is not None:
        colours = {"colour_order": _colours(order, use, notes)}
    if file.shared:
        notes.append(f"{file.shared} tensors share memory with others (tied or views); each is stored by itself")
    types = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in imported.tensors.values())
    if widened := sum(types[name] for name in ("float16", "bfloat16")):
        notes.append(f"{widened} tensors of half precision are stored as float32, with the same values")
    if broken := [n for n, tensor in imported.tensors.items() if not bool(tensor.isfinite().all())]:
        notes.append(f"WARNING: {_names(broken)} hold values that are not finite")
    return {
        "file": str(path),
        "kind": name,
        "title": imported.title,
        "nesting": file.nesting,
        "tensors": len(imported.tensors),
        "parameters": sum(tensor.numel() for tensor in imported.tensors.values()),
        "types": dict(types),
        "sizes": dict(imported.sizes),
        "assumed": dict(imported.assumed),
        "dropped": [_dropped(one) for one in (*file.dropped, *imported.dropped)],
        "foreign_classes": list(file.classes),
        **colours,
        "notes": notes,
        "output": str(output),
        "sha256": sha256,
        "use": _use(use, output),
    }


def folder_facts(path: Path, name: str, converted: Converted, *, output: Path) -> dict[str, Any]:
    """Return what is known about a converted pickle, as JSON values."""
    return {
        "file": str(path),
        "kind": name,
        "title": converted.title,
        **converted.facts,
        "notes": list(converted.notes),
        "output": str(output),
        "use": _use(converted.use, output),
    }


def text_of(facts: Mapping[str, Any]) -> str:
    """Return the facts as text, a line for each."""
    lines = [f"{facts['file']}: {facts['title']}" + (f", from {facts['nesting']}" if "nesting" in facts else "")]
    if "tensors" in facts:
        types = ", ".join(f"{count} {name}" for name, count in facts["types"].items())
        lines.append(f"  holds     {facts['tensors']} tensors ({types}), {facts['parameters']:,} values")
        lines.append(f"  sizes     {_settings(facts['sizes'])}")
        if facts["assumed"]:
            lines.append(f"  assumed   {_settings(facts['assumed'])} (the file can't tell)")
        for one in facts["dropped"]:
            lines.append(f"  left out  {_names(one['names'])}: {one['reason']}")
        if facts["foreign_classes"]:
            classes = _names(facts["foreign_classes"])
            lines.append(
                f"  foreign   holds objects of classes {classes}, read as plain data; none was imported or run"
            )
        lines.append("  checked   names and shapes are exactly those of the class in these sizes")
    else:
        skipped = ("file", "kind", "title", "notes", "output", "use")
        lines += [f"  {key:<9} {value}" for key, value in facts.items() if key not in skipped]
    if colours := facts.get("colour_order"):
        errors = ", ".join(f"{order} {error:.4g}" for order, error in colours["errors"].items())
        lines.append(f"  colours   reconstruction error: {errors}; {colours['verdict']}")
    lines += [f"  note      {note}" for note in facts["notes"]]
    lines.append(f"  written   {facts['output']}" + (f" (sha256 {facts['sha256']})" if "sha256" in facts else ""))
    if facts["use"]:
        lines.append(f"  use       {' '.join(facts['use'])}")
    return "\n".join(lines)


def _colours(order: FrameOrder, use: list[str], notes: list[str]) -> dict[str, Any]:
    rgb, bgr = order.errors["rgb"], order.errors["bgr"]
    if abs(rgb - bgr) <= _SURE * max(rgb, bgr):
        notes.append("WARNING: the frames do not tell the order of the colours: take more colourful ones")
        return {"errors": dict(order.errors), "fits": None, "verdict": "they are too close to tell"}
    fits = "rgb" if rgb < bgr else "bgr"
    if fits != order.configured:
        use.append(f"{order.key}={fits}")
        notes.append(
            f"WARNING: the default is {order.key}={order.configured}; without {order.key}={fits} slots are wrong"
        )
    return {"errors": dict(order.errors), "fits": fits, "verdict": f"the weights were trained on {fits}"}


def _use(use: Sequence[str], output: Path) -> list[str]:
    return [shlex.quote(text.replace("{file}", str(output.absolute()))) for text in use]


def _dropped(one: Dropped) -> dict[str, Any]:
    return {"names": list(one.names), "reason": one.reason}


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
