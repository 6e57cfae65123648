"""The leakage audit of Push-T runs, under a protocol with held-out episodes and under one without."""

from __future__ import annotations

from pathlib import Path

from tests.tasks.tiny_runs import tiny

from ocwm.leakage import leakage_lines
from ocwm.run import run
from ocwm.store import Record


def measure(home: Path, *overrides: str) -> Record:
    return run(tiny(home, "random", "pusht", *overrides)).record


def test_held_out_episodes_were_not_seen(home: Path) -> None:
    record = measure(home)
    found = record.notes["leakage"]
    assert (found["train"], found["dev"]) == (4, 2)
    assert 1 <= found["measured"] <= 3
    assert found["measured_in_train"] == found["measured_in_dev"] == found["dev_in_train"] == 0
    (line,) = leakage_lines([record])
    assert line.startswith(
        f"Leakage audit: none of {found['measured']} measured episodes among 4 training ones or 2 dev"
    )


def test_the_published_protocol_measures_on_training_episodes_and_says_so(home: Path) -> None:
    record = measure(home, "task.protocol=cjepa")
    found = record.notes["leakage"]
    assert found["measured_in_train"] == found["measured"] > 0
    assert found["by_protocol"]
    (line,) = leakage_lines([record])
    assert "measured episodes were trained on, as the protocol has it**" in line
