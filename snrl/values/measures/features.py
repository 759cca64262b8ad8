"""How much of a network's width its features use: ranks, and units that are dormant."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FeatureRanks:
    """Ranks of a matrix of features, by its singular values ``σ_1 >= σ_2 >= …``.

    Attributes:
        singular_values: ``σ``, float64, shape ``(d,)``, on the CPU.
        srank: The smallest ``k`` with ``Σ_{i<=k} σ_i >= (1-δ) Σ σ_i`` (Kumar et al. 2021, eq. 1,
            where it is called the effective rank).
        numerical_rank: The number of ``σ_i > max(n, d) ε σ_1``, with ``ε`` of the features' dtype:
            what ``matrix_rank`` of numpy and torch computes.
        stable_rank: ``‖Φ‖_F² / σ_1²``, at most the rank, and not a whole number.
    """

    singular_values: Tensor
    srank: float
    numerical_rank: float
    stable_rank: float


@torch.no_grad()
def feature_ranks(features: Tensor, delta: float = 0.01) -> FeatureRanks:
    """Compute the ranks of a layer's features.

    Args:
        features: ``Φ``, shape ``(n, d)``, one row for each state and action: the activations of
            the last hidden layer of one critic. ``n >= d``, or the number of states would bound
            the rank. Not modified, and not centred.
        delta: Share of the sum of the singular values that srank leaves out.

    Returns:
        The ranks, from a decomposition in float64: 0 for zero features, NaN where a feature is
        not finite.

    Raises:
        ValueError: If there are fewer states than features, or ``delta`` is outside ``[0, 1)``.
    """
    n, d = features.shape
    if n < d:
        raise ValueError(f"the rank of {d} features needs at least as many states, got {n}")
    if not 0.0 <= delta < 1.0:
        raise ValueError(f"delta must be in [0, 1), got {delta}")
    if not features.isfinite().all():
        nan = float("nan")
        return FeatureRanks(torch.full((d,), nan, dtype=torch.float64), nan, nan, nan)
    sigma = torch.linalg.svdvals(features.double()).cpu()
    if not sigma[0] > 0:
        return FeatureRanks(sigma, 0.0, 0.0, 0.0)
    kept = sigma.cumsum(0)
    srank = 1 + int((kept < (1 - delta) * kept[-1]).sum())
    tolerance = max(n, d) * torch.finfo(features.dtype).eps
    relative = sigma / sigma[0]
    numerical = int((relative > tolerance).sum())
    return FeatureRanks(sigma, float(srank), float(numerical), relative.square().sum().item())


@torch.no_grad()
def dormant_share(activations: Sequence[Tensor], tau: float) -> float:
    """Compute the share of units that are ``τ``-dormant.

    A unit is, if its mean absolute activation is at most ``τ`` times the mean of its layer (Sokar
    et al. 2023, eq. 1). All units of a layer that is silent altogether are dormant.

    Args:
        activations: Of each hidden layer, after its activation function, shape ``(n, d)``; for a
            convolution ``(n, channels, …)``, a unit being a channel. Without the output layer. Not
            modified.
        tau: The threshold.

    Returns:
        The share over all layers, in ``[0, 1]``; NaN where an activation is not finite.

    Raises:
        ValueError: If there are no units.
    """
    if not sum(layer.shape[1] for layer in activations):
        raise ValueError("there are no units to judge")
    dormant, total = [], 0
    finite = []
    for layer in activations:
        score = layer.double().abs().transpose(0, 1).flatten(1).mean(1)
        # Not as a quotient: a silent layer would be 0/0.
        dormant.append((score <= tau * score.mean()).sum())
        finite.append(score.isfinite().all())
        total += len(score)
    if not torch.stack(finite).all():
        return float("nan")
    return torch.stack(dormant).sum().item() / total
