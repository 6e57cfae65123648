"""The bundled published figures: that they agree with themselves, and how they stand beside measured ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.ocwm.written_records import make, mini, pusht_section

from ocwm import registry
from ocwm.errors import BenchError
from ocwm.markup import render
from ocwm.published import PublishedFigure, PublishedRow, published
from ocwm.published_tables import beside_blocks, published_blocks
from ocwm.sections import sections

# CLEVRER paper: descriptive, explanatory, predictive, counterfactual questions of the whole data set.
COUNTS = {"descriptive": 219_918, "explanatory": 33_811, "predictive": 14_298, "counterfactual": 37_253}
AVERAGE, MEAN = "aloe.average.per_question", "aloe.mean_over_types.per_question"


def rows(task: str, *, source: str = "") -> list[PublishedRow]:
    return [row for table in published(task).tables for row in table.rows if source in row.source]


def test_averages_of_the_paper_are_those_of_its_types() -> None:
    """A slip in any copied figure would show: averages are weighted by the number of questions of each type."""
    found = [row.figures for row in rows("clevrer", source="2602.11389")]
    assert len(found) == 10 + 6 + 8
    for figures in found:
        types = {name: figures[f"aloe.{name}.per_question"].value for name in COUNTS}
        weighted = sum(types[name] * count for name, count in COUNTS.items()) / sum(COUNTS.values())
        assert figures[AVERAGE].value == pytest.approx(weighted, abs=0.02)
        assert figures[MEAN].value == pytest.approx(sum(types.values()) / 4, abs=0.006)
        for name in ("explanatory", "predictive", "counterfactual"):
            assert types[name] < figures[f"aloe.{name}.per_option"].value


def test_rates_of_known_counts_carry_their_interval() -> None:
    cjepa = {row.setting: row.figures["success.joint.first_hit"] for row in rows("pusht", source="2602.11389")}
    assert cjepa["1 masked"].interval == pytest.approx((82.6, 92.8), abs=0.05)
    assert cjepa["tubes, 50 %"].interval == pytest.approx((2.7, 10.2), abs=0.05)
    for figure in cjepa.values():
        assert figure.interval is not None  # every rate is a whole number of 150 episodes
        assert figure.interval[0] < figure.value < figure.interval[1]


def test_no_interval_where_the_count_is_unknown_or_does_not_fit() -> None:
    assert PublishedFigure(74.0).interval is None
    assert PublishedFigure(88.4, episodes=50).interval is None  # no whole number of 50
    assert PublishedFigure(0.0, episodes=50).interval == pytest.approx((0.0, 7.13), abs=0.01)
    assert PublishedFigure(100.0, episodes=50).interval == pytest.approx((92.87, 100.0), abs=0.01)


def test_names_and_settings_are_those_of_this_harness() -> None:
    """Nothing is ever put beside a measured row under a misspelt name."""
    known = {**registry.plugins("method"), **registry.plugins("reference")}
    for task in ("clevrer", "pusht"):
        for row in rows(task):
            if row.method:
                assert row.method in known, row
                assert row.settings.keys() <= registry.read_yaml(known[row.method].path).keys(), row
            assert row.data == "official"
        assert published(task).beside


def test_every_row_says_why_it_is_not_comparable() -> None:
    row = next(row for row in rows("clevrer") if row.method == "ocjepa" and row.encoder == "savi")
    record = make("ocjepa")
    reasons = row.not_comparable(record)
    assert [reason.partition(" (")[0] for reason in reasons] == ["data", "encoder", "sizes and schedule"]
    official = make(
        "ocjepa",
        preset="paper",
        encoder="savi",
        reads="pixels",
        section={"data": "official", "encoder_reads": "pixels", "preset": "paper", "protocol": "published"},
    )
    assert row.not_comparable(official) == []
    imagined = make("ocjepa", section={**official.section, "protocol": "imagined"}, encoder="savi", preset="paper")
    assert row.not_comparable(imagined) == ["protocol (imagined here, published there)"]


def test_only_the_same_settings_stand_beside_a_row() -> None:
    record = make("cjepa")
    record.config["method"].update(mask_strategy="object", num_masked=3)
    same = [row.setting for row in rows("clevrer", source="2602.11389") if row.same_method(record)]
    assert same == ["3 masked", "3 masked"]  # on two encoders
    record.config["method"]["num_masked"] = 7
    assert not [row for row in rows("clevrer") if row.same_method(record)]


def test_measured_and_published_figures_never_share_a_cell() -> None:
    text = render(beside_blocks(sections(mini())[0], level=3), "md")
    header, _, *body = [line for line in text.splitlines() if line.startswith("|")]
    names = [cell.strip() for cell in header.strip("|").split("|")]
    assert [name.rpartition(": ")[2] for name in names[3:]] == ["here", "published"] * (len(names[3:]) // 2)
    cells = [cell.strip() for cell in next(line for line in body if "videosaur" in line).strip("|").split("|")]
    assert cells[:3] == ["ocjepa", "OC-JEPA, 0 masked", "videosaur"]
    assert dict(zip(names, cells, strict=True))["average per question: published"] == "82.79"
    assert "ocjepa: not comparable because of data (embedded here, official there)" in " ".join(text.split())


def test_push_t_rows_have_published_figures_beside_them() -> None:
    text = " ".join(render(beside_blocks(sections(pusht_section())[0], level=3), "md").split())
    assert "| oc_dino_wm | OC-DINO-WM, 6 x 128 tokens | videosaur | 55.0 | 60.67 [52.7, 68.1] |" in text
    assert "protocol (held_out, cem 128 x 10" in text
    assert "1 training seed there" in text


def test_tables_name_their_source_and_conditions() -> None:
    text = " ".join(render(published_blocks("pusht"), "md").split())
    assert (
        "Source: C-JEPA, arXiv 2602.11389v2, table 3 and A5. In %. Split train pairs; protocol cjepa, cem 300 x 30"
        in text
    )
    assert "| C-JEPA | 1 masked | videosaur | 88.67 [82.6, 92.8] |" in text
    assert published_blocks("no_such_task") == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{label: a, figures: [1.0, 2.0]}", "needs a label and 1 figures"),
        ("{label: a, figures: [x]}", "no number: x"),
        ("{label: a, colour: red, figures: [1.0]}", "unknown keys: colour"),
    ],
)
def test_malformed_files_are_named(row: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "published.yaml").write_text(
        f"tasks: {{t: {{tables: [{{title: T, source: S, unit: '%', metrics: [m], rows: [{row}]}}]}}}}"
    )
    monkeypatch.setattr(registry, "conf_folders", lambda: {"p": tmp_path / "conf"})
    with pytest.raises(BenchError, match=message):
        published("t")
