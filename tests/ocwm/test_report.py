"""Tables, leaderboard, run table and comparison, from records written to a temporary results folder."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ocwm import compare, leaderboard, store
from ocwm.cells import Cell, Column, separations
from ocwm.errors import BenchError
from ocwm.published import published_blocks
from ocwm.references import matching_references
from ocwm.report import run_table
from ocwm.sections import sections
from ocwm.store import Record
from ocwm.tables import render_tables

# key: unit, higher is better, items
METRICS: dict[str, tuple[str, bool, int]] = {
    **{f"rollout.position_error.{h}": ("world units", False, 250) for h in (1, 8, 16, 31)},
    **{f"rollout.slot_error.{h}": ("mean squared error", False, 250) for h in (1, 8, 16, 31)},
    "rollout.collision_f1.31": ("%", True, 250),
    "symbolic.predictive.per_option": ("%", True, 1200),
    "symbolic.predictive.per_question": ("%", True, 600),
    "symbolic.counterfactual.per_option": ("%", True, 1800),
    "symbolic.counterfactual.flipped": ("%", True, 900),
    "symbolic.counterfactual.unflipped": ("%", True, 900),
    "aloe.descriptive.per_question": ("%", True, 2500),
    "aloe.explanatory.per_option": ("%", True, 900),
    "aloe.explanatory.per_question": ("%", True, 300),
    "aloe.predictive.per_option": ("%", True, 1200),
    "aloe.predictive.per_question": ("%", True, 600),
    "aloe.counterfactual.per_option": ("%", True, 1800),
    "aloe.counterfactual.per_question": ("%", True, 500),
    "aloe.average.per_question": ("%", True, 3900),
    "aloe.mean_over_types.per_question": ("%", True, 3900),
}
ROLLOUT = {"rollout.position_error.1": 0.02, "rollout.position_error.8": 0.1, "rollout.position_error.16": 0.14}
ROLLOUT |= {"rollout.position_error.31": 0.22, "rollout.collision_f1.31": 65.0, "symbolic.predictive.per_option": 71.0}
NOTES = {
    "imagined_share": {
        "aloe.descriptive": 0.0, "aloe.explanatory": 0.0, "aloe.predictive": 0.24, "aloe.counterfactual": 0.0,
    },
    "references": ["constant_velocity", "copy_last", "no_rollout", "question_only", "true_future"],
    "about": {
        "rollout": "The world model itself, from frame 128 to 160.",
        "rollout.position_error": "Distance of the predicted object centres after 1, 8, 16 and 31 frames.",
        "symbolic": "Answers of the untrained reasoner that reads events off the imagined states.",
    },
}  # fmt: skip


def make(
    method: str = "cjepa", *, seed: int = 0, figures: dict[str, float | None] | None = None, **changes: Any
) -> Record:
    """Return a record; `figures` sets metric values (None: not measured), the rest are 50 or 0.5."""
    preset, overrides = changes.pop("preset", "mini"), changes.pop("overrides", [])
    encoder, reads = changes.pop("encoder", "state"), changes.pop("reads", "state")
    kind = changes.pop("kind", "method")
    metrics = {}
    for key, (unit, higher, n) in METRICS.items():
        value = (figures or {}).get(key, 50.0 if unit == "%" else 0.5)
        half = None if value is None else abs(value) * 0.04
        metrics[key] = {
            "value": value,
            "low": None if value is None or half is None else value - half,
            "high": None if value is None or half is None else value + half,
            "n": 0 if value is None else n,
            "unit": unit,
            "higher_is_better": higher,
            "interval": "" if value is None else "bootstrap over videos",
        }
    seeds = {"data": 0, "encoder": 0, "model": seed, "reasoner": seed, "eval": 0}
    config = {
        "method": {"name": method, "changed": overrides}, "encoder": {"name": encoder}, "task": {"name": "clevrer"},
        "seeds": seeds, "preset": preset,
    }  # fmt: skip
    versions = {"method": 1, "encoder": 1, "task": 1, "aloe": 1}
    identity = {"schema": 1, "config": config, "versions": versions}
    stages = {"data": 55.2, "slots": 1.4, "world model": 212.0, "rollouts": 8.8, "reasoner": 301.0, "evaluation": 12.1}
    values: dict[str, Any] = {
        "repeat": 1, "created": "2026-11-22T12:00:00+00:00", "method": method, "kind": kind, "privileged": "none",
        "task": "clevrer", "encoder": encoder, "encoder_reads": reads, "preset": preset, "seeds": seeds,
        "overrides": overrides, "config": config, "identity": identity,
        "data": {"kind": "embedded", "name": "clevrer_embedded", "manifest": "5ce1a9f0b7d24e63"},
        "split": {"name": "test", "hash": "90ab12cd34ef"},
        "section": {"data": "embedded", "encoder_reads": reads, "preset": preset, "protocol": "published"},
        "metrics": metrics, "notes": NOTES, "warnings": [], "collapsed": [], "curves": {},
        "costs": {
            **{name: {"seconds": s, "cached": name == "data", "peak_memory_mb": 800.0} for name, s in stages.items()},
            "total": {"seconds": 540.0, "cached": False, "peak_memory_mb": 2100.0},
            "model": {"seconds": 0.0, "cached": False, "parameters": 612_352, "tokens_per_frame": 6},
        },
        "provenance": {"dirty": False, "cpu": "AMD EPYC", "gpu": None, "threads": 2, "device": "cpu"},
        **changes,
    }  # fmt: skip
    values["id"] = hashlib.sha256(repr([identity, values["data"], values["section"]]).encode()).hexdigest()[:12]
    return Record(**values)


def mini(*, gap: float = 0.08, seeds: int = 3) -> list[Record]:
    """Return a plausible mini section: two learned methods, five references."""
    found = []
    for seed in range(seeds):
        wobble = 0.01 * (seed - 1)
        better = {key: value * (1 + wobble) for key, value in ROLLOUT.items()}
        worse = {
            key: value * (1 + wobble / 2 + (gap if not METRICS[key][1] else -gap)) for key, value in ROLLOUT.items()
        }
        found += [make("ocjepa", seed=seed, figures=better), make("cjepa", seed=seed, figures=worse)]
    nothing = {key: None for key in METRICS if key.startswith(("rollout", "symbolic"))}
    found.append(make("copy_last", kind="reference", figures={"rollout.position_error.31": 0.495}))
    found.append(make("constant_velocity", kind="reference", figures={"rollout.position_error.31": 0.217}))
    found.append(
        make("true_future", kind="reference", privileged="future", figures={"rollout.position_error.31": 0.004})
    )
    found.append(make("question_only", kind="reference", figures=nothing))
    return found


def test_learned_rows_stand_first_and_bold_needs_a_separated_seed_interval() -> None:
    section = sections(mini())[0]
    assert [row.label for row in section.rows] == [
        "cjepa", "ocjepa", "constant_velocity", "copy_last", "question_only", "true_future",
    ]  # fmt: skip
    assert section.absent == ("no_rollout",)
    text = render_tables(mini(), form="md")
    line = next(line for line in text.splitlines() if line.startswith("| ocjepa") and "0.2200" in line)
    assert "**0.2200 ±0.0055**" in line
    assert "**" not in next(line for line in text.splitlines() if line.startswith("| constant_velocity"))
    assert "**" not in next(line for line in text.splitlines() if line.startswith("| cjepa"))
    assert "reference, reads future" in text


def test_no_bold_with_fewer_than_three_seeds_or_overlapping_methods() -> None:
    two = render_tables(mini(seeds=2))
    assert "**0" not in two
    assert "at least 3 training seeds" in two
    close = render_tables(mini(gap=0.0001))
    assert "**0" not in close
    assert re.search(r"Not separated: .*seeds would separate them", " ".join(close.split()))


def test_metrics_that_no_imagined_frame_reaches_are_marked_and_never_compared() -> None:
    records = mini()
    for place, record in enumerate(records):
        if record.method == "ocjepa":  # a large and stable "effect" where there can be none
            metrics = {key: dict(metric) for key, metric in record.metrics.items()}
            for key in ("aloe.counterfactual.per_option", "aloe.predictive.per_option"):
                metrics[key]["value"] = 80.0 + 0.1 * record.seeds["model"]
            records[place] = dataclasses.replace(record, metrics=metrics)
    section = sections(records)[0]
    assert "aloe.counterfactual.per_option" not in section.separations
    assert section.separations["aloe.predictive.per_option"].separated
    text = render_tables(records)
    assert "counterfactual per option ↑ §" in text
    assert "predictive per option ↑ §" not in text
    assert "counterfactual 0 %" in text
    assert "predictive 24.0 %" in text


def test_sections_never_mix() -> None:
    base = make(seed=0)
    other = [
        make(seed=1, preset="standard"),
        make(seed=1, section={**base.section, "protocol": "imagined"}),
        make(seed=1, data={**base.data, "kind": "official"}, section={**base.section, "data": "official"}),
        make(seed=1, encoder="savi", reads="pixels"),
        make(seed=1, split={"name": "test", "hash": "other"}),
        make(seed=1, data={**base.data, "manifest": "another"}),
    ]
    found = sections([base, *other])
    assert len(found) == 7
    assert all(len(section.rows) == 1 for section in found)
    assert len({section.title for section in found}) >= 5
    newer = dataclasses.replace(
        make(seed=1), id="f" * 12, identity={**base.identity, "versions": {**base.identity["versions"], "aloe": 2}}
    )
    assert len(sections([base, newer])) == 2


def test_changed_settings_are_rows_of_their_own() -> None:
    found = sections([make(seed=0), make(seed=1), make(seed=0, overrides=["method.num_masked=2"])])
    assert [(row.label, row.seeds) for row in found[0].rows] == [("cjepa", 2), ("cjepa (num_masked=2)", 1)]


def test_first_clean_repeat_counts_and_repeats_are_listed() -> None:
    dirty = {"dirty": True}
    first = make(figures={"rollout.position_error.31": 0.30}, provenance=dirty)
    second = make(figures={"rollout.position_error.31": 0.31}, repeat=2)
    third = make(figures={"rollout.position_error.31": 0.32}, repeat=3)
    row = sections([third, second, first])[0].rows[0]
    assert row.cells["rollout.position_error.31"].mean == pytest.approx(0.31)
    assert row.seeds == 1
    text = render_tables([first, second, third])
    assert "3 records (number 2 counts): largest spread `rollout.position_error.31` 0.3 to 0.32" in text
    assert "‡" in render_tables([first])
    assert "‡" not in render_tables([second])


def test_equal_figures_over_seeds_keep_the_interval_of_the_items() -> None:
    section = sections([make("copy_last", kind="reference", seed=seed) for seed in range(3)])[0]
    cell = section.rows[0].cells["rollout.position_error.31"]
    assert (cell.source, cell.low, cell.high) == ("items", pytest.approx(0.48), pytest.approx(0.52))


def test_missing_seeds_and_collapsed_rows_are_marked() -> None:
    records = [make(seed=seed) for seed in range(3)]
    records[2] = make(seed=2, figures={"rollout.collision_f1.31": None}, collapsed=["symbolic.predictive.per_option"])
    text = render_tables(records)
    assert "(2 of 3)" in text
    assert "50.0 [48.0, 52.0] †" in text
    assert "† at the floor" in text


def test_null_figures_are_rarely_bold() -> None:
    """Three equal methods, 20 metrics, 3 seeds: any bold figure in at most 5 % of all sections."""
    rng = np.random.default_rng(3)
    columns = [Column(f"a.b.{index}", "%", True) for index in range(20)]
    wrong = 0
    for _ in range(100):
        rows = {}
        for name in "abc":
            draws = rng.normal(50, 2, (20, 3))
            rows[name] = {
                c.key: Cell(d.mean(), {(0, s, s): float(d[s]) for s in range(3)}, None, None, "", 0)
                for c, d in zip(columns, draws, strict=True)
            }
        wrong += any(separation.separated for separation in separations(rows, columns).values())
    assert wrong <= 11  # P(more than 11 of 100 | 5 %) is 0.4 %


def test_csv_is_tidy_and_latex_is_escaped() -> None:
    frame = pd.read_csv(io.StringIO(render_tables(mini(), form="csv")))
    unmeasured = sum(key.startswith(("rollout", "symbolic")) for key in METRICS)  # of question_only
    assert len(frame) == 6 * len(METRICS) - unmeasured
    chosen = frame[(frame.model == "ocjepa") & (frame.metric == "rollout.position_error.31")].iloc[0]
    assert chosen.training_seeds == 3
    assert bool(chosen.separated)
    assert chosen.interval == "seeds"
    latex = render_tables(mini(), form="latex")
    assert r"\textbf{0.2200 $\pm$0.0055}" in latex
    assert r"copy\_last" in latex
    assert "↑" not in latex
    assert "**" not in latex.replace("%", "")


def test_filters_and_bad_names() -> None:
    records = [*mini(), make(preset="standard")]
    assert "preset standard" not in render_tables(records, presets=["mini"])
    with pytest.raises(BenchError, match="no record to show"):
        render_tables(records, presets=["paper"])
    with pytest.raises(BenchError, match="Did you mean 'latex'"):
        render_tables(records, form="latx")


def test_references_match_on_everything_that_matters() -> None:
    run = make(seed=1)
    good = make("copy_last", kind="reference")
    others = [
        make("copy_last", kind="reference", preset="standard"),
        make("copy_last", kind="reference", encoder="state2"),
        make("copy_last", kind="reference", overrides=["task.prefix=20"]),
        make("copy_last", kind="reference", data={**good.data, "manifest": "x"}),
        make("ocjepa"),
    ]
    assert matching_references(run, others) == {}
    assert matching_references(run, [*others, good, run]) == {"copy_last": [good]}


def test_run_table_shows_floor_ceiling_and_what_is_absent() -> None:
    records = mini()
    text = run_table(records[0], records)
    line = next(line for line in text.splitlines() if line.startswith("rollout.position_error.31"))
    assert "0.2170 constant_velocity" in line
    assert "0.0040 true_future" in line
    assert "Absent references: no_rollout" in text
    assert "absent" in next(
        line for line in run_table(records[0], []).splitlines() if line.startswith("rollout.position_error.31")
    )
    question_only = run_table(records[-1], records)
    assert "Not measured (no items): rollout.position_error.1," in question_only


def test_leaderboard_is_a_pure_function_of_the_records(tmp_path: Path) -> None:
    records = [*mini(), make(preset="standard")]
    for record in records:
        store.write_record(tmp_path, record)
    path = tmp_path / "leaderboard.md"
    assert leaderboard.differences(path, store.read_records(tmp_path))
    assert leaderboard.write(path, store.read_records(tmp_path))
    assert not leaderboard.write(path, list(reversed(store.read_records(tmp_path))))
    assert leaderboard.differences(path, records) == ""
    text = path.read_text(encoding="utf-8")
    assert "1 of 3 learned rows have fewer than 3 training seeds" in text
    assert "not converged" in text
    assert "arXiv 2602.11389v2" in text
    assert all(len(line) <= 120 for line in text.splitlines() if not line.startswith(("|", "#")))
    path.write_text(text + "edited\n", encoding="utf-8")
    assert "-edited" in leaderboard.differences(path, records)


def test_leaderboard_without_records() -> None:
    assert "there are no records yet" in leaderboard.build([])


def test_published_tables_carry_their_source() -> None:
    blocks = published_blocks("clevrer")
    assert blocks
    assert published_blocks("no_such_task") == []


def outcomes(rng: np.random.Generator, *, rate: float, items: np.ndarray) -> dict[str, np.ndarray]:
    key = "symbolic.predictive.per_option"
    return {key: rng.random(len(items)) < rate, f"{key}@item": items, f"{key}@cluster": items // 10}


def test_compare_pairs_common_items(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a, b = make(), make("ocjepa")
    store.write_record(tmp_path, a, items=outcomes(rng, rate=0.8, items=np.arange(1000)))
    store.write_record(tmp_path, b, items=outcomes(rng, rate=0.6, items=np.arange(1500)[::-1][:1000]))
    records = store.read_records(tmp_path)
    first, second = compare.find_run(records, a.id), compare.find_run(records, b.id[:6])
    (difference,) = compare.compare_runs(first, second)
    assert (difference.items, difference.clusters) == (500, 50)
    assert difference.low is not None
    assert difference.low > 0
    assert difference.a - difference.b == pytest.approx(difference.difference)
    assert 15 < difference.difference < 25  # in percent, as the metric
    text = compare.comparison(first, second, [difference])
    assert "These checkpoints only" in text
    assert "separated" in text
    assert compare.compare_runs(first, second) == [difference]


def test_compare_refuses_what_has_no_common_items(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a, b = make(), make("ocjepa", split={"name": "test", "hash": "other"})
    for record in (a, b):
        store.write_record(tmp_path, record, items=outcomes(rng, rate=0.8, items=np.arange(100)))
    first, second = store.read_records(tmp_path)
    with pytest.raises(BenchError, match="not measured on the same split"):
        compare.compare_runs(first, second)
    with pytest.raises(BenchError, match="no record 'zzz'"):
        compare.find_run([first, second], "zzz")


def test_compare_refuses_outcomes_without_ids(tmp_path: Path) -> None:
    a, b = make(), make("ocjepa")
    for record in (a, b):
        store.write_record(tmp_path, record, items={"symbolic.predictive.per_option": np.ones(5, dtype=bool)})
    with pytest.raises(BenchError, match=r"lack 'symbolic\.predictive\.per_option@item'"):
        compare.compare_runs(*store.read_records(tmp_path))
