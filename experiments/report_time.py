"""How long the report of a study of 200 runs takes to be written, and its page to open.

Writes synthetic run folders (nothing is trained), reports them, and opens the page in a headless
Chromium with the network off: until the load event, and until the plots in view are drawn. The CPU
time of the page's main thread tells how much of that is the page's own where other work runs.

    python experiments/report_time.py [--runs 200] [--evaluations 50] [--rounds 5]
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from shutil import which
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from snrl.studies.report import write_report
from tests.studies.report.synthetic import write_study

VARIANTS = ("plain", "sn", "sn hidden", "sn all", "layer norm")
# The plots in view are drawn once the learning curves are scrolled to; before, there are none.
_DRAWN = """() => {
    document.getElementById("explore").scrollIntoView();
    return document.querySelector("#explore-plots svg.main-svg .trace")
        && !document.getElementById("main").hasAttribute("aria-busy");
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200, help="a multiple of 20 (default: 200)")
    parser.add_argument("--evaluations", type=int, default=50, help="of each run (default: 50)")
    parser.add_argument("--rounds", type=int, default=5, help="times it is opened (default: 5)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seeds = arguments.runs // 20
        write_study(folder, variants=VARIANTS, seeds=seeds, evaluations=arguments.evaluations)
        start, cpu = time.perf_counter(), time.process_time()
        page = write_report(folder, say=lambda message: print(message, file=sys.stderr))
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        print(f"written in {wall:.1f} s ({cpu:.1f} s of CPU), {page.stat().st_size / 1e6:.1f} MB")
        times = [_open(page) for _ in range(arguments.rounds)]
    whats = ("loaded", "plots drawn", "CPU time of the page's thread")
    for what, column in zip(whats, zip(*times, strict=True), strict=True):
        middle, least, most = statistics.median(column), min(column), max(column)
        print(f"{what}: median {middle:.2f} s ({least:.2f} to {most:.2f}, {len(column)} rounds)")


def _open(page: Path) -> tuple[float, float, float]:
    from playwright.sync_api import sync_playwright

    program = which("chromium") or which("google-chrome")
    with sync_playwright() as playwright:
        browser: Any = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        tab = browser.new_context(offline=True).new_page()
        session = tab.context.new_cdp_session(tab)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        start = time.perf_counter()
        tab.goto(page.as_uri())
        loaded = time.perf_counter() - start
        tab.wait_for_function(_DRAWN)
        drawn = time.perf_counter() - start
        metrics = session.send("Performance.getMetrics")["metrics"]
        busy = next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")
        browser.close()
    return loaded, drawn, busy


if __name__ == "__main__":
    main()
