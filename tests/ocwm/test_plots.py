"""Figures of records: which are drawn, what is in them, and that they are the same for the same records."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.colors import to_rgb
from PIL import Image
from tests.ocwm.written_records import make, mini, pusht, pusht_section

from ocwm.errors import BenchError
from ocwm.plots import KINDS, curves, intervals, latency, make_figures
from ocwm.plots.style import COLOURS, looks
from ocwm.sections import Section, sections
from ocwm.store import Record


def section_of(records: list[Record]) -> Section:
    (found,) = sections(records)
    return found


def masked(count: int, seed: int = 0) -> Record:
    record = make(
        figures={"symbolic.predictive.per_question": 60.0 + count}, seed=seed, overrides=[f"method.num_masked={count}"]
    )
    record.config["method"].update({"_target_": "package.CJEPA", "num_masked": count})
    return record


def test_each_kind_is_drawn_or_left_out_with_a_line(tmp_path: Path) -> None:
    written, left_out = make_figures(mini(), tmp_path)
    assert [path.name.removeprefix("clevrer_mini_embedded_state_published_") for path in written] == [
        "accuracy.png", "accuracy_by_type.png", "rollout_error.png",
    ]  # fmt: skip
    assert [line.split()[2] for line in left_out] == [
        "success",
        "success_by_planning_time",
        "masked_objects",
        "latency",
    ]
    assert all(line.startswith("left out: ") and "no record with" in line for line in left_out)
    more, rest = make_figures([*mini(), *pusht_section(), masked(0), masked(2)], tmp_path)
    assert {path.stem.partition("_held_out_")[2] for path in more if "pusht" in path.name} == {
        "success", "rollout_error", "success_by_planning_time", "latency",
    }  # fmt: skip
    assert rest == []
    for path in more:
        with Image.open(path) as picture:
            assert picture.width > 500
            assert picture.convert("RGB").getpixel((2, 2)) == (255, 255, 255)


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    first, _ = make_figures(mini(), tmp_path / "a", only=["rollout_error"])
    second, _ = make_figures(list(reversed(mini())), tmp_path / "b", only=["rollout_error"])
    assert first[0].read_bytes() == second[0].read_bytes()


def test_unknown_kinds_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="Did you mean 'latency'"):
        make_figures(mini(), tmp_path, only=["latnecy"])
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match="can't write"):
        make_figures(mini(), tmp_path / "file")


def test_sections_of_the_same_words_get_files_of_their_own(tmp_path: Path) -> None:
    other = {**make().data, "manifest": "another"}
    written, _ = make_figures([*mini(), make(data=other)], tmp_path, only=["rollout_error"])
    assert len({path.name for path in written}) == 2


def test_a_row_looks_the_same_everywhere_and_never_like_another() -> None:
    found = sections([*mini(), *pusht_section()])
    shared = looks(found)
    learned = {section.name_of(row) for section in found for row in section.rows if row.learned}
    assert len({(shared[name].colour, shared[name].marker) for name in learned}) == len(learned)
    assert all(shared[name].colour in COLOURS for name in learned)
    grey = [to_rgb(shared[name].colour) for name in shared if name not in learned]
    assert all(max(colour) - min(colour) < 0.01 for colour in grey)
    many = looks([section_of([make(f"m{number:02d}") for number in range(16)])])
    assert len({(look.colour, look.marker) for look in many.values()}) == 16


def test_colours_differ_for_the_colour_blind() -> None:
    """Under simulated deuteranopia and protanopia (Viénot et al. 1999) any two colours keep a distance, or a lightness."""
    to_lms = ((17.8824, 43.5161, 4.11935), (3.45565, 27.1554, 3.86714), (0.0299566, 0.184309, 1.46709))

    def seen(colour: str, blind: str) -> tuple[float, ...]:
        rgb = [channel**2.2 for channel in to_rgb(colour)]
        long, middle, short = (sum(w * c for w, c in zip(row, rgb, strict=True)) for row in to_lms)
        if blind == "deuteranopia":
            middle = 0.494207 * long + 1.24827 * short
        else:
            long = 2.02344 * middle - 2.52581 * short
        return long / 65, middle / 34, short / 1.7

    for blind in ("deuteranopia", "protanopia"):
        points = [seen(colour, blind) for colour in COLOURS]
        for i, a in enumerate(points):
            for b in points[:i]:
                assert max(abs(x - y) for x, y in zip(a, b, strict=True)) > 0.05


def test_success_is_drawn_with_its_interval_and_verdict() -> None:
    section = section_of(pusht_section(seeds=3))
    columns = [column for column in section.columns if column.key == "success.joint.first_hit"]
    (axes,) = intervals.by_model(section, columns, looks([section]), title="Success").axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["cjepa", "oc_dino_wm", "random", "zero_action", "replay", "simulator"]
    cell = section.rows[0].cells["success.joint.first_hit"]
    drawn = [line.get_segments()[0] for line in axes.collections]
    assert [round(float(x), 6) for x in drawn[0][:, 0]] == [round(float(x), 6) for x in (cell.low, cell.high)]
    assert "cjepa vs oc_dino_wm" in axes.get_xlabel()


def test_rollout_error_draws_what_was_measured_and_names_what_is_too_small() -> None:
    section = section_of(mini())
    figure = curves.by_horizon(section, looks([section]))
    position = next(axes for axes in figure.axes if axes.get_title(loc="left") == "position error")
    lines = {line.get_label(): line for line in position.lines}
    assert list(lines["ocjepa"].get_xdata()) == [1, 8, 16, 31]
    assert lines["ocjepa"].get_ydata()[-1] == pytest.approx(0.22)
    # Its error at the last horizon, 0.004, is below every row that may be beaten.
    assert list(lines["true_future"].get_xdata()) == [1, 8, 16]
    assert "Too near to 0 to be drawn: true_future." in " ".join(figure.get_supxlabel().split())


def test_masked_objects_join_rows_of_one_class() -> None:
    none = make("ocjepa")
    none.config["method"].update({"_target_": "package.CJEPA", "num_masked": 0})
    section = section_of([masked(2), masked(1), none, make("slotformer")])
    assert [(count, row.records[0].method) for count, row in curves.masked_rows(section)] == [
        (0, "ocjepa"), (1, "cjepa"), (2, "cjepa"),
    ]  # fmt: skip
    assert curves.masked_rows(section_of([masked(2)])) == []


def test_planning_time_sorts_rows_and_leaves_out_the_untimed() -> None:
    section = section_of([*pusht_section(), pusht("slotformer", hits=72, seconds=0.4)])
    column = section.headline[0]
    found = curves.timed_rows(section, column)
    assert [row.label for _, row, _ in found] == ["slotformer", "cjepa", "oc_dino_wm"]
    assert found[0][0] == pytest.approx(0.4 + 0.02 + 0.1)
    assert curves.by_planning_time(section, column, looks([section])).axes[0].get_xscale() == "log"


def test_the_parts_of_a_plan_add_up() -> None:
    section = section_of(pusht_section())
    (axes,) = latency.stack(section).axes
    first = [bar for bar in axes.patches if bar.get_y() < 0]
    assert sum(bar.get_width() for bar in first) == pytest.approx(1.32)
    assert {text.get_text() for text in axes.texts} == {"1.32 s", "3.02 s"}


def test_names_of_kinds_are_distinct() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS) == 7
