"""Whole curves: performance profiles, sample efficiency, areas."""

import numpy as np
from numpy.typing import ArrayLike

from snrl.studies.statistics.aggregates import Scores, checked, iqm, mean
from snrl.studies.statistics.bootstrap import Band, Statistic, band


def performance_profile(
    scores: ArrayLike,
    thresholds: ArrayLike,
    confidence: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Band:
    """Share of runs with a score above each threshold, a task counting as any other.

    The run-score distribution of Agarwal et al. 2021 (after Dolan & Moré 2002), with a stratified
    bootstrap percentile interval at each threshold, and rliable's number of resamples.

    Args:
        scores: Shape ``(n_runs, n_tasks)``, normalised; NaN for a missing run. Not modified.
        thresholds: Shape ``(n_thresholds,)``, in the scores' unit.
        confidence: Nominal coverage at each threshold, in (0, 1).
        resamples: Number of bootstrap samples.
        seed: The same seed gives the same intervals.

    Returns:
        The profile.

    Raises:
        ValueError: If a shape does not fit.
    """
    values = checked(scores)[..., None]
    taus = np.asarray(thresholds, dtype=np.float64)
    above = np.where(np.isnan(values), np.nan, (values > taus).astype(np.float64))
    return band(taus, above, mean, confidence, resamples, seed)


def sample_efficiency(
    timesteps: ArrayLike,
    curves: ArrayLike,
    statistic: Statistic = iqm,
    confidence: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Band:
    """A statistic along training, with its interval at each point (Agarwal et al. 2021).

    A run is drawn as a whole; rliable draws anew at each point, which gives the same intervals,
    since each is for its own point.

    Args:
        timesteps: Environment steps, shape ``(n_points,)``.
        curves: Shape ``(n_runs, n_tasks, n_points)``, normalised where there are several tasks; NaN
            where a run is missing. :func:`align` brings runs to common steps. Not modified.
        statistic: Reduces the last two axes.
        confidence: Nominal coverage at each point, in (0, 1).
        resamples: Number of bootstrap samples.
        seed: The same seed gives the same intervals.

    Returns:
        The curve.

    Raises:
        ValueError: If a shape does not fit.
    """
    return band(timesteps, curves, statistic, confidence, resamples, seed)


def align(timesteps: ArrayLike, values: ArrayLike, grid: ArrayLike) -> Scores:
    """Interpolate one run's measure linearly to given steps.

    Args:
        timesteps: Environment steps, increasing, shape ``(n,)``.
        values: Shape ``(n,)``; those that are not finite are left out.
        grid: Environment steps, shape ``(n_points,)``.

    Returns:
        Shape ``(n_points,)``; NaN outside the steps that were measured.
    """
    steps, found = (np.asarray(array, dtype=np.float64) for array in (timesteps, values))
    known = np.isfinite(found)
    if not known.any():
        return np.full(np.shape(grid), np.nan)
    return np.interp(
        np.asarray(grid, dtype=np.float64), steps[known], found[known], left=np.nan, right=np.nan
    )


def area(timesteps: ArrayLike, values: ArrayLike) -> float:
    """Area under a run's curve over its length: the mean level along training.

    Args:
        timesteps: Environment steps, increasing, shape ``(n,)``.
        values: Shape ``(n,)``; those that are not finite are left out.

    Returns:
        The area by the trapezoid rule over the steps between first and last, in the unit of the
        values; the value itself if there is one; NaN if there is none.
    """
    steps, found = (np.asarray(array, dtype=np.float64) for array in (timesteps, values))
    known = np.isfinite(found)
    steps, found = steps[known], found[known]
    if not found.size:
        return float("nan")
    span = float(steps[-1] - steps[0])
    return float(np.trapezoid(found, steps)) / span if span > 0 else float(found.mean())
