"""The probability that one of two ways to train does better than the other."""

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from snrl.studies.statistics.aggregates import Scores, checked
from snrl.studies.statistics.bootstrap import (
    RESAMPLES,
    Interval,
    check_options,
    percentiles,
)


def probability_of_improvement(
    x: ArrayLike,
    y: ArrayLike,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Probability that a run of ``x`` scores higher than one of ``y`` on the same task.

    Mean over tasks of the Mann-Whitney statistic over ``n_x n_y``, ties counting one half (Agarwal
    et al. 2021); 0.5 says nothing either way. Runs of ``x`` and ``y`` are drawn independently, so
    that common seeds are not made use of; :func:`paired_difference` does.

    Args:
        x: Shape ``(n_runs, n_tasks)``; NaN for a missing run. Not modified.
        y: The same of the other, for the same tasks; the number of runs may differ.
        confidence: Nominal coverage, in (0, 1).
        resamples: Number of bootstrap samples.
        seed: The same seed gives the same interval.

    Returns:
        The probability and its stratified bootstrap percentile interval, over the tasks that both
        have runs of; NaN if there are none.

    Raises:
        ValueError: If the shapes do not fit.
    """
    check_options(confidence, resamples)
    left, right = checked(x), checked(y)
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
        raise ValueError(
            "x and y must have shapes (n_runs, n_tasks) with the same tasks, "
            f"got {left.shape} and {right.shape}"
        )
    wins = [
        (ours[:, None] > theirs) + 0.5 * (ours[:, None] == theirs)
        for ours, theirs in (
            (ours[~np.isnan(ours)], theirs[~np.isnan(theirs)])
            for ours, theirs in zip(left.T, right.T, strict=True)
        )
        if ours.size and theirs.size
    ]
    if not wins:
        return Interval(np.nan, np.nan, np.nan, confidence, resamples)
    estimate = float(np.mean([won.mean() for won in wins]))
    if all(won.size == 1 for won in wins):
        return Interval(estimate, np.nan, np.nan, confidence, resamples)
    drawn = _draws(tuple(won.shape for won in wins), resamples, seed)
    samples = [
        ((of_x @ won) * of_y).sum(-1) / won.size
        for won, (of_x, of_y) in zip(wins, drawn, strict=True)
    ]
    low, high = percentiles(np.mean(samples, axis=0), confidence)
    return Interval(estimate, float(low), float(high), confidence, resamples)


@lru_cache(maxsize=4)
def _draws(
    shapes: tuple[tuple[int, ...], ...], resamples: int, seed: int
) -> list[tuple[Scores, Scores]]:
    """How often each run of x and of y is in each resample, for each task.

    Kept, as many measures of the same runs are compared one after the other.
    """
    generator = np.random.default_rng(seed)

    def draw(number: int) -> Scores:
        return generator.multinomial(number, np.full(number, 1 / number), resamples).astype(float)

    return [(draw(of_x), draw(of_y)) for of_x, of_y in shapes]
