"""Discounted Monte-Carlo returns: what a value is an estimate of."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def discounted_returns(
    rewards: ArrayLike, gamma: float, *, final: ArrayLike = 0.0
) -> NDArray[np.float64]:
    """Compute ``G_t = r_t + γ G_{t+1}`` for every step of an episode.

    Args:
        rewards: ``r_t``, shape ``(T,)``, or ``(T, n)`` for ``n`` episodes of one length. Not
            modified. For a soft value, as SAC's, add :func:`entropy_terms` to them.
        gamma: Discount, in ``[0, 1]``.
        final: ``G_T``, the value of the state after the last step, a scalar or shape ``(n,)``: 0
            where the episode ended there. Where it was merely cut, 0 shortens ``G_t`` by
            ``γ^(T-t) V(s_T)``: pass an estimate of ``V(s_T)`` (a soft one with the entropy of the
            action in ``s_T``), whose own error then enters with that weight, or leave out the last
            :func:`tail_length` steps.

    Returns:
        ``G_t``, float64, the shape of ``rewards``, in units of reward.

    Raises:
        ValueError: If ``gamma`` is outside ``[0, 1]``.
    """
    _check_gamma(gamma)
    returns = np.asarray(rewards, dtype=np.float64)
    end = np.broadcast_to(np.asarray(final, dtype=np.float64), returns.shape[1:])[None]
    returns = np.concatenate((returns, end))
    # After k rounds each entry is the discounted sum of its next 2^k rewards: log T operations on
    # arrays instead of T on numbers, and no division by powers of γ that vanish.
    shift = 1
    while shift < len(returns):
        returns[:-shift] += gamma**shift * returns[shift:]
        shift *= 2
    return returns[:-1]


def entropy_terms(log_probs: ArrayLike, alpha: float, gamma: float) -> NDArray[np.float64]:
    """Compute what a step adds to the reward in a soft return: the entropy of the *next* action.

    SAC's ``Q(s_t, a_t) = r_t + Σ_{k≥1} γ^k (r_{t+k} - α log π(a_{t+k}|s_{t+k}))`` has no term for
    ``a_t`` itself, which is given; so step ``t`` brings ``-γ α log π(a_{t+1}|s_{t+1})`` (Haarnoja
    et al. 2018, eq. 2 and 3). The code of REDQ (Chen et al. 2021) has the same sum, but with a
    constant ``α`` of 0.2; the value that a critic with a learned ``α`` estimates is the one with
    the current ``α``.

    Args:
        log_probs: ``log π(a_t|s_t)`` of the actions taken, shape ``(T,)`` or ``(T, n)``. Not
            modified.
        alpha: The entropy coefficient.
        gamma: Discount, in ``[0, 1]``.

    Returns:
        float64, the shape of ``log_probs``, in units of reward; the last row is 0, as the entropy
        in ``s_T`` is part of ``V(s_T)``.

    Raises:
        ValueError: If ``gamma`` is outside ``[0, 1]``.
    """
    _check_gamma(gamma)
    logs = np.asarray(log_probs, dtype=np.float64)
    terms = np.zeros_like(logs)
    terms[:-1] = -gamma * alpha * logs[1:]
    return terms


def tail_length(gamma: float, tolerance: float) -> int:
    """Count the steps that must follow a state before a cut, for its return to be believed.

    What is cut off from rewards within ``±R`` is at most ``γ^n R/(1-γ)``: the share ``γ^n`` of the
    largest return there can be.

    Args:
        gamma: Discount, in ``[0, 1)``.
        tolerance: The largest share that may be cut off, in ``(0, 1]``.

    Returns:
        The smallest ``n`` with ``γ^n <= tolerance``. In an episode cut after ``T`` steps, the
        returns of the first ``T - n + 1`` states have at least that many rewards.

    Raises:
        ValueError: If ``gamma`` is outside ``[0, 1)``, where no length is enough, or ``tolerance``
            outside ``(0, 1]``.
    """
    if not 0.0 <= gamma < 1.0:
        raise ValueError(f"gamma must be in [0, 1) for a tail to fade, got {gamma}")
    if not 0.0 < tolerance <= 1.0:
        raise ValueError(f"tolerance must be in (0, 1], got {tolerance}")
    if gamma == 0.0:
        return int(tolerance < 1.0)
    n = math.ceil(math.log(tolerance) / math.log(gamma))
    # Where the quotient should be whole, rounding may have taken it to either side.
    while n > 0 and gamma ** (n - 1) <= tolerance:
        n -= 1
    while gamma**n > tolerance:
        n += 1
    return n


def _check_gamma(gamma: float) -> None:
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma must be in [0, 1], got {gamma}")
