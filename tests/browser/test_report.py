"""The report page in a real browser: it loads without an error or a request, sorts, filters, fits, and works by keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.ocwm.written_records import mini, pusht_section

from ocwm import page
from ocwm.evidence import Evidence, Picture, Strip
from ocwm.markup import grid
from ocwm.sections import sections

pytestmark = [pytest.mark.enable_socket, pytest.mark.filterwarnings("ignore")]

ROWS = "#all tbody tr"
SHOWN = f"{ROWS}:not([hidden])"
SVG = '<svg width="84" height="84" viewBox="0 0 84 84" xmlns="http://www.w3.org/2000/svg"><circle cx="9" cy="9" r="5"/></svg>'


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records = [*mini(), *pusht_section(seeds=3)]
    strip = Strip("cjepa: real", tuple(Picture(SVG, f"frame {number}", str(number)) for number in range(12)))
    item = Evidence("Start & goal 3", ("Shaded: <the goal>.",), (strip,), grid(["model", "left"], [["cjepa", "9"]]))
    path = tmp_path_factory.mktemp("report") / "report.html"
    page.write(path, page.build(records, {section.title: [item] for section in sections(records)}))
    return path


@pytest.fixture
def opened(browser: Any, written: Path) -> Any:
    browser.set_window_size(1280, 900)
    browser.get(written.as_uri())
    return browser


def texts(browser: Any, column: int) -> list[str]:
    return [
        row.find_elements("css selector", "td")[column].text for row in browser.find_elements("css selector", SHOWN)
    ]


def click(browser: Any, selector: str) -> None:
    browser.execute_script("arguments[0].click()", browser.find_element("css selector", selector))


def choose(browser: Any, name: str, value: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(browser.find_element("css selector", f"[data-filter={name}]")).select_by_visible_text(value)


def test_it_loads_without_errors_and_asks_nobody(opened: Any, written: Path) -> None:
    assert opened.get_log("browser") == []
    assert opened.title == "ocwm-bench report"
    assert (
        opened.execute_script(
            "return performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:'))"
        )
        == []
    )
    assert opened.execute_script("return [...document.images].every(image => image.naturalWidth > 0)")
    assert written.stat().st_size < page.LARGEST


def test_a_click_sorts_and_another_turns_it_round(opened: Any) -> None:
    header = "#all th:nth-child(5)"
    for direction, turned in (("ascending", False), ("descending", True)):
        click(opened, f"{header} button")
        values = [float(text.split()[0]) for text in texts(opened, 4)]
        assert len(values) > 10
        assert values == sorted(values, reverse=turned)
        assert opened.find_element("css selector", header).get_attribute("aria-sort") == direction


def test_dashes_come_last_either_way(opened: Any) -> None:
    click(opened, ".filters [data-headline]")
    for _ in range(2):
        click(opened, "#all th:nth-child(6) button")
        found = texts(opened, 5)
        dashes = [place for place, text in enumerate(found) if text == "–"]
        assert dashes == list(range(len(found) - len(dashes), len(found)))


def test_filters_choose_rows_and_are_undone(opened: Any) -> None:
    everything = texts(opened, 1)
    search = opened.find_element("css selector", "[type=search]")
    search.send_keys("oc_dino")
    assert set(texts(opened, 1)) == {"oc_dino_wm"}
    search.clear()
    search.send_keys("nobody")
    assert texts(opened, 1) == []
    assert "no row fits" in opened.find_element("css selector", "output").text
    click(opened, "[type=reset]")
    opened.execute_async_script("setTimeout(arguments[0], 50)")
    assert texts(opened, 1) == everything
    choose(opened, "task", "clevrer")
    assert set(texts(opened, 0)) == {"clevrer mini embedded state published"}
    choose(opened, "kind", "reference")
    assert "cjepa" not in texts(opened, 1)
    click(opened, ".filters [data-headline]")
    assert len(texts(opened, 1)) > 20


@pytest.mark.parametrize("width", [390, 768, 1280, 1920])
def test_nothing_sticks_out_of_the_window(opened: Any, width: int) -> None:
    opened.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    try:
        for fold in opened.find_elements("css selector", "details:not([open]) > summary"):
            opened.execute_script("arguments[0].click()", fold)
        assert opened.execute_script("return document.documentElement.scrollWidth") <= width
        assert opened.execute_script("return parseFloat(getComputedStyle(document.body).fontSize)") >= 16
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_everything_can_be_reached_and_done_by_keys(opened: Any) -> None:
    from selenium.webdriver import ActionChains, Keys

    reached = []
    for _ in range(60):
        ActionChains(opened).send_keys(Keys.TAB).perform()
        focused = opened.switch_to.active_element
        reached.append(f"{focused.tag_name} {focused.get_attribute('aria-label') or focused.text or ''}".strip())
        if focused.tag_name == "button" and focused.text.startswith("model") and reached.count(reached[-1]) == 1:
            before = texts(opened, 1)
            ActionChains(opened).send_keys(Keys.ENTER).perform()
            if (after := texts(opened, 1)) != before:
                assert after == sorted(after)
                break
    else:
        pytest.fail(f"the table was not reached: {reached}")
    assert "a All figures" in reached
    assert any(name.startswith("summary") for name in reached)
    assert any(name.startswith("select") for name in reached)
    outline = opened.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_what_records_say_is_never_taken_for_markup(opened: Any) -> None:
    titles = [title.get_attribute("textContent") for title in opened.find_elements("css selector", ".evidence h4")]
    assert titles == ["Start & goal 3"] * 2
    said = opened.find_element("css selector", ".evidence p").get_attribute("textContent")
    assert said == "Shaded: <the goal>."
