"""The report's plots as figures for a paper: SVG and PNG, drawn by Matplotlib."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from snrl.runs.folder import written_aside
from snrl.studies.panels import Panel
from snrl.studies.report.curves import Curve, Floats
from snrl.studies.report.style import Style
from snrl.studies.report.subject import Subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Text stays text in SVG; types that journals take.
_LOOK: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "snrl",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    # Names from files are no formulas, whatever dollars they hold.
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
}
_IDEAL = "#59616b"
# Inches per letter of a label, about; letters of a name that are shown.
_LETTER, _LONGEST = 0.07, 40
_WIDTH, _HEIGHT, _DPI = 2.6, 2.1, 160


def draw_panel(subject: Subject, panel: Panel, curves: Sequence[Curve], folder: Path) -> list[Path]:
    """Draw a panel's first measure: a row per algorithm, a column per task.

    Args:
        subject: What the report is about.
        panel: What is drawn.
        curves: Of that measure.
        folder: Where to.

    Returns:
        The files.
    """
    by_place: dict[tuple[str, str], list[Curve]] = {}
    for curve in curves:
        by_place.setdefault((curve.cell.task, curve.cell.algo), []).append(curve)

    def fill(axes: "Axes", place: tuple[str, str]) -> None:
        if panel.best is not None:
            axes.axhline(panel.best, color=_IDEAL, lw=0.8, ls=":")
        order = {variant: i for i, variant in enumerate(subject.variants)}
        for curve in sorted(by_place[place], key=lambda c: order[c.cell.variant]):
            style = subject.styles[curve.cell.variant]
            axes.fill_between(
                curve.steps, curve.low, curve.high, color=style.colour, alpha=0.2, lw=0
            )
            dot = "o" if len(curve.steps) == 1 else None
            axes.plot(
                curve.steps, curve.estimate, c=style.colour, ls=style.linestyle, lw=1.4, marker=dot
            )
        if panel.log and any((curve.estimate > 0).any() for curve in by_place[place]):
            _logarithmic(axes)
        axes.xaxis.set_major_formatter(lambda x, _: _short(x))
        axes.set_xlabel("environment steps")

    return draw_grid(subject, f"curves_{panel.name}", panel.label, by_place, fill, folder)


def draw_grid(
    subject: Subject,
    name: str,
    label: str,
    places: Mapping[tuple[str, str], object],
    fill: Callable[["Axes", tuple[str, str]], None],
    folder: Path,
    height: float = _HEIGHT,
    named: bool = False,
) -> list[Path]:
    """Draw small multiples, a row per algorithm and a column per task, with one legend.

    Args:
        subject: What the report is about.
        name: Of the files.
        label: Of the y axis.
        places: Task and algorithm of each plot; a task may be ``""`` for all of them.
        fill: Draws one.
        folder: Where to.
        height: Of a row, in inches.
        named: Whether the y axis has the names of variants.

    Returns:
        The files.
    """
    longest = max(len(_cut(variant)) for variant in subject.variants)
    names = _LETTER * longest if named else 0.0
    tasks = [task for task in ("", *subject.tasks) if any(place[0] == task for place in places)]
    algos = [algo for algo in subject.algos if any(place[1] == algo for place in places)]
    with _look():
        from matplotlib.figure import Figure

        size = (_WIDTH * max(len(tasks), 1.4) + 0.4 + names, height * len(algos) + 0.7)
        figure = Figure(figsize=size, layout="constrained")
        every = figure.subplots(len(algos), len(tasks), squeeze=False)
        for row, algo in zip(every, algos, strict=True):
            for axes, task in zip(row, tasks, strict=True):
                if (task, algo) not in places:
                    axes.set_axis_off()
                    continue
                fill(axes, (task, algo))
                if named and axes is not row[0]:
                    axes.tick_params(labelleft=False)
                axes.set_title(
                    " · ".join(_cut(part, 24) for part in (task, algo) if part), loc="left"
                )
            row[0].set_ylabel(label)
        if not named:
            _legend(subject, figure)
        return _save(figure, folder / name)


def _logarithmic(axes: "Axes") -> None:
    """A logarithmic y axis with plain numbers: Matplotlib's own are formulas."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    few = np.log10(high / low) < 2
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=8))
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def draw_scores(subject: Subject, drawn: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw the summaries and the paired differences of the page.

    Args:
        subject: What the report is about.
        drawn: As :meth:`snrl.studies.report.comparison.Comparison.drawn` gives it.
        folder: Where to.

    Returns:
        The files.
    """
    files = []
    draw = partial(draw_grid, subject, folder=folder)
    height = 0.7 + 0.24 * len(subject.variants)
    for summary in drawn["summaries"]:
        parts = {(part["task"], part["algo"]): part["rows"] for part in summary["parts"]}
        if summary["kind"] == "rows":
            fill = partial(_fill_rows, subject, parts, summary["label"], summary.get("ideal"))
            files += draw_grid(
                subject, summary["name"], "", parts, fill, folder, height, named=True
            )
        else:
            fill = partial(_fill_along, subject, parts, summary["x"])
            files += draw(summary["name"], summary["label"], parts, fill)
    for measure, pairs in drawn["paired"].items():
        name = measure.replace("/", "_")
        parts = {}
        for pair in pairs:
            place = (subject.tasks[pair["t"]], subject.algos[pair["a"]])
            parts.setdefault(place, []).append(pair)
        fill = partial(_fill_rows, subject, parts, pairs[0]["label"], 0.0)
        files += draw(f"paired_{name}", "", parts, fill, height=height, named=True)
    return files


def _fill_rows(
    subject: Subject,
    parts: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]],
    label: str,
    ideal: float | None,
    axes: "Axes",
    place: tuple[str, str],
) -> None:
    """Intervals, a variant a line, the first on top; with the single seeds, if there are any."""
    if ideal is not None:
        axes.axvline(ideal, color=_IDEAL, lw=0.8, ls=":")
    rows = parts[place]
    for line, row in enumerate(rows):
        style = subject.styles[subject.variants[row["v"]]]
        seeds = row.get("d", [])
        axes.plot(seeds, [line] * len(seeds), "o", mfc="none", c=style.colour, alpha=0.6, ms=4)
        if row["lo"] is not None:
            axes.plot([row["lo"], row["hi"]], [line, line], c=style.colour, lw=2)
        if row["y"] is not None:
            axes.plot([row["y"]], [line], "D" if seeds else "o", c=style.colour, ms=5)
    names = [_cut(subject.variants[row["v"]]) for row in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(label)


def _fill_along(
    subject: Subject,
    parts: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]],
    label: str,
    axes: "Axes",
    place: tuple[str, str],
) -> None:
    for row in parts[place]:
        style = subject.styles[subject.variants[row["v"]]]
        x, y, low, high = (
            np.array(row.get(key, [np.nan] * len(row["x"])), float)
            for key in ("x", "y", "lo", "hi")
        )
        _line(axes, style, x, y, low, high)
    axes.set_xlabel(label)


def _line(axes: "Axes", style: Style, x: Floats, y: Floats, low: Floats, high: Floats) -> None:
    axes.fill_between(x, low, high, color=style.colour, alpha=0.2, lw=0)
    dot = "o" if len(x) == 1 else None
    axes.plot(x, y, c=style.colour, ls=style.linestyle, lw=1.4, marker=dot)


def _legend(subject: Subject, figure: "Figure") -> None:
    from matplotlib.lines import Line2D

    lines = [
        Line2D([], [], color=style.colour, ls=style.linestyle, lw=1.8)
        for style in subject.styles.values()
    ]
    names = [_cut(variant) for variant in subject.variants]
    room = _LETTER * max(map(len, names)) + 0.6
    columns = max(1, min(len(lines), int(figure.get_figwidth() / room)))
    figure.legend(lines, names, loc="outside lower center", ncols=columns, frameon=False)


def _cut(name: str, longest: int = _LONGEST) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "…"


def _save(figure: "Figure", path: Path) -> list[Path]:
    files = []
    for suffix, metadata in ((".svg", {"Date": None}), (".png", {})):
        file = path.with_suffix(suffix)
        with written_aside(file) as aside:
            figure.savefig(aside, dpi=_DPI, metadata=metadata)
        files.append(file)
    return files


@contextmanager
def _look() -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context(_LOOK):
        yield


def _short(value: float) -> str:
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
