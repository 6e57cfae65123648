"""Headroom, the reasoner's own spread, differences that no world model can cause, and the leakage audit."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace
from typing import Any

import pytest
from tests.ocwm.written_records import make, mini, pusht_section

from ocwm.attribution import bracket, captured, impossible_difference, seed_spread
from ocwm.attribution_table import attribution_blocks
from ocwm.cells import Column
from ocwm.leakage import LAST_STEP, audit, encoder_origin, leakage_lines
from ocwm.markup import render
from ocwm.sections import Section, sections
from ocwm.store import Record

PREDICTIVE = Column("aloe.predictive.per_question", "%", True)
COUNTERFACTUAL = Column("aloe.counterfactual.per_question", "%", True)
ERROR = Column("rollout.position_error.31", "world units", False)


def section_of(records: list[Record]) -> Section:
    (found,) = sections(records)
    return found


def reference(method: str, value: float, *, seed: int = 0, key: str = PREDICTIVE.key, **changes: Any) -> Record:
    return make(method, seed=seed, kind="reference", figures={key: value}, **changes)


def text_of(section: Section) -> str:
    return " ".join(render(attribution_blocks(section, level=3), "md").split())


def test_headroom_is_the_share_of_the_way_from_floor_to_ceiling() -> None:
    records = [make("cjepa", seed=seed, figures={PREDICTIVE.key: 50.0 + seed}) for seed in range(3)]
    records += [reference("question_only", 20.0), reference("no_rollout", 40.0)]
    records += [reference("true_future", 90.0, privileged="future")]
    section = section_of(records)
    found = bracket(section, PREDICTIVE)
    assert found is not None
    assert (found.floor, found.low, found.ceiling, found.high, found.open) == (
        "no_rollout", 40.0, "true_future", 90.0, True,
    )  # fmt: skip
    share = captured(found, section.rows[0].cells[PREDICTIVE.key])
    assert share.mean == pytest.approx(11 / 50)
    assert share.low is not None
    assert share.low < share.mean
    assert "| 40.0 (no_rollout) | 90.0 (true_future) | yes | 22 % ±5 |" in text_of(section)


def test_headroom_of_an_error_runs_downwards_and_one_seed_has_no_interval() -> None:
    figures = {ERROR.key: 0.3}
    records = [make("cjepa", figures=figures), reference("copy_last", 0.5, key=ERROR.key)]
    records += [reference("true_future", 0.1, key=ERROR.key, privileged="future")]
    section = section_of(records)
    found = bracket(section, ERROR)
    assert found is not None
    assert found.open
    share = captured(found, section.rows[0].cells[ERROR.key])
    assert (share.mean, share.low) == (pytest.approx(0.5), None)
    worse = section_of([make("cjepa", figures={ERROR.key: 0.9}), *records[1:]])
    assert "below the floor" in text_of(worse)


@pytest.mark.parametrize("ceiling", [39.0, 40.0, 41.0])  # intervals are +-4 % of the figure
def test_there_is_no_headroom_where_floor_and_ceiling_touch(ceiling: float) -> None:
    records = [make("cjepa", figures={PREDICTIVE.key: 44.0}), reference("no_rollout", 40.0)]
    section = section_of([*records, reference("true_future", ceiling, privileged="future")])
    found = bracket(section, PREDICTIVE)
    assert found is not None
    assert not found.open
    assert f"| {ceiling} (true_future) | **none** | – |" in text_of(section)


def test_no_bracket_without_both_ends() -> None:
    assert bracket(section_of([make("cjepa"), reference("no_rollout", 40.0)]), PREDICTIVE) is None
    assert bracket(section_of([make("cjepa")]), PREDICTIVE) is None


def test_push_t_has_floors_and_ceilings_too() -> None:
    text = text_of(section_of(pusht_section(seeds=3)))
    assert "| success joint first hit ↑ | 2.0 (random) | 100.0 (replay) | yes | 60 % ±3 |" in text
    assert "Spread of the reasoner" not in text  # Push-T has none


def test_the_reasoners_spread_is_that_of_references() -> None:
    records = [reference("no_rollout", value, seed=seed) for seed, value in enumerate((40.0, 42.0, 44.0))]
    records += [make("cjepa", seed=seed, figures={PREDICTIVE.key: 50.0 + 4 * seed}) for seed in range(3)]
    spread = seed_spread(section_of(records), PREDICTIVE)
    assert spread is not None
    assert (spread.references, spread.references_freedom) == (pytest.approx(2.0), 2)
    assert spread.learned == pytest.approx(4.0)
    assert spread.nested == {}
    assert "can't be told apart within a method" in text_of(section_of(records))


def crossed(*, model_effect: float, reasoner_effect: float) -> list[Record]:
    """Three world models with three reasoners each."""
    records = []
    for model in range(3):
        for reasoner in range(3):
            seeds = {"data": 0, "encoder": 0, "model": model, "reasoner": reasoner, "eval": 0}
            value = 50.0 + model_effect * (model - 1) + reasoner_effect * (reasoner - 1)
            record = make("cjepa", figures={PREDICTIVE.key: value})
            identity = {**record.identity, "config": {**record.identity["config"], "seeds": seeds}}
            run_id = f"{model}{reasoner}".ljust(12, "c")
            records.append(dataclasses.replace(record, id=run_id, seeds=seeds, identity=identity))
    return records


def test_crossed_seeds_tell_world_model_and_reasoner_apart() -> None:
    references = [reference("no_rollout", value, seed=seed) for seed, value in enumerate((40.0, 42.0, 44.0))]
    spread = seed_spread(section_of([*crossed(model_effect=6.0, reasoner_effect=1.0), *references]), PREDICTIVE)
    assert spread is not None
    parts = spread.nested["cjepa"]
    assert (parts.outer_seeds, parts.runs) == (3, 9)
    assert parts.inner == pytest.approx(1.0)
    assert parts.outer == pytest.approx(36.0 - 1.0 / 3)
    only = section_of([*crossed(model_effect=0.0, reasoner_effect=2.0), *references])
    assert "| 0 % (3 models, 9 runs) |" in text_of(only)


def test_reasoners_on_one_world_model_are_no_further_seeds() -> None:
    """Nine runs of three world models are three seeds: the interval must not shrink with more reasoners."""
    row = section_of(crossed(model_effect=2.0, reasoner_effect=1.0)).rows[0]
    cell = row.cells[PREDICTIVE.key]
    assert (row.seeds, len(cell.by_seed)) == (3, 3)
    assert cell.high is not None
    assert cell.high - cell.mean == pytest.approx(4.30265 * 2 / math.sqrt(3), abs=1e-4)
    one = section_of(crossed(model_effect=0.0, reasoner_effect=1.0)[:3]).rows[0]
    assert (one.seeds, one.cells[PREDICTIVE.key].source) == (1, "")


def test_a_difference_that_no_world_model_can_cause_is_told() -> None:
    records = mini()
    section = section_of(records)
    assert impossible_difference(section, COUNTERFACTUAL) == 0.0
    assert "Warning" not in text_of(section)
    metrics = {key: dict(metric) for key, metric in records[0].metrics.items()}
    metrics[COUNTERFACTUAL.key]["value"] += 21.0
    changed = section_of([dataclasses.replace(records[0], metrics=metrics), *records[1:]])
    assert impossible_difference(changed, COUNTERFACTUAL) == pytest.approx(21.0)
    assert "differ by up to 21.0 % in aloe counterfactual per question at equal seeds" in text_of(changed)
    other = {**records[0].seeds, "reasoner": 9}  # another reasoner may well differ
    apart = section_of([dataclasses.replace(records[0], metrics=metrics, seeds=other), *records[1:]])
    assert impossible_difference(apart, COUNTERFACTUAL) == 0.0


def test_collapsed_runs_are_named() -> None:
    records = [make(seed=0, collapsed=["aloe.predictive.per_option"]), make(seed=1)]
    assert f"Collapsed (†): cjepa, model seed 0, record `{records[0].id}`" in text_of(section_of(records))


def audited(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "train": ["a", "b", "c"], "dev": ["d"], "measured": ["e", "f", "f"], "unit": "episodes",
        "identified_by": "their states", "scalers": "fitted on training episodes", "selection": LAST_STEP,
        "encoder": "reads states, nothing is trained",
    }  # fmt: skip
    return audit(**{**given, **changes})


def test_the_audit_counts_what_was_seen() -> None:
    clean = audited()
    assert (clean["measured"], clean["train"], clean["measured_in_train"]) == (2, 3, 0)
    leaking = audited(measured=["a", "d", "x"], dev=["d", "b"])
    assert [leaking[key] for key in ("measured_in_train", "measured_in_dev", "dev_in_train")] == [1, 1, 1]
    (line,) = leakage_lines([make(notes={"leakage": leaking})])
    assert "**1 of 3 measured episodes were trained on**, 1 among 2 dev ones; 1 dev ones were trained on" in line


def test_records_without_an_audit_are_named_not_skipped() -> None:
    first, second = leakage_lines([make("cjepa", notes={"leakage": audited()}), make("ocjepa")])
    assert first.startswith("Leakage audit (cjepa): none of 2 measured episodes among 3 training ones or 1 dev ones")
    assert second == "Leakage audit: absent in 1 of 2 records, made before it existed (ocjepa)."


def test_the_encoders_training_data_is_named_where_it_is_known(tmp_path: Any) -> None:
    weights = tmp_path / "weights.safetensors"
    encoder = SimpleNamespace(reads="pixels", weights="abc123def4567890")
    context: Any = SimpleNamespace(
        encoder=encoder, data={"manifest": "m1"}, config=SimpleNamespace(encoder={"weights": str(weights)})
    )
    assert encoder_origin(context) == "weights abc123def456, whose training data is not recorded"
    beside = tmp_path / "weights.safetensors.json"
    beside.write_text('{"data": {"name": "embedded-clevrer", "manifest": "m1"}}')
    assert encoder_origin(context).endswith("trained on the training videos of embedded-clevrer (the same data)")
    context.data = {"manifest": "m2"}
    assert encoder_origin(context).endswith("(other data)")
    encoder.weights = ""
    assert encoder_origin(context) == "random weights"
