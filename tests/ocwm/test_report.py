"""Tables, leaderboard, run table and comparison, from records written to a temporary results folder."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.ocwm.written_records import METRICS, make, mini, pusht, pusht_section

from ocwm import compare, leaderboard, store
from ocwm.cells import Cell, Column
from ocwm.errors import BenchError
from ocwm.published_tables import published_blocks
from ocwm.references import matching_references
from ocwm.report import run_table
from ocwm.sections import sections
from ocwm.tables import render_tables
from ocwm.verdicts import separations


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
    assert re.search(r"not separated; (\d+ more seeds?|more than 100 seeds) would", " ".join(close.split()))


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


def test_latex_is_booktabs_and_balanced() -> None:
    latex = render_tables([*mini(), *pusht_section()], form="latex")
    body = [line for line in latex.splitlines() if not line.startswith("%")]
    tables = sum(line.startswith(r"\begin{tabular}") for line in body)
    assert tables > 8
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}"):
        assert sum(line == rule for line in body) == tables
    assert r"\hline" not in latex
    assert not re.search(r"(?<!\\)[%#_]", "".join(body))  # whatever LaTeX would take for a command is escaped
    assert "".join(body).isascii()
    columns = 0
    for line in body:
        if line.startswith(r"\begin{tabular}"):
            columns = len(line.partition("}{")[2].rstrip("}"))
        elif line.endswith(r"\\"):
            assert len(re.findall(r"(?<!\\)&", line)) == columns - 1, line


def test_json_holds_verdicts_headroom_commands_and_seeds() -> None:
    found = json.loads(render_tables([*mini(), *pusht_section()], form="json"))
    assert [section["task"] for section in found] == ["clevrer", "pusht"]
    clevrer, control = found
    row = next(row for row in clevrer["rows"] if row["model"] == "ocjepa")
    error = row["metrics"]["rollout.position_error.31"]
    assert error["separated"]
    assert [entry["seed"] for entry in error["by_seed"]] == [0, 1, 2]
    assert error["headroom_captured"] == pytest.approx((0.217 - 0.22) / (0.217 - 0.004))
    assert row["records"][0]["command"] == "bench run --method ocjepa --task clevrer --preset mini --seed 0"
    assert row["records"][0]["leakage"] is None
    verdict = clevrer["verdicts"]["rollout.position_error.31"]
    assert (verdict["best"], verdict["separated"], verdict["about"]) == ("ocjepa", True, "methods")
    assert control["verdicts"]["success.joint.first_hit"]["about"] == "these checkpoints"
    assert control["verdicts"]["success.joint.first_hit"]["episodes_needed"] == 1534
    assert control["rows"][0]["seconds_per_plan"] == pytest.approx(1.32)


def test_interquartile_means_from_ten_seeds_on() -> None:
    key = "rollout.position_error.31"
    for seeds, expected in ((9, None), (12, 0.255)):
        records = [make(seed=seed, figures={key: 0.2 + 0.01 * seed}) for seed in range(seeds)]
        (section,) = json.loads(render_tables(records, form="json"))
        found = section["rows"][0]["metrics"][key]["iqm"]
        assert found is None if expected is None else found["value"] == pytest.approx(expected)
        assert expected is None or found["low"] < expected < found["high"]


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
    assert difference.only_a is not None
    assert difference.only_b is not None
    assert difference.p_value is not None
    assert (difference.only_a - difference.only_b) / 500 == pytest.approx(difference.difference / 100)
    assert difference.p_value < 1e-6
    text = compare.comparison(first, second, [difference])
    assert f"{difference.only_a} / {difference.only_b}" in text
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


def test_one_seed_gives_no_verdict_but_says_what_the_checkpoints_show() -> None:
    section = sections(pusht_section())[0]
    found = section.separations["success.joint.first_hit"]
    assert (found.best, found.runner_up, found.test, found.separated) == ("cjepa", "oc_dino_wm", None, False)
    assert found.rates is not None
    assert found.rates.low < 0 < 5.0 == found.rates.mean < found.rates.high
    assert found.rates.needed == 1534  # 60 % against 55 %, 80 % power
    assert section.separations["error.agent.final"].rates is None
    text = " ".join(render_tables(pusht_section()).split())
    assert "the best two learned rows have 1 training seed in common, and a verdict needs 3 (2 more)" in text
    assert "not separated; 1,434 more episodes would part these checkpoints, a verdict needs 2 more seeds" in text
    assert "**" not in text.replace("**Preset", "").replace("converged.**", "")


def test_rates_at_both_ends_are_compared() -> None:
    """0 % against 100 % on one seed is a large difference of checkpoints, and still no verdict about methods."""
    records = [pusht("cjepa", hits=100), pusht("oc_dino_wm", hits=0)]
    found = sections(records)[0].separations["success.joint.first_hit"]
    assert found.rates is not None
    assert found.rates.low > 90
    assert not found.separated
    tie = sections([pusht("cjepa", hits=100), pusht("oc_dino_wm", hits=100)])[0].separations["success.joint.first_hit"]
    assert tie.rates is not None
    assert (tie.rates.mean, tie.rates.needed) == (0.0, None)
    assert tie.rates.low < 0 < tie.rates.high


def test_success_over_three_seeds_is_compared_by_seeds() -> None:
    found = sections(pusht_section(seeds=3))[0].separations["success.joint.first_hit"]
    assert found.rates is None
    assert found.test is not None
    assert found.test.mean == pytest.approx(7.0)
    assert found.p_value is not None
    assert found.separated == (found.p_value <= 0.05)
