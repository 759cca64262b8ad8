"""What the page's script draws from: plain lists, short numbers, nothing twice."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from snrl.studies.panels import PANELS, RETURN, Panel, best, explained
from snrl.studies.report.curves import Cell, Curve, Floats
from snrl.studies.report.subject import Subject

UPDATES = "train/n_updates"
# A plot is at most some 1,000 pixels high.
_DIGITS = 5


def payload(
    subject: Subject, curves: Mapping[str, list[Curve]], more: Mapping[str, Any]
) -> dict[str, Any]:
    """Give everything the page's script needs.

    Args:
        subject: What the report is about.
        curves: By measure.
        more: Summaries and paired differences, as the script reads them.

    Returns:
        A mapping that JSON can hold.
    """
    places = _Places(subject)
    drawn = {measure: group for measure, group in curves.items() if measure != UPDATES}
    every = [curve for group in drawn.values() for curve in group]
    return {
        "tasks": subject.tasks,
        "algos": subject.algos,
        "baseline": subject.baseline,
        "variants": [
            {"name": name, "colour": style.colour, "dash": style.dash}
            for name, style in subject.styles.items()
        ],
        "first": RETURN if RETURN in drawn else next(iter(drawn), None),
        "panels": [panel.measures[0] for panel in subject.panels],
        "measures": {measure: _measure(measure) for measure in drawn},
        "curves": {
            measure: [places.curve(curve) for curve in group] for measure, group in drawn.items()
        },
        "seeds": {
            measure: [line for curve in group for line in places.seeds(curve)]
            for measure, group in drawn.items()
        },
        # Filled while the curves were put in their places.
        "cells": places.cells,
        "grids": places.grids,
        "budgets": [
            max((curve.steps[-1] for curve in every if curve.cell.task == task), default=1.0)
            for task in subject.tasks
        ],
        "updates": _updates(curves.get(UPDATES, []), places),
        **more,
    }


class _Places:
    """Indices of cells and step grids, which many curves share."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self.cells: list[tuple[int, int, int]] = []
        self.grids: list[list[float | None]] = []
        self._cell_of: dict[Cell, int] = {}
        self._grid_of: dict[bytes, int] = {}

    def cell(self, cell: Cell) -> int:
        if cell not in self._cell_of:
            self._cell_of[cell] = len(self.cells)
            self.cells.append(
                (
                    self._subject.tasks.index(cell.task),
                    self._subject.algos.index(cell.algo),
                    self._subject.variants.index(cell.variant),
                )
            )
        return self._cell_of[cell]

    def grid(self, steps: Floats) -> int:
        key = steps.tobytes()
        if key not in self._grid_of:
            self._grid_of[key] = len(self.grids)
            self.grids.append(numbers(steps, 12))
        return self._grid_of[key]

    def curve(self, curve: Curve) -> dict[str, Any]:
        counts = np.isfinite(curve.values).sum(0)
        least, most = int(counts.min()), int(counts.max())
        found: dict[str, Any] = {
            "c": self.cell(curve.cell),
            "x": self.grid(curve.steps),
            "y": numbers(curve.estimate),
            "n": str(most) if least == most else f"{least} to {most}",
        }
        if np.isfinite(curve.low).any():
            found |= {"lo": numbers(curve.low), "hi": numbers(curve.high)}
        return found

    def seeds(self, curve: Curve) -> list[dict[str, Any]]:
        cell, grid = self.cell(curve.cell), self.grid(curve.steps)
        return [
            {"c": cell, "s": seed, "x": grid, "y": numbers(values)}
            for seed, values in zip(curve.seeds, curve.values, strict=True)
        ]


def numbers(values: Iterable[float], digits: int = _DIGITS) -> list[float | None]:
    """Round to a number of significant digits; what is not finite becomes null."""
    return [number(value, digits) for value in np.asarray(values, dtype=float).tolist()]


def number(value: float, digits: int = _DIGITS) -> float | None:
    """Round to a number of significant digits; None if it is not finite."""
    if not np.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded == int(rounded) and abs(rounded) < 2**53 else rounded


def _measure(measure: str) -> dict[str, Any]:
    """Texts of a measure: its panel's, or, beyond the panel's first, those of the registry."""
    panel = _PANEL_OF.get(measure)
    if panel is not None and panel.measures[0] == measure:
        return {
            "section": panel.section,
            "title": panel.title,
            "label": panel.label,
            "text": panel.text,
            "log": panel.log,
            "ideal": panel.best,
        }
    found = {name: key for names, key in explained() for name in names}.get(measure)
    formula = "" if found is None else found.formula.replace("`", "")
    healthy = "" if found is None else f" Healthy: {found.healthy}.".replace("`", "")
    return {
        "section": "Other measures" if panel is None else panel.section,
        "title": measure.partition("/")[2].replace("_", " "),
        "label": measure,
        "text": formula[:1].upper() + formula[1:] + "." + healthy if formula else "",
        "log": False,
        "ideal": best(measure),
    }


_PANEL_OF: Mapping[str, Panel] = {measure: panel for panel in PANELS for measure in panel.measures}


def _updates(counted: list[Curve], places: _Places) -> dict[str, float] | None:
    """Gradient steps per environment step of each cell, if they were logged."""
    rates = {
        str(places.cell(curve.cell)): float(f"{curve.estimate[-1] / curve.steps[-1]:.4g}")
        for curve in counted
        if curve.steps[-1] > 0 and np.isfinite(curve.estimate[-1])
    }
    return rates or None
