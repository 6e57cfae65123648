"""Records keep no path of the machine that made them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ocwm.config import compose
from ocwm.identity import identity
from ocwm.places import recorded_config, recorded_override


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("encoder.weights=/a/b c/w.safetensors", "encoder.weights=w.safetensors"),
        ('encoder.weights="/a/b/w.safetensors"', 'encoder.weights="w.safetensors"'),
        ("encoder.weights=~/w.safetensors", "encoder.weights=w.safetensors"),
        ("encoder.weights=../../up/w.safetensors", "encoder.weights=w.safetensors"),
        ("task.files=[/a/b,/c/d]", "task.files=[b,d]"),
        ("encoder.backbone=facebook/dinov2-small", "encoder.backbone=facebook/dinov2-small"),
        ("encoder.weights=weights/w.safetensors", "encoder.weights=weights/w.safetensors"),
        ("trainer.lr=0.1", "trainer.lr=0.1"),
    ],
)
def test_of_a_path_an_override_keeps_the_name(given: str, kept: str) -> None:
    assert recorded_override(given) == kept


def test_a_configuration_names_no_folder_of_this_machine() -> None:
    places = (
        "task.root=/data/of/mine/demos",
        "encoder.weights=/data/of/mine/w.safetensors",
        "runtime.home=/data/of/mine",
    )
    values = compose(method="cjepa", task="pusht", preset="tiny", overrides=[*places, "encoder=savi"]).values
    kept = recorded_config(values)
    assert "/data" not in json.dumps(kept)
    assert (kept["task"]["root"], kept["encoder"]["weights"]) == ("demos", "w.safetensors")
    assert "home" not in kept["runtime"]
    known = identity(values, versions={"weights": "0" * 12}, data={})
    assert "/data" not in json.dumps(known)


def test_committed_records_name_no_folder_of_a_machine() -> None:
    folder = Path(__file__).parents[2] / "results" / "runs"
    records = sorted(folder.glob("*/*/*.json"))
    assert records
    named = {path.name: re.findall(r'[":=\[ ](?:~|/\w+)/[\w./-]+', path.read_text()) for path in records}
    assert {name: found for name, found in named.items() if found} == {}
