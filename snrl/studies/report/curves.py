"""Curves over seeds: a measure along training, its interquartile mean and its interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from snrl.studies.statistics.aggregates import iqm
from snrl.studies.statistics.curves import align, sample_efficiency

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

# More points than these tell a reader nothing, and make the page heavy.
_MAX_POINTS = 100


class Cell(NamedTuple):
    """What seeds are averaged over for."""

    task: str
    algo: str
    variant: str


@dataclass(frozen=True)
class Curve:
    """One measure of the runs of a cell.

    Attributes:
        cell: Whose runs.
        steps: Environment steps, shape ``(T,)``, increasing.
        runs: Names of the runs, ``n`` of them.
        seeds: Their seeds, as text.
        values: Shape ``(n, T)``; NaN where a run was not measured.
        estimate: Interquartile mean over those that were, shape ``(T,)``.
        low: Lower end of its interval, shape ``(T,)``; NaN where there is one run.
        high: Upper end.
    """

    cell: Cell
    steps: Floats
    runs: tuple[str, ...]
    seeds: tuple[str, ...]
    values: Floats
    estimate: Floats
    low: Floats
    high: Floats


def average(
    evaluations: "pd.DataFrame", measures: Sequence[str], resamples: int, seed: int
) -> dict[str, list[Curve]]:
    """Average measures over the seeds of each task, algorithm and variant.

    Runs are brought to common steps: those at which at least half of the cell's runs were
    measured. Where a run ends early, the curve goes on with the others.

    Args:
        evaluations: As :func:`snrl.studies.collect.collect` gives them.
        measures: Which ones; those that nobody logged are left out.
        resamples: Number of bootstrap samples.
        seed: Of the bootstrap.

    Returns:
        The curves by measure, in the order given. Numbers that are not finite count as not
        measured; the interval of each point is one of 95% for itself.
    """
    finite = np.isfinite(evaluations["value"].to_numpy())
    wanted = evaluations[evaluations["measure"].isin(list(measures)).to_numpy() & finite]
    found: dict[str, list[Curve]] = {measure: [] for measure in measures}
    for names, rows in wanted.groupby(["task", "algo", "variant"], observed=True, sort=False):
        cell = Cell(*(str(name) for name in names))
        for measure, curve in _cell(cell, rows, resamples, seed):
            found[measure].append(curve)
    return {measure: group for measure, group in found.items() if group}


def _cell(cell: Cell, rows: "pd.DataFrame", resamples: int, seed: int) -> list[tuple[str, Curve]]:
    """All measures of a cell at once, so that its runs are drawn once for all of them."""
    gathered = []
    for measure, logged in rows.groupby("measure", observed=True):
        series = {
            (str(run), _text(group["seed"].iloc[0])): (
                group["timesteps"].to_numpy(np.float64),
                group["value"].to_numpy(np.float64),
            )
            for run, group in logged.groupby("run", observed=True)
        }
        grid = _grid([steps for steps, _ in series.values()])
        values = np.stack([align(*_increasing(*found), grid) for found in series.values()])
        gathered.append((str(measure), tuple(series), grid, values))
    every = sorted({run for _, runs, _, _ in gathered for run in runs})
    scores = np.full((len(every), 1, sum(len(grid) for _, _, grid, _ in gathered)), np.nan)
    end = 0
    for _, runs, grid, values in gathered:
        start, end = end, end + len(grid)
        scores[[every.index(run) for run in runs], 0, start:end] = values
    band = sample_efficiency(np.arange(end), scores, iqm, resamples=resamples, seed=seed)
    curves = []
    end = 0
    for measure, runs, grid, values in gathered:
        start, end = end, end + len(grid)
        low, high = band.low[start:end], band.high[start:end]
        # One run at a point has no interval, however many the cell has elsewhere.
        alone = np.isfinite(values).sum(0) < 2
        curves.append(
            (
                measure,
                Curve(
                    cell,
                    grid,
                    tuple(run for run, _ in runs),
                    tuple(number for _, number in runs),
                    values,
                    band.estimate[start:end],
                    np.where(alone, np.nan, low),
                    np.where(alone, np.nan, high),
                ),
            )
        )
    return curves


def _grid(steps: list[Floats]) -> Floats:
    """Steps at which at least half of the runs were measured, not too many."""
    every, counts = np.unique(
        np.concatenate([np.unique(each) for each in steps]), return_counts=True
    )
    grid = every[2 * counts >= len(steps)]
    longest = max(len(each) for each in steps)
    if len(grid) < min(longest, _MAX_POINTS) / 2:
        # Runs that were measured each at their own steps.
        start = max(each.min() for each in steps)
        grid = np.unique(np.linspace(start, every[-1], min(longest, _MAX_POINTS)).round())
    if len(grid) > _MAX_POINTS:
        grid = grid[np.linspace(0, len(grid) - 1, _MAX_POINTS).round().astype(int)]
    return np.asarray(grid)


def _increasing(steps: Floats, values: Floats) -> tuple[Floats, Floats]:
    """One value per step, the last that was logged, in order."""
    order = np.argsort(steps, kind="stable")
    steps, values = steps[order], values[order]
    last = np.append(steps[1:] != steps[:-1], True)
    return steps[last], values[last]


def _text(seed: object) -> str:
    return str(seed) if str(seed) != "<NA>" else "unknown"
