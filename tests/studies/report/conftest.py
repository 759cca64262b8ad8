"""A synthetic study, its report, and a browser."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from snrl.studies.report import write_report
from snrl.studies.statistics import Options
from tests.studies.report.synthetic import write_study

# Names that are code: a task's may hold anything, a variant's is that of a folder.
TASK = "</script><img src=x onerror=alert(1)>"
VARIANT = "<script>alert(2)$x$ 50% \\a_b & %{y}"
OPTIONS = Options(resamples=200)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 runs of two tasks, two algorithms and three variants."""
    folder = tmp_path_factory.mktemp("synthetic")
    tasks, variants = ("Pendulum-v1", TASK), ("plain", "sn", VARIANT)
    write_study(folder, tasks, variants=variants, seeds=2, evaluations=5)
    return folder


@pytest.fixture(scope="session")
def report(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of their report."""
    return write_report(runs, tmp_path_factory.mktemp("report"), options=OPTIONS).parent


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    from shutil import which

    from playwright.sync_api import sync_playwright

    program = which("chromium") or which("chromium-browser") or which("google-chrome")
    if program is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on PATH")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a page with the network off; whatever the browser complains of fails the test."""
    complaints: list[str] = []
    contexts = []

    def open_it(path: Path, **options: Any) -> Any:
        context = browser.new_context(offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        page.on(
            "request",
            lambda asked: (
                complaints.append(f"request: {asked.url}")
                if not asked.url.startswith(("file:", "data:", "blob:"))
                else None
            ),
        )
        page.goto(path.as_uri())
        page.locator("#explore-plots").scroll_into_view_if_needed()
        page.wait_for_selector("#explore-plots .plot svg.main-svg")
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert complaints == []
