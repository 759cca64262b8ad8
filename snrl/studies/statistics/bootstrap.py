"""Stratified bootstrap intervals (Agarwal et al. 2021; percentile method, Efron 1979)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from snrl.studies.statistics.aggregates import Scores, checked, mean

Statistic = Callable[[Scores], Scores]

RESAMPLES = 10_000
# Below so many seeds an interval means little: of a few values, few different samples can be drawn.
FEW = 5

# Draws are made in blocks of this many resamples, whatever is computed from them, so that the same
# seed gives the same draws.
_BLOCK = 500
# Numbers that are held at once.
_NUMBERS = 4_000_000


@dataclass(frozen=True)
class Options:
    """How the intervals are made.

    Attributes:
        confidence: Nominal coverage, in (0, 1).
        resamples: Number of bootstrap samples.
        seed: Of the bootstrap: the same seed gives the same tables.
    """

    confidence: float = 0.95
    resamples: int = RESAMPLES
    seed: int = 0


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval.

    Attributes:
        estimate: The statistic of all runs.
        low: Lower end; NaN if no task has more than one run.
        high: Upper end; NaN likewise.
        confidence: Nominal coverage, in (0, 1).
        resamples: Number of bootstrap samples.
    """

    estimate: float
    low: float
    high: float
    confidence: float
    resamples: int


@dataclass(frozen=True)
class Band:
    """Estimates along an axis, with their intervals, each for itself (not for all at once).

    Attributes:
        at: Thresholds or environment steps, shape ``(n_points,)``.
        estimate: Shape ``(n_points,)``.
        low: Lower ends, shape ``(n_points,)``.
        high: Upper ends, shape ``(n_points,)``.
        confidence: Nominal coverage of each interval, in (0, 1).
        resamples: Number of bootstrap samples.
    """

    at: Scores
    estimate: Scores
    low: Scores
    high: Scores
    confidence: float
    resamples: int


def interval(
    scores: ArrayLike,
    statistic: Statistic,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Estimate a statistic with its stratified bootstrap percentile interval.

    Runs are drawn with replacement within each task, as many as it has. Of few runs the interval is
    too short: with 5, one of nominally 95% holds the mean of a normal distribution in about 83% of
    the cases.

    Args:
        scores: Shape ``(n_runs, n_tasks)``; NaN for a missing run. Not modified.
        statistic: Reduces the last two axes, as those of ``aggregates`` do.
        confidence: Nominal coverage, in (0, 1).
        resamples: Number of bootstrap samples.
        seed: The same seed gives the same interval.

    Returns:
        The estimate and its interval.

    Raises:
        ValueError: If the scores have another shape or infinities in them.
    """
    values = checked(scores)
    if values.ndim != 2:
        raise ValueError(f"scores must have shape (n_runs, n_tasks), got {values.shape}")
    low, high = bounds(values[None], statistic, confidence, resamples, seed)
    estimate = float(statistic(values))
    return Interval(estimate, float(low[0]), float(high[0]), confidence, resamples)


def band(
    at: ArrayLike,
    scores: ArrayLike,
    statistic: Statistic,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Band:
    """Do as :func:`interval` for each of several points, whose runs are drawn together.

    Args:
        at: Where the points are, shape ``(n_points,)``.
        scores: Shape ``(n_runs, n_tasks, n_points)``; NaN where a run is missing. Not modified.
        statistic: Reduces the last two axes.
        confidence: Nominal coverage of each interval, in (0, 1).
        resamples: Number of bootstrap samples.
        seed: The same seed gives the same intervals.

    Returns:
        The estimates and their intervals.

    Raises:
        ValueError: If a shape does not fit.
    """
    places = np.asarray(at, dtype=np.float64)
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 3 or places.shape != values.shape[2:]:
        raise ValueError(
            "scores must have shape (n_runs, n_tasks, n_points) with n_points = "
            f"{places.size}, got {values.shape}"
        )
    values = checked(np.moveaxis(values, -1, 0))
    low, high = bounds(values, statistic, confidence, resamples, seed)
    return Band(places, statistic(values), low, high, confidence, resamples)


def bounds(
    values: Scores, statistic: Statistic, confidence: float, resamples: int, seed: int
) -> tuple[Scores, Scores]:
    """Give the ends of the interval at each point.

    Args:
        values: Shape ``(n_points, n_runs, n_tasks)``. A run is drawn or not for all points
            together; it is there if it is there at any point.
        statistic: Reduces the last two axes.
        confidence: Nominal coverage, in (0, 1).
        resamples: Number of bootstrap samples.
        seed: Of the draws.

    Returns:
        Lower and upper ends, each of shape ``(n_points,)``; NaN if no task has more than one run.

    Raises:
        ValueError: If the confidence is not in (0, 1), or there are no resamples.
    """
    check_options(confidence, resamples)
    points, _, tasks = values.shape
    there = [np.flatnonzero(~np.isnan(values[:, :, task]).all(0)) for task in range(tasks)]
    most = max(len(runs) for runs in there)
    all_there = int(np.isnan(values).sum()) == points * (
        values[0].size - sum(len(runs) for runs in there)
    )
    if most < 2:
        nothing = np.full(points, np.nan)
        return nothing, nothing.copy()
    # The index after the last run gives NaN, and fills up tasks that have fewer runs.
    padded = np.concatenate([values, np.full((points, 1, tasks), np.nan)], axis=1)
    generator = np.random.default_rng(seed)
    found = np.empty((points, resamples))
    step = max(1, _NUMBERS // (_BLOCK * most * tasks))
    # A mean is linear in how often each run is drawn, which is one product for all points.
    linear = statistic is mean and all_there
    for start in range(0, resamples, _BLOCK):
        drawn = np.full((_BLOCK, most, tasks), values.shape[1])
        for task, runs in enumerate(there):
            if len(runs):
                picks = generator.integers(0, len(runs), (_BLOCK, len(runs)))
                drawn[:, : len(runs), task] = runs[picks]
        drawn = drawn[: resamples - start]
        if linear:
            found[:, start : start + len(drawn)] = _means(padded, drawn, there)
            continue
        for first in range(0, points, step):
            sample = padded[first : first + step][:, drawn, np.arange(tasks)]
            found[first : first + step, start : start + len(drawn)] = statistic(sample)
    low, high = percentiles(found, confidence)
    return low, high


def _means(padded: Scores, drawn: NDArray[np.intp], there: list[NDArray[np.intp]]) -> Scores:
    """The mean of each point in each resample, shape ``(n_points, n_resamples)``."""
    tasks = [task for task, runs in enumerate(there) if len(runs)]
    total: Scores = np.zeros((len(padded), len(drawn)))
    for task in tasks:
        number = len(there[task])
        rows = np.arange(len(drawn))[:, None] * padded.shape[1]
        picks = (rows + drawn[:, :number, task]).ravel()
        often = np.bincount(picks, minlength=len(drawn) * padded.shape[1])
        often = often.reshape(len(drawn), -1)[:, there[task]]
        total += padded[:, there[task], task] @ (often.T / (number * len(tasks)))
    return total


def percentiles(found: Scores, confidence: float) -> tuple[Scores, Scores]:
    """Give the ends that leave out the same share of the last axis at either side."""
    outside = 50 * (1 - confidence)
    low, high = np.percentile(found, [outside, 100 - outside], axis=-1)
    return low, high


def check_options(confidence: float, resamples: int) -> None:
    """Refuse a confidence outside (0, 1) and fewer than one resample.

    Raises:
        ValueError: If one of them is out of its range.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
