"""The page: one file of HTML that needs no network."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from snrl.studies.panels import explained
from snrl.studies.report.comparison import KINDS
from snrl.studies.report.subject import Subject
from snrl.studies.report.tables import Text
from snrl.studies.statistics.words import METHOD

_RUN_HEAD = ("Task", "Algorithm", "Variant", "Seed", "Status", "Steps", "Planned", "Run", "Reason")


def render(
    subject: Subject,
    data: Mapping[str, Any],
    tables: Sequence[Text],
    verdicts: Mapping[str, Any],
    notices: Sequence[str],
    method: str,
    command: str,
) -> str:
    """Fill in the page's template; whatever comes from files is escaped.

    Args:
        subject: What the report is about.
        data: What the script draws, as :func:`snrl.studies.report.payload.payload` gives it.
        tables: Shown above the plots of scores.
        verdicts: As :meth:`snrl.studies.report.comparison.Comparison.verdicts` gives them.
        notices: What a reader must know first.
        method: How estimates and intervals are made.
        command: Which makes the report again.

    Returns:
        The page.
    """
    from jinja2 import Environment
    from markupsafe import Markup

    def own(name: str, package: str = __package__) -> str:
        return files(package).joinpath(name).read_text(encoding="utf-8")

    # "</script>" and "<!--" end a script wherever they stand in it.
    plain = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    template = Environment(autoescape=True).from_string(own("page.html"))
    sections: dict[str, list[dict[str, Any]]] = {}
    for index, panel in enumerate(subject.panels):
        if panel.measures[0] == data["first"]:
            continue  # It is what "Along training" shows until another is chosen.
        shown = {
            "index": index,
            "title": panel.title,
            "measure": panel.measures[0],
            "text": panel.text,
        }
        sections.setdefault(panel.section, []).append(shown)
    panel_sections = [
        {"name": name, "panels": panels, "anchor": f"panels-{place}"}
        for place, (name, panels) in enumerate(sections.items())
    ]
    commands = subject.runs["command"].dropna().tolist()
    return template.render(
        title=subject.title,
        lead=subject.description,
        contents=[
            ("verdicts", "Established?"),
            ("explore", "Along training"),
            ("scores", "Scores"),
            *((section["anchor"], section["name"]) for section in panel_sections),
            ("runs", "Runs"),
            ("repeat", "Repeat"),
            ("glossary", "Glossary"),
        ],
        notices=notices,
        verdicts=verdicts,
        signs=[{"kind": kind, **texts} for kind, texts in KINDS.items()],
        verdict_note=f"Each variant against {subject.baseline}. {METHOD}",
        tables=tables,
        panel_sections=panel_sections,
        runs={"head": _RUN_HEAD, "rows": _runs(subject)},
        commands=commands,
        report_command=command,
        method=method,
        glossary=_glossary(subject),
        version=version("snrl"),
        made=datetime.now(UTC).strftime("%Y-%m-%d"),
        css=Markup(own("page.css")),
        script=Markup(own("page.js")),
        plotly=Markup(own("package_data/plotly.min.js", "plotly")),
        data=Markup(plain),
    )


def _runs(subject: Subject) -> list[dict[str, Any]]:
    rows = []
    for run in subject.runs.itertuples():
        planned = "" if str(run.total_timesteps) == "<NA>" else f"{run.total_timesteps:,}"
        kind = {"done": "done", "unknown": "done", "failed": "failed"}.get(
            str(run.status), "unfinished"
        )
        cells = (
            run.task,
            run.algo,
            run.variant,
            "" if str(run.seed) == "<NA>" else run.seed,
            run.status,
            f"{run.timesteps:,}",
            planned,
            run.run,
            run.reason if isinstance(run.reason, str) else "",
        )
        rows.append({"kind": kind, "cells": cells})
    return rows


def _glossary(subject: Subject) -> list[dict[str, Any]]:
    """What is explained of the keys that were logged."""
    logged = {str(name) for name in subject.table.evaluations["measure"].unique()}
    return [
        {
            "names": names,
            **{
                field: getattr(key, field).replace("`", "")
                for field in ("formula", "unit", "source", "healthy", "remedy")
            },
        }
        for names, key in explained()
        if logged & set(names)
    ]
