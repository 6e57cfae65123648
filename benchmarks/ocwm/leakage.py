"""Leakage audit: what a run saw before it was measured, as facts in its record.

Tasks make it with `audit` and put it into the notes of their evaluation; tables say where it is clean, where not, and where it
is missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocwm.store import Record

if TYPE_CHECKING:
    from ocwm.context import RunContext

KEY = "leakage"  # in a record's notes
LAST_STEP = "the checkpoint of the last training step, none is picked"
NO_TRAINING = "nothing is trained"


def audit(
    *,
    train: Iterable[str],
    dev: Iterable[str],
    measured: Iterable[str],
    unit: str,
    identified_by: str,
    scalers: str,
    selection: str,
    encoder: str,
    reserved: bool = True,
) -> dict[str, Any]:
    """Return the audit of a run, as JSON values for its notes.

    Args:
        train, dev, measured: what identifies the content of the videos or episodes of each part.
        unit: what these are ("videos", "episodes").
        identified_by: what the identity is made of, e.g. "sha256 of the states".
        scalers: what normalisation was fitted on.
        selection: how the checkpoint was chosen.
        encoder: what the encoder was trained on, as far as it is known.
        reserved: False where the protocol itself measures on training data.
    """
    parts = {"train": set(train), "dev": set(dev)}
    seen = list(measured)
    distinct = set(seen)
    return {
        "unit": unit,
        "identified_by": identified_by,
        "measured": len(distinct),
        "train": len(parts["train"]),
        "dev": len(parts["dev"]),
        "measured_in_train": len(distinct & parts["train"]),
        "measured_in_dev": len(distinct & parts["dev"]),
        "dev_in_train": len(parts["dev"] & parts["train"]),
        "by_protocol": not reserved,
        "scalers": scalers,
        "selection": selection,
        "encoder": encoder,
    }


def encoder_origin(context: RunContext) -> str:
    """Say what the run's encoder was trained on: what `bench train-encoder` wrote beside its weights, where it did."""
    encoder = context.encoder
    if encoder.reads == "state":
        return "reads states, nothing is trained"
    if not encoder.weights:
        return "random weights"
    named = context.config.encoder.get("weights")
    beside = None if named is None else Path(f"{named}.json")
    head = f"weights {encoder.weights[:12]}"
    if beside is None or not beside.is_file():
        return f"{head}, whose training data is not recorded"
    report = json.loads(beside.read_text(encoding="utf-8"))
    data = report["data"]
    same = data["manifest"] == (context.data or {}).get("manifest")
    return f"{head}, trained on the training videos of {data['name']} ({'the same' if same else 'other'} data)"


def leakage_lines(records: Sequence[Record]) -> Iterator[str]:
    """Yield what the audits of a section's records say, the same facts once."""
    missing = [record for record in records if KEY not in record.notes]
    told: dict[str, list[str]] = {}
    for record in records:
        if KEY in record.notes:
            told.setdefault(_sentence(record.notes[KEY]), []).append(record.method)
    for text, methods in told.items():
        who = "" if len(told) == 1 and not missing else f" ({', '.join(dict.fromkeys(methods))})"
        yield f"Leakage audit{who}: {text}"
    if missing:
        names = ", ".join(dict.fromkeys(record.method for record in missing))
        yield f"Leakage audit: absent in {len(missing)} of {len(records)} records, made before it existed ({names})."


def _sentence(found: Mapping[str, Any]) -> str:
    unit, measured = found["unit"], found["measured"]
    overlap = found["measured_in_train"]
    if overlap:
        why = ", as the protocol has it" if found["by_protocol"] else ""
        text = f"**{overlap:,} of {measured:,} measured {unit} were trained on{why}**"
    else:
        text = f"none of {measured:,} measured {unit} among {found['train']:,} training ones"
    if found["measured_in_dev"]:
        text += f", {found['measured_in_dev']:,} among {found['dev']:,} dev ones"
    elif found["dev"]:
        text += f" or {found['dev']:,} dev ones" if not overlap else f", none among {found['dev']:,} dev ones"
    if found["dev_in_train"]:
        text += f"; {found['dev_in_train']:,} dev ones were trained on"
    return (
        f"{text} (by {found['identified_by']}). Normalisation: {found['scalers']}. Selection: {found['selection']}. "
        f"Encoder: {found['encoder']}."
    )
