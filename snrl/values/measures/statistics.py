"""What the values of a critic look like: their size, spread, and agreement."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class QStatistics:
    """Values of an ensemble on a batch, all in units of return.

    Attributes:
        mean: Mean over critics and states.
        std: Standard deviation over critics and states (divided by their number).
        min: Smallest value.
        max: Largest value.
        disagreement: Mean over the states of the standard deviation over the critics (divided by
            their number: half the difference, for two); NaN for one critic.
    """

    mean: float
    std: float
    min: float
    max: float
    disagreement: float


@torch.no_grad()
def q_statistics(q: Tensor) -> QStatistics:
    """Describe the values of an ensemble of critics.

    Args:
        q: Values, shape ``(critics, n)``; computed with in float64. Not modified.

    Returns:
        The statistics; NaN where a value is NaN.

    Raises:
        ValueError: If there are no values or the shape is another.
    """
    if q.dim() != 2 or not q.numel():
        raise ValueError(f"q must have shape (critics, n) with some of both, got {tuple(q.shape)}")
    values = q.double()
    low, high = values.aminmax()
    spread = values.std(0, correction=0).mean()
    mean, std, least, most, disagreement = torch.stack(
        (values.mean(), values.std(correction=0), low, high, spread)
    ).tolist()
    return QStatistics(mean, std, least, most, disagreement if len(q) > 1 else float("nan"))


@torch.no_grad()
def drift(params: Sequence[Tensor], target_params: Sequence[Tensor]) -> float:
    """Compute how far a network has moved from its target: ``‖θ - θ̄‖₂ / ‖θ̄‖₂``.

    Args:
        params: The network's parameters ``θ``. Not modified.
        target_params: The target's ``θ̄``, in the same order and shapes. Not modified.

    Returns:
        The distance relative to the target; NaN where the target is zero.

    Raises:
        ValueError: If the numbers or shapes of the parameters differ.
    """
    shapes = [[tuple(x.shape) for x in side] for side in (params, target_params)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"parameters and target must be alike, got {shapes[0]} and {shapes[1]}")
    moved = [x.double() - y.double() for x, y in zip(params, target_params, strict=True)]
    whole = [torch.cat([x.double().flatten() for x in side]) for side in (moved, target_params)]
    distance, norm = torch.stack([torch.linalg.vector_norm(x) for x in whole]).tolist()
    return distance / norm if norm else float("nan")
