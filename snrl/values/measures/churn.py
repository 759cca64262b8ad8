"""How much an update moves values that it was not meant to move."""

import torch
from torch import Tensor


@torch.no_grad()
def churn(before: Tensor, after: Tensor) -> float:
    """Compute the value churn: the mean of ``|Q_θ'(s, a) - Q_θ(s, a)|``.

    Tang & Berseth 2024 (CHAIN) define it on a reference batch that has no transition in
    common with the batch that was trained on; that, and how many updates lie between, is the
    caller's to see to.

    Args:
        before: Values on the reference batch before the updates, any shape. Not modified.
        after: Values of the same after them, same shape. Not modified.

    Returns:
        The churn, in units of return.

    Raises:
        ValueError: If there are no values or the shapes differ.
    """
    if before.shape != after.shape or not before.numel():
        raise ValueError(
            "before and after must be of one shape with some values, "
            f"got {tuple(before.shape)} and {tuple(after.shape)}"
        )
    return (after.double() - before.double()).abs().mean().item()
