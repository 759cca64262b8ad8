"""What a report says of the scores at the end: verdicts, tables, and what is drawn of them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from snrl.studies.panels import BIAS, RETURN
from snrl.studies.report.payload import number, numbers
from snrl.studies.report.subject import Subject
from snrl.studies.report.tables import Text
from snrl.studies.statistics import Summary, normalize, references, score_matrix
from snrl.studies.statistics.curves import performance_profile, sample_efficiency
from snrl.studies.statistics.scores import curve_array
from snrl.studies.statistics.words import HOW_WORDS

if TYPE_CHECKING:
    import pandas as pd

# Of these the page shows tables, paired differences and verdicts without being asked.
MAIN = (RETURN, BIAS)
_THRESHOLDS, _POINTS = 101, 51
# What a comparison can say, for the eye: never by colour alone.
KINDS: Mapping[str, dict[str, str]] = {
    "better": {"sign": "▲", "word": "established, for the better"},
    "worse": {"sign": "▼", "word": "established, for the worse"},
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
        self._ranges = references(subject.table.study)
        if any(task not in self._ranges for task in subject.tasks):
            self._ranges = {}

    def verdicts(self) -> dict[str, list[dict[str, Any]]]:
        """A sentence for each comparison, and what they say at a glance.

        Returns:
            ``main`` and ``others``: ``task``, ``algo``, ``measure``, ``text``, and the ``kind``,
            ``sign`` and ``word`` of :data:`KINDS`. ``glances``, one for each main measure:
            ``caption``, ``head`` (variants), ``rows`` of ``task``, ``algo`` and ``cells``.
        """
        order = [*MAIN, *(measure for panel in self.subject.panels for measure in panel.measures)]
        rows = _ordered(self.summary.differences, self.subject, list(dict.fromkeys(order)))
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
            for row in _ordered(self.summary.cells, self.subject, measures=[measure])
        ]
        head = ("Task", "Algorithm", "Variant", "Seeds", "IQM", self._level, "Mean", "Std")
        name = "returns" if measure == RETURN else "bias"
        what = "Return" if measure == RETURN else "Bias of the values"
        head += ("Diverged",) if measure == RETURN else ()
        return Text(f"{name}", f"{what} {HOW_WORDS[self.how]}, over seeds", head, rows, 3)

    def _aggregates(self) -> Text:
        found: dict[tuple[str, str], dict[str, str]] = {}
        for row in _ordered(self.summary.aggregates, self.subject):
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
            for row in _ordered(self.summary.differences, self.subject, measures=list(MAIN))
        ]
        head = (
            "Task",
            "Algorithm",
            "Variant",
            "Measure",
            "Pairs",
            "Difference",
            self._level,
            "p",
            "p, Holm",
        )
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
            for row in _ordered(self.summary.improvement, self.subject, measures=[RETURN])
        ]
        caption = f"Probability that a run has a higher return than one of {self.subject.baseline}"
        return Text(
            "improvement", caption, ("Algorithm", "Variant", "Probability", self._level), rows, 2
        )

    @property
    def _level(self) -> str:
        return f"{self.summary.options.confidence:.0%} interval"

    def drawn(self) -> dict[str, Any]:
        """Summaries and paired differences, as the page's script and the figures read them."""
        return {
            "summaries": [summary for summary in self._summaries() if summary["parts"]],
            "paired": {measure: pairs for measure in MAIN if (pairs := self._paired(measure))},
        }

    def _summaries(self) -> Iterator[dict[str, Any]]:
        summary, baseline = self.summary, self.subject.baseline
        when = HOW_WORDS[self.how]
        yield {
            "name": "aggregates",
            "kind": "rows",
            "title": "Normalised return over all tasks",
            "text": f"Interquartile mean {when}, of returns normalised by the study's references.",
            "label": "IQM of normalised returns",
            "parts": self._parts(
                row | {"y": row["estimate"], "task": ""}
                for row in _ordered(summary.aggregates, self.subject)
                if row["statistic"] == "iqm"
            ),
        }
        yield {
            "name": "returns",
            "kind": "rows",
            "title": "Return at the end",
            "text": f"Interquartile mean over seeds {when}, with its interval.",
            "label": "IQM of the return",
            "parts": self._parts(
                row | {"y": row["iqm"], "low": row["iqm_low"], "high": row["iqm_high"]}
                for row in _ordered(summary.cells, self.subject, measures=[RETURN])
            ),
        }
        yield {
            "name": "improvement",
            "kind": "rows",
            "title": f"Probability of improvement over {baseline}",
            "text": "How often a run of the variant has the higher return of two that are drawn at "
            "random, on the same task; 0.5 says nothing either way.",
            "label": "probability",
            "ideal": 0.5,
            "range": [-0.03, 1.03],
            "parts": self._parts(
                row | {"y": row["probability"], "task": ""}
                for row in _ordered(summary.improvement, self.subject, measures=[RETURN])
            ),
        }
        yield {
            "name": "profiles",
            "kind": "along",
            "title": "Performance profiles",
            "text": f"Share of runs whose return {when} exceeds the number on the x axis; higher "
            "is better, and curves that cross mean that neither is better throughout.",
            "x": "normalised return" if self._ranges else "return",
            "label": "share of runs above",
            "range": [-0.02, 1.03],
            "parts": list(self._profiles()),
        }
        yield {
            "name": "efficiency",
            "kind": "along",
            "title": "Sample efficiency",
            "text": "Interquartile mean of normalised returns over tasks and seeds along training.",
            "x": "share of the budget",
            "format": ".0%",
            "label": "IQM of normalised returns",
            "parts": list(self._efficiency()),
        }

    def _parts(self, rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows of intervals by task and algorithm."""
        parts: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in rows:
            interval = (number(row["low"]), number(row["high"]))
            whole = None not in interval
            parts.setdefault((row["task"], row["algo"]), []).append(
                {
                    "v": self.subject.variants.index(row["variant"]),
                    "y": number(row["y"]),
                    "lo": interval[0] if whole else None,
                    "hi": interval[1] if whole else None,
                }
            )
        return [{"task": task, "algo": algo, "rows": held} for (task, algo), held in parts.items()]

    def _profiles(self) -> Iterator[dict[str, Any]]:
        # Without references returns of several tasks share no axis.
        groups = [self.subject.tasks] if self._ranges else [(task,) for task in self.subject.tasks]
        for tasks in groups:
            for algo in self.subject.algos:
                matrices = {
                    variant: self._matrix(algo, variant, tasks) for variant in self.subject.variants
                }
                known = [m[np.isfinite(m)] for m in matrices.values() if m is not None]
                if not known:
                    continue
                every = np.concatenate(known)
                thresholds = np.linspace(every.min(), every.max(), _THRESHOLDS)
                rows = []
                for place, matrix in enumerate(matrices.values()):
                    if matrix is None:
                        continue
                    band = performance_profile(matrix, thresholds, seed=self.summary.options.seed)
                    rows.append(_curve(place, band.at, band))
                yield {"task": "" if self._ranges else tasks[0], "algo": algo, "rows": rows}

    def _matrix(
        self, algo: str, variant: str, tasks: Sequence[str]
    ) -> "np.ndarray[Any, np.dtype[np.float64]] | None":
        scores = self.summary.scores
        rows = scores[
            (scores["algo"] == algo)
            & (scores["variant"] == variant)
            & (scores["measure"] == RETURN)
            & scores["task"].isin(tasks)
        ]
        if rows.empty:
            return None
        matrix = score_matrix(rows, tasks, self.how)
        if not self._ranges:
            return matrix
        low, high = np.array([self._ranges[task] for task in tasks]).T
        return normalize(matrix, low, high)

    def _efficiency(self) -> Iterator[dict[str, Any]]:
        if not self._ranges:
            return
        grid = np.linspace(1 / (_POINTS - 1), 1.0, _POINTS - 1)
        for algo in self.subject.algos:
            rows = []
            for place, variant in enumerate(self.subject.variants):
                array = curve_array(
                    self.subject.table,
                    algo,
                    variant,
                    self.subject.tasks,
                    grid,
                    normalised=self._ranges,
                )
                known = np.isfinite(array).any((0, 1))
                if known.any():
                    band = sample_efficiency(
                        grid[known], array[..., known], seed=self.summary.options.seed
                    )
                    rows.append(_curve(place, band.at, band))
            if rows:
                yield {"task": "", "algo": algo, "rows": rows}

    def _paired(self, measure: str) -> list[dict[str, Any]]:
        scores = self.summary.scores
        scores = scores[(scores["measure"] == measure) & scores["seed"].notna()]
        found = []
        for row in _ordered(self.summary.differences, self.subject, measures=[measure]):
            if row["task"] not in self.subject.tasks or not row["pairs"]:
                continue
            cell = scores[(scores["task"] == row["task"]) & (scores["algo"] == row["algo"])]
            best = float(row["best"])
            distance = math.isfinite(best)
            of = {
                variant: _by_seed(cell[cell["variant"] == variant], self.how, best)
                for variant in (row["variant"], self.subject.baseline)
            }
            both = of[row["variant"]] - of[self.subject.baseline]
            both = both.dropna()
            whole = math.isfinite(row["low"])
            what = "|bias|" if distance else "return"
            found.append(
                {
                    "t": self.subject.tasks.index(row["task"]),
                    "a": self.subject.algos.index(row["algo"]),
                    "v": self.subject.variants.index(row["variant"]),
                    "s": [str(seed) for seed in both.index],
                    "d": numbers(both.to_numpy(float)),
                    "y": number(row["difference"]),
                    "lo": number(row["low"]) if whole else None,
                    "hi": number(row["high"]) if whole else None,
                    "label": f"{what}, minus {self.subject.baseline}",
                }
            )
        return found


def _by_seed(rows: "pd.DataFrame", how: str, best: float) -> "pd.Series[float]":
    values = rows.groupby("seed")[how].mean()
    return (values - best).abs() if math.isfinite(best) else values


def _curve(place: int, at: Any, band: Any) -> dict[str, Any]:
    found = {"v": place, "x": numbers(at), "y": numbers(band.estimate)}
    if np.isfinite(band.low).any():
        found |= {"lo": numbers(band.low), "hi": numbers(band.high)}
    return found


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


def _ordered(
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
