"""The report page as text: what stands in it, what is escaped, what is refused, what the tasks show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.ocwm.written_records import make, mini, pusht_section

from ocwm import page
from ocwm.errors import BenchError
from ocwm.evidence import Evidence, Picture, Shown, most_disputed
from ocwm.markup import Lines, grid
from ocwm.page import html
from ocwm.sections import sections
from ocwm_tasks.pusht.evidence import AGENT_RADIUS, BLOCK_PATH, episodes
from ocwm_tasks.pusht.simulator import Scene

SVG = '<svg width="1" height="1" xmlns="http://www.w3.org/2000/svg"></svg>'


def test_the_same_records_give_the_same_bytes_and_nothing_is_fetched() -> None:
    records = [*mini(), *pusht_section()]
    text = page.build(records)
    assert text == page.build(list(reversed(records)))
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)[^"']*""", text)
    assert "url(" not in text
    assert "default-src 'none'" in text


def test_every_row_and_metric_has_a_line() -> None:
    records = mini()
    text = page.build(records)
    (section,) = sections(records)
    lines = sum(column.key in row.cells for row in section.rows for column in section.columns)
    assert text.count("<tr data-task=") == lines
    assert text.count(" data-head>") == sum(c.key in row.cells for row in section.rows for c in section.headline)


def test_text_of_records_is_no_markup() -> None:
    records = [make("cjepa", seed=seed, warnings=["<script>alert(1)</script> & more"]) for seed in range(3)]
    text = page.build(records)
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in text
    item = Evidence('<b>"', ("`<i>`",), table=grid(["<u>"], [["<s>"]]))
    assert not re.findall(r"<[bius]>", html.evidence(item))
    assert 'aria-label="&quot;&gt;"' in html.picture(Picture(SVG, '">'))


def test_marks_of_markdown_become_html() -> None:
    found = html.blocks([Lines(("**a `x`** `b_*c*` *d* [e](f.md) 2 * 3 * 4",))], name="")
    assert found == "<ul><li><strong>a <code>x</code></strong> <code>b_*c*</code> <em>d</em> e 2 * 3 * 4</li></ul>"


def test_nothing_to_show_and_too_much_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BenchError, match="no record to show"):
        page.build([])
    monkeypatch.setattr("ocwm.page.whole_page.LARGEST", 1000)
    with pytest.raises(BenchError, match="the page would have"):
        page.build(mini())


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match="can't write"):
        page.write(tmp_path / "file" / "report.html", "text")


def test_items_on_which_runs_differ_come_first() -> None:
    right = dict.fromkeys(range(6), True)
    other = {**right, 4: False, 2: False}
    assert most_disputed([right, other], count=2) == [2, 4]
    assert most_disputed([right, other], count=3) == [0, 2, 4]
    assert most_disputed([right, {9: True}], count=3) == []
    assert most_disputed([], count=3) == []


def _run(method: str, *, hits: list[bool], imagined: bool = True) -> Shown:
    count, steps = len(hits), 20
    states = np.tile(np.array([100, 100, 256, 256, 0.5, 0, 0], np.float32), (count, steps + 1, 1))
    goals = states[:, 0] + np.array([50, 0, 30, 0, 0.2, 0, 0], np.float32)
    items: dict[str, Any] = {
        "states": states,
        "goals": goals,
        "success.joint.first_hit": np.array(hits),
        "success.joint.first_hit@item": np.arange(count),
    }
    if imagined:
        items["imagined"] = states[: count - 1, 5::5]
    return Shown(method, make(method, task="pusht"), items)


def test_episodes_show_what_happened_and_what_was_imagined() -> None:
    runs = [
        _run("cjepa", hits=[True, False, True, False]),
        _run("ocjepa", hits=[True, True, True, True]),
        _run("random", hits=[False] * 4),
    ]
    first, second = episodes(runs, count=2, block=5)
    assert (first.title, second.title) == ("Start and goal 0", "Start and goal 1")
    labels = [strip.label for strip in second.strips]
    assert labels == ["cjepa, not reached: real", "cjepa: imagined", "ocjepa, reached: real", "ocjepa: imagined"]
    assert [picture.caption for picture in second.strips[1].pictures] == ["start", "5", "10", "15", "20"]
    assert second.table is not None
    assert [list(row) for row in second.table.rows] == [
        ["cjepa", "no", "50", "30", "11"],
        ["ocjepa", "yes", "50", "30", "11"],
    ]
    assert episodes([Shown("cjepa", make(), {})], count=2, block=5) == []


def test_the_block_is_drawn_as_it_is() -> None:
    scene = Scene()
    corners = {tuple(corner) for shape in scene.block_shapes for corner in shape.get_vertices()}
    numbers = [float(number) for number in re.findall(r"-?\d+", BLOCK_PATH)]
    x, y, path = numbers[0], numbers[1], {(numbers[0], numbers[1])}
    steps = re.findall(r"([hv])(-?\d+)", BLOCK_PATH)
    for kind, step in steps:
        x, y = (x + float(step), y) if kind == "h" else (x, y + float(step))
        path.add((x, y))
    assert path <= corners
    assert {shape.radius for shape in scene.agent.shapes} == {AGENT_RADIUS}
