"""Draws error against cost from ``results.csv``, as an SVG beside it.

Needs matplotlib, which nothing else here does: ``pip install matplotlib``.

python experiments/estimators/figure.py [--results quick.csv] [--out quick.svg]
"""

import argparse
import csv
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

FAMILIES = {  # estimators whose name starts so, and how they are drawn
    "power iteration with momentum": {"color": "#e69f00", "marker": "s"},
    "power iteration": {"color": "#999999", "marker": "o"},
    "subspace iteration": {"color": "#0072b2", "marker": "^"},
    "with directions": {"color": "#009e73", "marker": "D"},
    "Gram iteration": {"color": "#cc79a7", "marker": "v"},
    "SVD in float32": {"color": "black", "marker": "x"},
}
OURS = "with directions, block of 4, steps as needed (ours)"
ROUNDING = 1e-7


def family(name: str) -> str | None:
    if name.startswith("with directions") and "as needed" in name:
        return None
    return next((prefix for prefix in FAMILIES if name.startswith(prefix)), None)


def label(name: str) -> str:
    """The number in a name: of steps, of vectors, of the tolerance."""
    if "block of" in name:
        return name.split("block of ")[1].split(",")[0]
    words = name.split(", ")[-1].split()
    return words[-1] if words[0] == "within" else words[0] if words[0].isdigit() else ""


def draw(axes: Any, rows: list[dict[str, str]], column: str) -> None:
    lines: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        if prefix := family(row["estimator"]):
            lines[prefix].append(row)

    def point(row: dict[str, str]) -> tuple[float, float]:
        return float(row["microseconds"]), max(float(row[column]), ROUNDING)

    for prefix, style in FAMILIES.items():
        points = [point(row) for row in lines[prefix]]
        axes.plot(*zip(*points, strict=True), label=prefix, lw=1, ms=4, **style)
        for row, xy in zip(lines[prefix], points, strict=True):
            axes.annotate(
                label(row["estimator"]), xy, (3, 3), textcoords="offset points", fontsize=6
            )
    (ours,) = [row for row in rows if row["estimator"] == OURS]
    axes.plot(*point(ours), "*", color="#d55e00", ms=14, label="ours, steps as needed (C)")
    axes.set(xscale="log", yscale="log")
    axes.minorticks_off()
    axes.grid(alpha=0.3, which="major")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = Path(__file__)
    parser.add_argument("--results", type=Path, default=here.with_name("results.csv"))
    parser.add_argument("--out", type=Path, default=here.with_name("figure.svg"))
    args = parser.parse_args()
    try:
        import matplotlib
    except ImportError:
        sys.exit("the figure needs matplotlib, which is not installed: pip install matplotlib")
    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    plt.rcParams["svg.hashsalt"] = "snrl"  # the same file for the same figures
    plt.rcParams["svg.fonttype"] = "none"
    with args.results.open() as file:
        rows = list(csv.DictReader(file))
    runs = list(dict.fromkeys((row["algorithm"], row["learning_rate"]) for row in rows))
    columns = {"error_median_late": "median", "error_99_late": "99%"}
    networks = ("online", "target")
    figure, grid = plt.subplots(
        len(columns) * len(runs), 2, figsize=(9, 6 * len(runs)), sharex=True, sharey=True,
        squeeze=False, layout="constrained",
    )  # fmt: skip
    panels = [(run, column) for run in runs for column in columns]
    for (run, column), line in zip(panels, grid, strict=True):
        for network, axes in zip(networks, line, strict=True):
            chosen = [
                row
                for row in rows
                if (row["algorithm"], row["learning_rate"], row["network"]) == (*run, network)
            ]
            draw(axes, chosen, column)
            axes.set_title(
                f"{run[0].upper()}, lr {float(run[1]):g}, {network}: {columns[column]}", fontsize=9
            )
        line[0].set_ylabel("relative error of sigma")
    for axes in grid[-1]:
        axes.set_xlabel("µs per call, four 256×256 matrices")
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside lower center", ncols=4, fontsize=8, title_fontsize=8,
        title="numbers: steps, vectors in the block, tolerance",
    )  # fmt: skip
    figure.savefig(args.out, metadata={"Date": None})


if __name__ == "__main__":
    main()
