"""What is drawn of the scores at the end, on the page and in the figures alike."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from snrl.studies.panels import RETURN
from snrl.studies.report.comparison import MAIN, Comparison, ordered
from snrl.studies.report.payload import number, numbers
from snrl.studies.statistics import Band, normalize, references, score_matrix
from snrl.studies.statistics.curves import performance_profile, sample_efficiency
from snrl.studies.statistics.scores import curve_array
from snrl.studies.statistics.words import HOW_WORDS

if TYPE_CHECKING:
    import pandas as pd

_THRESHOLDS, _POINTS = 101, 50


class Drawing:
    """Plots of a comparison, as the page's script and the figures read them.

    Args:
        comparison: What is drawn.
    """

    def __init__(self, comparison: Comparison) -> None:
        """Keep it."""
        self.subject = comparison.subject
        self.summary = comparison.summary
        self.how = comparison.how
        self._ranges = references(self.subject.table.study)
        if any(task not in self._ranges for task in self.subject.tasks):
            self._ranges = {}

    def drawn(self) -> dict[str, Any]:
        """All of them: ``summaries`` and, by measure, ``paired`` differences."""
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
                for row in ordered(summary.aggregates, self.subject)
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
                for row in ordered(summary.cells, self.subject, measures=[RETURN])
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
                for row in ordered(summary.improvement, self.subject, measures=[RETURN])
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
                    rows.append(_curve(place, band))
                yield {"task": "" if self._ranges else tasks[0], "algo": algo, "rows": rows}

    def _matrix(self, algo: str, variant: str, tasks: Sequence[str]) -> NDArray[np.float64] | None:
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
        grid = np.linspace(1 / _POINTS, 1.0, _POINTS)
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
                    rows.append(_curve(place, band))
            if rows:
                yield {"task": "", "algo": algo, "rows": rows}

    def _paired(self, measure: str) -> list[dict[str, Any]]:
        scores = self.summary.scores
        scores = scores[(scores["measure"] == measure) & scores["seed"].notna()]
        found = []
        for row in ordered(self.summary.differences, self.subject, measures=[measure]):
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


def _curve(place: int, band: Band) -> dict[str, Any]:
    found = {"v": place, "x": numbers(band.at), "y": numbers(band.estimate)}
    if np.isfinite(band.low).any():
        found |= {"lo": numbers(band.low), "hi": numbers(band.high)}
    return found
