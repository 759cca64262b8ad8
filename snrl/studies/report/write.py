"""The report of a folder: read, summarise, draw, write."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from snrl.runs.errors import ConfigError
from snrl.runs.folder import written_aside
from snrl.studies.collect import collect, write_parquet
from snrl.studies.installed import REPORT, check_installed
from snrl.studies.report.comparison import Comparison
from snrl.studies.report.curves import Curve, average
from snrl.studies.report.drawing import Drawing
from snrl.studies.report.figures import draw_panel, draw_scores
from snrl.studies.report.page import render
from snrl.studies.report.payload import UPDATES, payload
from snrl.studies.report.subject import Subject, subject
from snrl.studies.report.tables import Text, latex, markdown
from snrl.studies.statistics import Options, summarise
from snrl.studies.statistics.words import METHOD

# Of each point of a curve; scores at the end have the statistics' own number.
_CURVE_RESAMPLES = 1000
FOLDER = "report"

Say = Callable[[str], None]


def write_report(
    folder: Path,
    out: Path | None = None,
    *,
    how: str = "final",
    baseline: str | None = None,
    options: Options | None = None,
    say: Say | None = None,
) -> Path:
    """Write the report of all runs below a folder.

    Args:
        folder: Holds runs of ``snrl.run``, RL Zoo or Stable-Baselines3, at any depth, or the
            tables of another report.
        out: Where to; ``report`` in the folder if None. Files of an earlier report are replaced.
        how: What stands for a run: ``final``, ``last_tenth`` or ``auc``.
        baseline: The variant that others are compared with; None for the study's, else ``plain``.
        options: How intervals are made; the statistics' own defaults if None.
        say: Is told what is being done, a line at a time.

    Returns:
        The page, ``index.html``; beside it ``figures/``, ``tables/``, ``runs.parquet`` and
        ``evaluations.parquet``.

    Raises:
        ConfigError: If there are no runs, something that is needed is not installed, or the report
            cannot be written.
    """
    check_installed("a report", *REPORT)
    options = options or Options()
    say = say or (lambda _: None)
    folder = Path(folder)
    out = folder / FOLDER if out is None else Path(out)
    say(f"reading {folder}")
    about = subject(collect(folder), baseline)
    say(f"{about.description}; statistics")
    measures = dict.fromkeys(measure for panel in about.panels for measure in panel.measures)
    summary = summarise(
        about.table, baseline=about.baseline, measures=measures, hows=(how,), options=options
    )
    comparison = Comparison(about, summary, how)
    say("curves")
    curves = average(about.table.evaluations, [*measures, UPDATES], _CURVE_RESAMPLES, options.seed)
    drawn, tables = Drawing(comparison).drawn(), comparison.tables()
    command = ["python", "-m", "snrl.report", str(folder)]
    command += ["--out", str(out)] if out != folder / FOLDER else []
    command += ["--baseline", baseline] if baseline is not None else []
    command += ["--how", how] if how != "final" else []
    command += _changed(options)
    html = render(
        about,
        payload(about, curves, drawn),
        tables,
        comparison.verdicts(),
        [*about.notices, *summary.notices],
        _method(options),
        shlex.join(command),
    )
    with _writing(out):
        say("data")
        write_parquet(about.table, out)
        _write_tables(tables, out / "tables")
        _draw(about, curves, drawn, out / "figures", say)
        page = out / "index.html"
        with written_aside(page) as aside:
            aside.write_text(html, encoding="utf-8")
    return page


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        for folder in (out / "figures", out / "tables"):
            folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise ConfigError(f"cannot write the report {out}: {error.strerror or error}") from error


def _write_tables(tables: Sequence[Text], folder: Path) -> None:
    for table in tables:
        for suffix, render_table in ((".md", markdown), (".tex", latex)):
            with written_aside(folder / f"{table.name}{suffix}") as aside:
                aside.write_text(render_table(table), encoding="utf-8")


def _draw(
    about: Subject,
    curves: Mapping[str, list[Curve]],
    drawn: Mapping[str, Any],
    folder: Path,
    say: Say,
) -> None:
    say("figures: scores")
    draw_scores(about, drawn, folder)
    for panel in about.panels:
        if panel.measures[0] in curves:
            say(f"figures: {panel.measures[0]}")
            draw_panel(about, panel, curves[panel.measures[0]], folder)


def _changed(options: Options) -> list[str]:
    """The flags that give these options."""
    usual = Options()
    return [
        word
        for name in ("confidence", "resamples", "seed")
        if (value := getattr(options, name)) != getattr(usual, name)
        for word in (f"--{name}", str(value))
    ]


def _method(options: Options) -> str:
    return (
        "Curves are interquartile means over seeds. Their intervals, and those of all scores, are "
        f"bootstrap percentiles of {options.confidence:.0%}, of {options.resamples:,} resamples "
        f"for scores and {_CURVE_RESAMPLES:,} for curves, from seed {options.seed}; each is for "
        f"its own point. {METHOD}"
    )
