"""What a report says of the scores at the end: verdicts and tables."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from snrl.studies.panels import BIAS, RETURN
from snrl.studies.report.subject import Subject
from snrl.studies.report.tables import Text
from snrl.studies.statistics import Summary
from snrl.studies.statistics.words import HOW_WORDS

if TYPE_CHECKING:
    import pandas as pd

# Of these the page shows tables, paired differences and verdicts without being asked.
MAIN = (RETURN, BIAS)
_THRESHOLDS, _POINTS = 101, 51
# What a comparison can say, for the eye: never by colour alone.
KINDS: Mapping[str, dict[str, str]] = {
    "better": {"sign": "✓", "word": "established, for the better"},
    "worse": {"sign": "✗", "word": "established, for the worse"},
    "changed": {"sign": "●", "word": "established, neither better nor worse"},
    "suggested": {"sign": "◐", "word": "suggested, not established"},
    "open": {"sign": "○", "word": "not established"},
}
_STATISTICS = {
    "iqm": "IQM",
    "median": "Median",
    "mean": "Mean",
    "optimality_gap": "Optimality gap",
}


class Comparison:
    """The scores of a subject, in the orders in which it is shown.

    Args:
        subject: What the report is about.
        summary: Its statistics, with one ``how``.
        how: What stands for a run.
    """

    def __init__(self, subject: Subject, summary: Summary, how: str) -> None:
        """Keep them."""
        self.subject = subject
        self.summary = summary
        self.how = how

    def verdicts(self) -> dict[str, list[dict[str, Any]]]:
        """A sentence for each comparison, and what they say at a glance.

        Returns:
            ``main`` and ``others``: ``task``, ``algo``, ``measure``, ``text``, and the ``kind``,
            ``sign`` and ``word`` of :data:`KINDS`. ``glances``, one for each main measure:
            ``caption``, ``head`` (variants), ``rows`` of ``task``, ``algo`` and ``cells``.
        """
        order = [*MAIN, *(measure for panel in self.subject.panels for measure in panel.measures)]
        rows = ordered(self.summary.differences, self.subject, list(dict.fromkeys(order)))
        said = [
            {
                "task": row["task"],
                "algo": row["algo"],
                "measure": row["measure"],
                "text": row["sentence"],
                **_kind(row),
            }
            for row in rows
        ]
        return {
            "main": [verdict for verdict in said if verdict["measure"] in MAIN],
            "others": [verdict for verdict in said if verdict["measure"] not in MAIN],
            "glances": [glance for measure in MAIN if (glance := self._glance(measure, rows))],
        }

    def _glance(self, measure: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
        """One measure's differences, a row per task and algorithm, a column per variant."""
        places: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
        for row in rows:
            if row["measure"] == measure:
                signed = ("+" if row["difference"] > 0 else "") + text(row["difference"])
                cell = _kind(row) | {"text": signed if row["pairs"] else ""}
                places.setdefault((row["task"], row["algo"]), {})[row["variant"]] = cell
        head = [variant for variant in self.subject.variants if variant != self.subject.baseline]
        if not places:
            return None
        what = "Return" if measure == RETURN else "Distance of the bias from 0 (less is better)"
        none = {"kind": "open", "text": ""}
        return {
            "caption": f"{what}: difference from {self.subject.baseline} {HOW_WORDS[self.how]}",
            "head": head,
            "rows": [
                {"task": task, "algo": algo, "cells": [cells.get(name, none) for name in head]}
                for (task, algo), cells in places.items()
            ],
        }

    def tables(self) -> list[Text]:
        """Scores and differences, as texts."""
        made = [self._scores(measure) for measure in MAIN]
        made += [self._aggregates(), self._differences(), self._improvement()]
        return [table for table in made if table.rows]

    def _scores(self, measure: str) -> Text:
        rows = [
            (
                row["task"],
                row["algo"],
                row["variant"],
                f"{row['n']:.0f}",
                text(row["iqm"]),
                _interval(row["iqm_low"], row["iqm_high"]),
                text(row["mean"]),
                text(row["std"]),
                *((f"{row['n_diverged']:.0f}",) if measure == RETURN else ()),
            )
            for row in ordered(self.summary.cells, self.subject, measures=[measure])
        ]
        head = ["Task", "Algorithm", "Variant", "Seeds", "IQM", self._level, "Mean", "Std"]
        head += ["Diverged"] if measure == RETURN else []
        name, what = ("returns", "Return") if measure == RETURN else ("bias", "Bias of the values")
        return Text(name, f"{what} {HOW_WORDS[self.how]}, over seeds", head, rows, 3)

    def _aggregates(self) -> Text:
        found: dict[tuple[str, str], dict[str, str]] = {}
        for row in ordered(self.summary.aggregates, self.subject):
            cell = found.setdefault((row["algo"], row["variant"]), {})
            cell[row["statistic"]] = f"{text(row['estimate'])} {_interval(row['low'], row['high'])}"
        rows = [
            (*names, *(cell.get(statistic, "–") for statistic in _STATISTICS))
            for names, cell in found.items()
        ]
        head = ("Algorithm", "Variant", *_STATISTICS.values())
        caption = f"Normalised returns over all tasks, with {self._level}s"
        return Text("aggregates", caption, head, rows, 2)

    def _differences(self) -> Text:
        rows = [
            (
                row["task"],
                row["algo"],
                row["variant"],
                row["measure"],
                f"{row['pairs']:.0f}",
                text(row["difference"]),
                _interval(row["low"], row["high"]),
                _p(row["p"]),
                _p(row["p_holm"]),
            )
            for row in ordered(self.summary.differences, self.subject, measures=list(MAIN))
        ]
        head = ["Task", "Algorithm", "Variant", "Measure", "Pairs", "Difference", self._level]
        head += ["p", "p, Holm"]
        caption = (
            f"Variant minus {self.subject.baseline}, runs with the same seed; of the bias, the "
            "difference of its distances from 0"
        )
        return Text("differences", caption, head, rows, 4)

    def _improvement(self) -> Text:
        rows = [
            (
                row["algo"],
                row["variant"],
                f"{row['probability']:.2f}",
                _interval(row["low"], row["high"]),
            )
            for row in ordered(self.summary.improvement, self.subject, measures=[RETURN])
        ]
        caption = f"Probability that a run has a higher return than one of {self.subject.baseline}"
        return Text(
            "improvement", caption, ("Algorithm", "Variant", "Probability", self._level), rows, 2
        )

    @property
    def _level(self) -> str:
        return f"{self.summary.options.confidence:.0%} interval"


def _kind(row: Mapping[str, Any]) -> dict[str, str]:
    best = float(row["best"])
    if row["grade"] != "established":
        kind = "open" if row["grade"] == "not established" else "suggested"
    elif math.isnan(best):
        kind = "changed"
    else:
        # A finite best number is compared by the distances from it, of which less is better.
        kind = "better" if (row["difference"] > 0) == math.isinf(best) else "worse"
    return {"kind": kind, **KINDS[kind]}


def ordered(
    frame: "pd.DataFrame", subject: Subject, measures: list[str] | None = None
) -> list[dict[str, Any]]:
    """Rows in the subject's order: measures, tasks, algorithms, variants."""
    rows = [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
    if measures is not None:
        rows = [row for row in rows if row["measure"] in measures]
    orders = {
        "measure": measures or [],
        "task": [*subject.tasks, "all"],
        "algo": list(subject.algos),
        "variant": list(subject.variants),
    }

    def key(row: dict[str, Any]) -> tuple[int, ...]:
        return tuple(
            order.index(row[column]) if row.get(column) in order else len(order)
            for column, order in orders.items()
        )

    return sorted(rows, key=key)


def text(value: float) -> str:
    """A number as tables show it: four digits, a true minus sign, a dash for none."""
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    if size and (size >= 1e6 or size < 1e-3):
        shown = f"{value:.2e}"
    elif size >= 1000:
        shown = f"{value:,.0f}"
    else:
        shown = f"{value:.4g}"
    return shown.replace("-", "−")


def _interval(low: float, high: float) -> str:
    if not (math.isfinite(low) and math.isfinite(high)):
        return "–"
    return f"{text(low)} to {text(high)}"


def _p(value: float) -> str:
    return "–" if not math.isfinite(value) else f"{value:.2g}"
