"""The leaderboard's short answer, costs, links and commands, on CLEVRER and Push-T records."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from tests.ocwm.written_records import make, mini, pusht, pusht_section

from ocwm import leaderboard, store
from ocwm.config import compose
from ocwm.run_list import command_of, link
from ocwm.sections import sections
from ocwm.store import Record


def text_of(records: list[Record]) -> str:
    return " ".join(leaderboard.build(records).split())


def test_the_short_answer_names_best_floor_ceiling_and_verdict() -> None:
    text = text_of([*mini(), *pusht_section()])
    assert "| clevrer mini embedded state published | rollout position error 31 ↓ | ocjepa 0.2200 ±0.0055 |" in text
    assert (
        "| pusht mini embedded state held_out | success joint first hit ↑ | cjepa 60.0 [50.2, 69.1] | 2.0 (random) |"
        in text
    )
    assert "100.0 (replay) | 59 % | not separated; 1,434 more episodes would part these checkpoints" in text


def test_a_separated_best_row_is_said_to_be_so() -> None:
    text = text_of(mini())
    assert "the best learned row is separated from the runner-up." in text
    assert "| **separated** |" in text


def test_no_method_is_called_better_without_a_verdict() -> None:
    text = text_of(mini(gap=0.0001))
    assert "no method is shown to be better" in text
    assert "**separated**" not in text


def test_a_single_row_and_collapsed_rivals_are_not_compared() -> None:
    alone = text_of([pusht(hits=50), pusht("random", hits=2, kind="reference")])
    assert "cjepa 50.0 [40.4, 59.6] | 2.0 (random) | absent | – | one learned row |" in alone
    fallen = pusht("oc_dino_wm", hits=1, collapsed=["success.joint.first_hit"])
    text = text_of([pusht(hits=50), fallen])
    assert "the other rows collapsed" in text
    both = [pusht(hits=2, collapsed=["success.joint.first_hit"]), fallen]
    assert "all learned rows collapsed" in text_of(both)


def test_push_t_rows_show_what_a_plan_costs() -> None:
    text = text_of(pusht_section())
    assert "one plan (s) | one plan, p95 (s) |" in text
    assert "| cjepa | 208,960 | 2 | 2,000,000 | 1,100 | 1.32 | 1.45 | 400.0 | 120.0 |" in text
    assert "training of the world model (s)" in text
    assert "| random | – | – | – | 500 | – | – |" in text


def test_sections_of_two_tasks_and_two_planner_budgets_stay_apart() -> None:
    other = {**pusht().section, "protocol": "cjepa, cem 300 x 30, 5 x 5 actions, a plan every 25, history 1"}
    found = sections([*mini(), *pusht_section(), pusht(section=other)])
    assert [len(section.rows) for section in found] == [6, 1, 6]
    assert [section.sample.task for section in found] == ["clevrer", "pusht", "pusht"]


def test_every_record_is_linked_and_the_link_leads_to_it(tmp_path: Path) -> None:
    records = [*mini(), *pusht_section(seeds=2)]
    for record in records:
        store.write_record(tmp_path / "results", record)
    text = leaderboard.build(store.read_records(tmp_path / "results"))
    for record in records:
        assert link(record) in text
        assert (tmp_path / link(record).partition("(")[2].rstrip(")")).is_file()
    assert "`bench run --method cjepa --task pusht --preset mini --seed S`" in text


@pytest.mark.parametrize(
    ("seeds", "overrides"),
    [
        ({"model": 3, "reasoner": 3}, []),
        ({"model": 2, "reasoner": 5, "encoder": 1, "eval": 4}, ["method.num_masked=2", "task.horizons=[1, 4]"]),
    ],
)
def test_a_records_command_composes_its_run_again(seeds: dict[str, int], overrides: list[str]) -> None:
    record = make("cjepa", overrides=overrides)
    record.seeds.update(seeds)
    words = shlex.split(command_of(record))
    assert words[:2] == ["bench", "run"]
    options = dict(zip(words[2:10:2], words[3:10:2], strict=True))
    config = compose(
        method=options["--method"],
        task=options["--task"],
        preset=options["--preset"],
        seed=int(options["--seed"]),
        overrides=words[10:],
    )
    assert dict(config.values.seeds) == record.seeds
    assert list(config.overrides) == overrides


def test_official_data_needs_its_folder() -> None:
    record = make(section={"data": "official", "encoder_reads": "state", "preset": "mini", "protocol": "published"})
    assert command_of(record).endswith("task.root=DIR")


def test_the_committed_leaderboard_is_that_of_the_committed_records() -> None:
    root = Path(__file__).parents[2]
    assert leaderboard.differences(root / "leaderboard.md", store.read_records(root / "results")) == ""
