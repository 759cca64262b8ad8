"""When values have left what rewards allow: divergence, and the bound that tells."""

import math


def value_bound(
    reward_min: float,
    reward_max: float,
    gamma: float,
    *,
    entropy_min: float = 0.0,
    entropy_max: float = 0.0,
) -> float:
    """Bound ``|Q|`` for any policy, from the rewards and the discount.

    ``|Q(s, a)| <= max |r| / (1-γ)``, and for a soft value ``γ/(1-γ) max |α H|`` more, as only later
    actions have an entropy term. It holds whether or not episodes end.

    Args:
        reward_min: Smallest reward, as the critic is trained on it (normalised, if it is).
        reward_max: Largest reward. Those seen so far will do, if the bound is computed anew.
        gamma: Discount, in ``[0, 1]``.
        entropy_min: Smallest ``-α log π``, in units of reward; 0 for a value that is not soft.
        entropy_max: Largest ``-α log π``.

    Returns:
        The bound, in units of return; infinite for ``γ = 1``.

    Raises:
        ValueError: If ``gamma`` is outside ``[0, 1]``, or a smallest above a largest.
    """
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma must be in [0, 1], got {gamma}")
    if reward_min > reward_max or entropy_min > entropy_max:
        raise ValueError(
            f"smallest above largest: rewards {reward_min} to {reward_max}, "
            f"entropy terms {entropy_min} to {entropy_max}"
        )
    if gamma == 1.0:
        return math.inf
    reward = max(abs(reward_min), abs(reward_max))
    entropy = max(abs(entropy_min), abs(entropy_max))
    return (reward + gamma * entropy) / (1 - gamma)


def squared_loss_bound(bound: float, n_critics: int) -> float:
    """Bound the critic loss of SB3 as long as values and targets keep to their bound.

    Then no error exceeds ``2 B``, and the sum over the critics of their mean square errors (of
    which SAC takes half, and whose Huber loss TQC takes, which is less) is at most ``4 B²`` each.

    Args:
        bound: ``B``, from :func:`value_bound`.
        n_critics: Number of critics whose losses are added.

    Returns:
        The bound, in units of return².
    """
    return n_critics * 4 * bound * bound


def huber_loss_bound(bound: float) -> float:
    """Bound the loss of SB3's DQN as long as values and targets keep to their bound.

    No error exceeds ``2 B`` then, and Huber's loss of an error is less than its size.

    Args:
        bound: ``B``, from :func:`value_bound`.

    Returns:
        The bound, in units of return.
    """
    return 2 * bound


def divergence(*, q_abs_max: float, q_bound: float, loss: float, loss_bound: float) -> str | None:
    """Tell whether training has diverged.

    A value past the bound is no error by itself: a network overshoots. Leave it room, with a
    multiple of what :func:`value_bound` and :func:`squared_loss_bound` say.

    Args:
        q_abs_max: Largest ``|Q|`` of a batch.
        q_bound: What it may be.
        loss: The critic loss on it.
        loss_bound: What it may be.

    Returns:
        The reason in words, or None if there is none.
    """
    for name, value, bound in (("|Q|", q_abs_max, q_bound), ("critic loss", loss, loss_bound)):
        if not math.isfinite(value):
            return f"{name} is {value}"
        if value > bound:
            return f"{name} is {value:.6g}, past its bound of {bound:.6g}"
    return None
