"""Point estimates over runs and tasks, as defined by Agarwal et al. 2021 (rliable).

Scores have shape ``(..., n_runs, n_tasks)``; the last two axes are reduced, any before them are
independent. A NaN is a run that is not there, so that tasks may have different numbers of runs: a
task counts as much as any other however many runs it has, and one without runs is left out. With
equally many runs per task, which is what rliable takes, the estimates are rliable's.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Scores = NDArray[np.float64]


def mean(scores: ArrayLike) -> Scores:
    """Mean over tasks of the mean over runs.

    Args:
        scores: Shape ``(..., n_runs, n_tasks)``; NaN for a missing run. Not modified.

    Returns:
        Shape ``(...)``; NaN where there is no run.
    """
    values = checked(scores)
    return _ratio(_weighted(values, run_weights(values)).sum((-2, -1)), _any(values))


def median(scores: ArrayLike) -> Scores:
    """Median over tasks of the mean over runs.

    Args:
        scores: Shape ``(..., n_runs, n_tasks)``; NaN for a missing run. Not modified.

    Returns:
        Shape ``(...)``; NaN where there is no run.
    """
    values = checked(scores)
    present = ~np.isnan(values)
    means = _ratio(np.where(present, values, 0.0).sum(-2), present.sum(-2))
    # NaN, for a task without runs, is sorted to the end.
    ordered, tasks = np.sort(means, axis=-1), present.any(-2).sum(-1)
    low, high = (np.maximum(tasks - 1, 0) // 2, tasks // 2)
    high = np.minimum(high, ordered.shape[-1] - 1)
    middle = [np.take_along_axis(ordered, at[..., None], -1)[..., 0] for at in (low, high)]
    return np.asarray((middle[0] + middle[1]) / 2)


def iqm(scores: ArrayLike) -> Scores:
    """Interquartile mean: the mean of what is left without the lowest and the highest quarter.

    Of ``n`` runs, ``floor(n / 4)`` are left out at either end, as in rliable. Where tasks have
    different numbers of runs, a run weighs ``1 / runs of its task``, and the same share of the
    weight is left out.

    Args:
        scores: Shape ``(..., n_runs, n_tasks)``; NaN for a missing run. Not modified.

    Returns:
        Shape ``(...)``; NaN where there is no run.
    """
    values = checked(scores)
    flat = values.reshape(*values.shape[:-2], -1)
    if not np.isnan(flat).any():
        cut = flat.shape[-1] // 4
        return np.asarray(np.sort(flat, axis=-1)[..., cut : flat.shape[-1] - cut].mean(-1))
    order = flat.argsort(axis=-1)
    weights = np.take_along_axis(run_weights(values).reshape(flat.shape), order, -1)
    upper = weights.cumsum(-1)
    number = (~np.isnan(flat)).sum(-1, keepdims=True)
    cut_share = _ratio(number // 4, number)
    inside = np.minimum(upper, 1 - cut_share) - np.maximum(upper - weights, cut_share)
    kept = np.where(weights > 0, np.maximum(inside, 0.0), 0.0)
    ordered = np.take_along_axis(flat, order, -1)
    return _ratio(_weighted(ordered, kept).sum(-1), kept.sum(-1))


def optimality_gap(scores: ArrayLike, gamma: float = 1.0) -> Scores:
    """Mean shortfall below ``gamma``: ``gamma - mean(min(score, gamma))``; less is better.

    Args:
        scores: Shape ``(..., n_runs, n_tasks)``; NaN for a missing run. Not modified.
        gamma: The score beyond which more counts for nothing, in the scores' unit.

    Returns:
        Shape ``(...)``; NaN where there is no run.
    """
    return np.asarray(gamma - mean(np.minimum(checked(scores), gamma)))


def checked(scores: ArrayLike) -> Scores:
    """Give scores as float64.

    Raises:
        ValueError: If they have fewer than two axes, no runs, no tasks, or an infinity in them.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim < 2 or not values.size:
        raise ValueError(f"scores must have shape (n_runs, n_tasks), got {values.shape}")
    if np.isinf(values).any():
        raise ValueError("scores must be finite, or NaN for a run that is not there")
    return values


def run_weights(values: Scores) -> Scores:
    """The weight of each run in a mean over tasks of means over runs; 0 for those not there."""
    present = ~np.isnan(values)
    runs = present.sum(-2, keepdims=True)
    tasks = (runs > 0).sum(-1, keepdims=True)
    return np.where(present, 1.0 / np.maximum(runs * tasks, 1), 0.0)


def _weighted(values: Scores, weights: Scores) -> Scores:
    return np.where(weights > 0, values, 0.0) * weights


def _any(values: Scores) -> NDArray[np.bool_]:
    return np.asarray(~np.isnan(values).all((-2, -1)))


def _ratio(numerator: ArrayLike, denominator: ArrayLike) -> Scores:
    """A quotient, NaN where the denominator is 0."""
    denominator = np.asarray(denominator, dtype=np.float64)
    return np.asarray(np.asarray(numerator) / np.where(denominator == 0, np.nan, denominator))
