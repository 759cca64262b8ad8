"""How far value estimates are from the returns that they estimate."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

MIN_SCALE = 10.0


@dataclass(frozen=True)
class EstimateErrors:
    """Errors ``e = Q(s, a) - G`` of value estimates along on-policy episodes.

    Attributes:
        bias_mean: Mean of ``e``, in units of return; above 0 is overestimation.
        bias_std: Standard deviation of ``e`` over the states (divided by ``n``, as by numpy). It
            holds the spread of the returns themselves, where policy or task are random.
        bias_mean_normalised: ``bias_mean / scale``.
        bias_std_normalised: ``bias_std / scale``.
        scale: ``max(|mean return|, 10)``.
        bias_standard_error: Standard error of ``bias_mean``, with any dependence of the states
            within a cluster allowed for; NaN with fewer than two clusters.
        overestimation_rate: Share of states with ``Q > G``, in ``[0, 1]``.
        absolute_discrepancy: Mean of ``|e|``, in units of return.
        rank_correlation: Spearman's rank correlation of ``Q`` and ``G``, in ``[-1, 1]``; ties have
            their mean rank; NaN where either is constant.
    """

    bias_mean: float
    bias_std: float
    bias_mean_normalised: float
    bias_std_normalised: float
    scale: float
    bias_standard_error: float
    overestimation_rate: float
    absolute_discrepancy: float
    rank_correlation: float


def estimate_errors(
    q: ArrayLike, returns: ArrayLike, *, clusters: ArrayLike | None = None
) -> EstimateErrors:
    """Compare value estimates with returns.

    Mean and standard deviation of the bias, and their normalisation, follow Chen et al. 2021
    (REDQ, section 3), where the bias is divided by ``|E[G]|``. Their code divides by
    ``max(|G|, 10)`` state by state, which weighs states unevenly; here one scale, from the mean,
    serves all.

    Args:
        q: Estimates, shape ``(n,)``, computed with in float64. Not modified.
        returns: Monte-Carlo returns of the same states and actions, shape ``(n,)``. Not modified.
        clusters: The episode of each state, shape ``(n,)``, any labels: states of one episode
            share its rewards, so they are not independent. None takes all states as independent.

    Returns:
        The errors. Values that are not finite carry through, to NaN or infinity.

    Raises:
        ValueError: If there are no states or the shapes differ.
    """
    q, returns = np.asarray(q, dtype=np.float64), np.asarray(returns, dtype=np.float64)
    labels = np.arange(len(q)) if clusters is None else np.asarray(clusters)
    if q.ndim != 1 or not q.size or not q.shape == returns.shape == labels.shape:
        raise ValueError(
            "q, returns and clusters must be of one shape (n,) with n > 0, "
            f"got {q.shape}, {returns.shape} and {labels.shape}"
        )
    with np.errstate(invalid="ignore", over="ignore"):
        errors = q - returns
        mean, std = float(errors.mean()), float(errors.std())
        scale = float(np.maximum(abs(returns.mean()), MIN_SCALE))
        return EstimateErrors(
            bias_mean=mean,
            bias_std=std,
            bias_mean_normalised=mean / scale,
            bias_std_normalised=std / scale,
            scale=scale,
            bias_standard_error=_clustered_standard_error(errors, labels),
            overestimation_rate=_overestimation_rate(errors),
            absolute_discrepancy=float(np.abs(errors).mean()),
            rank_correlation=rank_correlation(q, returns),
        )


def rank_correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Compute Spearman's rank correlation: Pearson's of the ranks, ties with their mean rank.

    Args:
        x: Shape ``(n,)``. Not modified.
        y: Shape ``(n,)``. Not modified.

    Returns:
        In ``[-1, 1]``; NaN where either is constant or holds a NaN.
    """
    if np.isnan(x).any() or np.isnan(y).any():
        return float("nan")
    # Centred, the ranks are whole or half numbers, so a constant is exactly 0.
    a, b = _ranks(x) - (len(x) + 1) / 2, _ranks(y) - (len(y) + 1) / 2
    norm = np.sqrt((a @ a) * (b @ b))
    return float(np.clip((a @ b) / norm, -1.0, 1.0)) if norm > 0 else float("nan")


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[which]
    return ranks


def _overestimation_rate(errors: NDArray[np.float64]) -> float:
    return float("nan") if np.isnan(errors).any() else float((errors > 0).mean())


def _clustered_standard_error(errors: NDArray[np.float64], labels: NDArray[np.generic]) -> float:
    """The sandwich estimator of Liang & Zeger 1986 for a mean, times ``C/(C-1)``."""
    _, which = np.unique(labels, return_inverse=True)
    sums = np.bincount(which, weights=errors - errors.mean())
    if len(sums) < 2:
        return float("nan")
    return float(np.sqrt(len(sums) / (len(sums) - 1) * (sums @ sums)) / len(errors))
