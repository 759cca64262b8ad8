"""Differences between runs that share task and seed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from snrl.studies.statistics.aggregates import Scores, checked, mean, run_weights
from snrl.studies.statistics.bootstrap import RESAMPLES, bounds

# All assignments of signs are gone through for up to this many pairs: 65,536 of them.
_EXACT_PAIRS = 16
_RANDOM_FLIPS = 100_000


@dataclass(frozen=True)
class PairedDifference:
    """The difference between two ways to train, from runs with the same task and seed.

    Attributes:
        estimate: Mean over tasks of the mean difference over their pairs.
        low: Lower end of the interval; NaN if no task has more than one pair.
        high: Upper end; NaN likewise.
        p_value: Two-sided, of the sign-flip test.
        smallest_p: The smallest p-value that so many pairs allow.
        pairs: Number of pairs, over all tasks.
        confidence: Nominal coverage, in (0, 1).
        resamples: Number of bootstrap samples.
    """

    estimate: float
    low: float
    high: float
    p_value: float
    smallest_p: float
    pairs: int
    confidence: float
    resamples: int


def paired_difference(
    scores: ArrayLike,
    baseline: ArrayLike,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairedDifference:
    """Compare runs with those of a baseline that have the same seed.

    A pair shares what the seed decides (first weights, start states, exploration noise), so that
    its difference can be less noisy than the runs are. Pairs are drawn with replacement within each
    task for the interval. The test is Fisher's (1935): if the two did not differ, each difference
    might as well have had the other sign; the p-value is the share of all assignments of signs
    under which the mean is at least as far from 0. It is exact for up to 16 pairs, and by 100,000
    random assignments beyond. ``n`` pairs give no p below ``2 / 2^n``: 0.0625 for 5.

    Args:
        scores: Shape ``(n_seeds, n_tasks)``; NaN for a missing run. Not modified.
        baseline: The same of the baseline, row by row the same seeds.
        confidence: Nominal coverage, in (0, 1).
        resamples: Number of bootstrap samples.
        seed: The same seed gives the same interval.

    Returns:
        Of the pairs that are complete; NaN if there are none.

    Raises:
        ValueError: If the shapes differ.
    """
    ours, theirs = checked(scores), checked(baseline)
    if ours.shape != theirs.shape or ours.ndim != 2:
        raise ValueError(
            "scores and baseline must have the same shape (n_seeds, n_tasks), "
            f"got {ours.shape} and {theirs.shape}"
        )
    return paired_differences((ours - theirs)[..., None], confidence, resamples, seed)[0]


def paired_differences(
    differences: Scores, confidence: float, resamples: int, seed: int
) -> list[PairedDifference]:
    """Do as :func:`paired_difference` for several measures of the same pairs.

    Args:
        differences: Shape ``(n_seeds, n_tasks, n_measures)``; NaN for a pair that is not complete,
            in all measures alike. Not modified.
        confidence: Nominal coverage, in (0, 1).
        resamples: Number of bootstrap samples.
        seed: Of the draws.

    Returns:
        One for each measure.
    """
    values = np.moveaxis(differences, -1, 0)
    estimates = mean(values)
    low, high = bounds(values, mean, confidence, resamples, seed)
    weighted = (run_weights(values) * values)[:, ~np.isnan(values[0])]
    p_values = _sign_flip(weighted, seed)
    pairs = weighted.shape[1]
    smallest = _smallest_p(pairs)
    return [
        PairedDifference(
            float(estimates[i]),
            float(low[i]),
            float(high[i]),
            float(p_values[i]),
            smallest,
            pairs,
            confidence,
            resamples,
        )
        for i in range(len(values))
    ]


def holm(p_values: ArrayLike) -> Scores:
    """Correct p-values for their number (Holm 1979): holds whatever their dependence.

    Args:
        p_values: Shape ``(n,)``; a NaN is no comparison, and stays NaN. Not modified.

    Returns:
        The adjusted p-values: those at most ``a`` can be rejected together, with a probability of
        at most ``a`` that one is rejected wrongly.
    """
    values = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(values.shape, np.nan)
    known = np.flatnonzero(~np.isnan(values))
    order = known[values[known].argsort()]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    return adjusted


def _sign_flip(weighted: Scores, seed: int) -> Scores:
    """Two-sided p-values of the hypothesis that signs are arbitrary; ``(n_measures, n_pairs)``."""
    measures, pairs = weighted.shape
    if not pairs:
        return np.full(measures, np.nan)
    signs = _signs(pairs, seed)
    observed = np.abs(weighted.sum(-1))
    # Sums of the same numbers in another order are taken for equal.
    least = observed - 1e-12 * np.abs(weighted).sum(-1)
    if pairs <= _EXACT_PAIRS:
        return np.asarray((np.abs(weighted @ signs) >= least[:, None]).mean(-1))
    reached = (np.abs(weighted @ signs) >= least[:, None]).sum(-1)
    return np.asarray((1 + reached) / (1 + _RANDOM_FLIPS))


def _signs(pairs: int, seed: int) -> NDArray[np.float64]:
    """All assignments of signs, or random ones, shape ``(n_pairs, n_assignments)``.

    The first sign is held: turning all signs changes no absolute value.
    """
    if pairs <= _EXACT_PAIRS:
        numbers = np.arange(2 ** (pairs - 1))
        bits = (numbers >> np.arange(pairs)[:, None]) & 1
        return np.where(bits, -1.0, 1.0)
    generator = np.random.default_rng(seed)
    return generator.choice([-1.0, 1.0], (pairs, _RANDOM_FLIPS))


def _smallest_p(pairs: int) -> float:
    if not pairs:
        return float("nan")
    return 2.0 ** (1 - pairs) if pairs <= _EXACT_PAIRS else 1 / (1 + _RANDOM_FLIPS)
