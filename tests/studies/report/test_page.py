"""The page in a real browser, with the network off."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snrl.studies.panels import PANELS
from tests.studies.report.conftest import TASK, VARIANT

Open = Callable[..., Any]


def _lines(page: Any) -> list[dict[str, Any]]:
    """What the first plot of the explored measure holds: its lines, without their bands."""
    return page.evaluate(  # type: ignore[no-any-return]
        """() => document.querySelector("#explore-plots .canvas").data
            .filter((trace) => trace.hoverinfo !== "skip")
            .map((trace) => ({name: trace.name, y: [...trace.y], x: [...trace.x],
                              width: trace.line.width, dash: trace.line.dash}))"""
    )


def _settle(page: Any) -> None:
    """Wait until what is in view is drawn as it was asked for."""
    page.wait_for_function(
        """() => !document.getElementById("main").hasAttribute("aria-busy")
            && document.querySelector("#explore-plots .canvas").data"""
    )


def _data(report: Path) -> dict[str, Any]:
    text = (report / "index.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])  # type: ignore[no-any-return]


def test_learning_curves_are_drawn_with_a_line_and_a_band_per_variant(
    report: Path, open_page: Open
) -> None:
    page = open_page(report / "index.html")
    assert page.locator("#explore-plots .heading").all_inner_texts() == [
        f"{task} · {algo}" for task in (TASK, "Pendulum-v1") for algo in ("sac", "td3")
    ]
    data = _data(report)
    returns = data["curves"]["eval/mean_reward"]
    expected = [curve["y"] for curve in returns if data["cells"][curve["c"]][:2] == [0, 0]]
    assert len(expected) == 3
    assert sorted(line["y"] for line in _lines(page)) == sorted(expected)
    drawn = page.locator("#explore-plots .plot").first.locator("svg .scatterlayer .trace")
    assert drawn.count() == 3 * len(expected)
    # Paths with points in them, and not an empty plot.
    paths = page.locator("#explore-plots .plot").first.locator("path.js-line").all()
    assert sum((path.get_attribute("d") or "").count("L") >= 3 for path in paths) >= 3


def test_every_panel_is_drawn_once_it_is_looked_at(report: Path, open_page: Open) -> None:
    page = open_page(report / "index.html")
    grids = page.locator("[data-panel]")
    # The return is what is explored first.
    assert grids.count() == len(PANELS) - 1
    assert grids.last.locator("svg.main-svg").count() == 0
    for i in range(grids.count()):
        grids.nth(i).scroll_into_view_if_needed()
        grids.nth(i).locator(".plot svg.main-svg .trace").first.wait_for()
    plots = page.locator("#score-plots h3").all_inner_texts()
    assert {title.split(":")[0] for title in plots} >= {
        "Return at the end",
        "Probability of improvement over plain",
        "Performance profiles",
        "Paired differences by seed",
    }
    page.locator("#score-plots .plot").first.scroll_into_view_if_needed()
    page.locator("#score-plots .plot svg.main-svg .trace").first.wait_for()


def test_the_controls_change_what_is_drawn(report: Path, open_page: Open) -> None:
    page = open_page(report / "index.html")
    before = _lines(page)

    page.select_option("#measure", "values/bias_mean")
    _settle(page)
    assert _lines(page)[0]["y"] != before[0]["y"]
    assert "promises more" in page.inner_text("#measure-text")
    page.select_option("#measure", "eval/mean_reward")

    page.select_option("#axis", "share")
    _settle(page)
    assert max(_lines(page)[0]["x"]) == 1
    page.select_option("#axis", "updates")
    _settle(page)
    assert max(_lines(page)[0]["x"]) == pytest.approx(9_900, rel=1e-3)
    page.select_option("#axis", "steps")

    page.check("#seeds")
    _settle(page)
    thin = [line for line in _lines(page) if line["width"] < 1]
    assert len(thin) == 3
    # Two seeds of five points, each followed by a gap.
    assert [len(line["y"]) for line in thin] == [12, 12, 12]
    assert thin[0]["y"][5] is None
    page.uncheck("#seeds")

    page.uncheck("#intervals")
    _settle(page)
    count = "() => document.querySelector('#explore-plots .canvas').data.length"
    assert page.evaluate(count) == 3

    page.select_option("#task", "Pendulum-v1")
    page.select_option("#algo", "td3")
    assert page.locator("#explore-plots .heading").all_inner_texts() == ["Pendulum-v1 · td3"]


def test_variants_are_hidden_and_shown_by_the_keyboard(report: Path, open_page: Open) -> None:
    page = open_page(report / "index.html")
    chips = page.locator("#chips button")
    assert chips.all_inner_texts()[0] == "plain"
    chips.first.focus()
    page.keyboard.press("Enter")
    _settle(page)
    assert chips.first.get_attribute("aria-pressed") == "false"
    assert [line["name"] for line in _lines(page)].count("plain") == 0
    assert len(_lines(page)) == 2
    page.keyboard.press("Space")
    _settle(page)
    assert len(_lines(page)) == 3
    chips.nth(1).click(modifiers=["Shift"])
    _settle(page)
    assert len(_lines(page)) == 1


def test_what_is_chosen_is_kept_in_the_address(report: Path, open_page: Open) -> None:
    page = open_page(report / "index.html")
    page.select_option("#measure", "values/churn")
    page.select_option("#task", TASK)
    page.reload()
    assert page.input_value("#measure") == "values/churn"
    assert page.locator("#explore-plots .plot").count() == 2


def test_names_from_files_are_shown_and_not_run(report: Path, open_page: Open) -> None:
    text = (report / "index.html").read_text(encoding="utf-8")
    assert "<img" not in text
    assert "<script>alert" not in text
    page = open_page(report / "index.html")
    assert page.locator("#chips button").all_inner_texts() == ["plain", VARIANT, "sn"]
    assert page.locator("#task option").all_text_contents() == ["all", TASK, "Pendulum-v1"]
    labels = page.locator("#score-plots .plot").first
    labels.scroll_into_view_if_needed()
    labels.locator(".ytick").first.wait_for()
    assert VARIANT in labels.locator(".ytick").all_text_contents()
    assert page.locator("#run-table td", has_text=VARIANT).count() == 16
    assert page.locator("img, main script").count() == 0


def test_runs_are_filtered_and_sorted(report: Path, open_page: Open) -> None:
    page = open_page(report / "index.html")
    rows = page.locator("#run-table tbody tr:visible")
    assert rows.count() == 24
    page.fill("#filter", "pendulum td3 plain")
    assert rows.count() == 2
    assert page.inner_text("#count") == "2 of 24 runs"
    page.fill("#filter", "")
    seed = page.locator("#run-table th", has_text="Seed")
    seed.locator("button").click()
    seed.locator("button").click()
    assert seed.get_attribute("aria-sort") == "descending"
    assert rows.first.locator("td").nth(3).inner_text() == "1"


@pytest.mark.parametrize("width", [380, 1400])
def test_nothing_is_wider_than_the_window(report: Path, open_page: Open, width: int) -> None:
    page = open_page(report / "index.html", viewport={"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_is_dark_where_the_reader_prefers_so(report: Path, open_page: Open) -> None:
    def brightness(page: Any) -> int:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)))

    page = open_page(report / "index.html", color_scheme="dark")
    assert brightness(page) < 150
    page.click("#theme")
    assert brightness(page) > 700


def test_every_control_has_a_name_and_no_id_comes_twice(report: Path, open_page: Open) -> None:
    page = open_page(report / "index.html")
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("select, input, button")].filter((control) =>
            !(control.labels?.length || control.textContent.trim() || control.dataset.title))
            .map((control) => control.outerHTML)"""
    )
    assert nameless == []
    ids = page.evaluate("() => [...document.querySelectorAll('body > * [id]')].map((e) => e.id)")
    own = [name for name in ids if not name.startswith(("clip", "topdefs", "defs", "legend"))]
    assert len(own) == len(set(own))
