"""How steady the return is: within a run, and from seed to seed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

TOLERATED_FALL = 0.2


@dataclass(frozen=True)
class ReturnStability:
    """Of one run.

    Attributes:
        drawdown: Largest fall from the best evaluation so far to a later one, in units of return;
            0 if there is none.
        fallen_share: Share of the evaluations that lie below 80% of the best so far, in ``[0, 1]``:
            below ``b - 0.2 |b|``, for a best of ``b``.
    """

    drawdown: float
    fallen_share: float


@dataclass(frozen=True)
class SeedStability:
    """Of several runs that differ by their seed.

    Attributes:
        coefficient_of_variation: Standard deviation (divided by ``n - 1``) over ``|mean|``; NaN for
            one seed, or a mean of 0.
        worst_over_mean: Smallest return over the mean: 1 if all are the same; below 1 the worse the
            worst is, if the mean is positive, and above 1 if it is negative; NaN for a mean of 0.
    """

    coefficient_of_variation: float
    worst_over_mean: float


def return_stability(returns: ArrayLike) -> ReturnStability:
    """Measure how steadily the return of one run rose.

    "Below 80% of the best" is a fall by more than a fifth of its size, ``b - 0.2 |b|``, whatever
    the sign: of -100 it is below -120, where a plain ``0.8 b`` of -80 would count the best itself.
    Either way it depends on where the returns have their zero: near it, any fall is a large share.
    ``drawdown`` does not.

    Args:
        returns: Mean return of each evaluation, in order, shape ``(evaluations,)``. Not modified.

    Returns:
        The stability; NaN where a return is NaN.

    Raises:
        ValueError: If there are no evaluations.
    """
    values = _checked(returns)
    if not np.isfinite(values).all():
        return ReturnStability(float("nan"), float("nan"))
    best = np.maximum.accumulate(values)
    fallen = values < best - TOLERATED_FALL * np.abs(best)
    return ReturnStability(float((best - values).max()), float(fallen.mean()))


def seed_stability(returns: ArrayLike) -> SeedStability:
    """Measure how much the return depends on the seed.

    Args:
        returns: One return for each seed, the same statistic of each run, shape ``(seeds,)``. Not
            modified.

    Returns:
        The stability; NaN where a return is NaN.

    Raises:
        ValueError: If there are no seeds.
    """
    values = _checked(returns)
    mean = float(values.mean())
    nan = float("nan")
    if not np.isfinite(values).all() or mean == 0.0:
        return SeedStability(nan, nan)
    variation = float(values.std(ddof=1)) / abs(mean) if len(values) > 1 else nan
    return SeedStability(variation, float(values.min()) / mean)


def _checked(returns: ArrayLike) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    values = np.asarray(returns, dtype=np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"returns must have shape (n,) with n > 0, got {values.shape}")
    return values
