"""Sizes of weights and gradients, and the rate at which the weights really change."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Norms:
    """Euclidean norms of tensors.

    Attributes:
        each: Of each tensor, by name.
        whole: Of all tensors as one vector.
    """

    each: Mapping[str, float]
    whole: float


@dataclass(frozen=True)
class EffectiveLearningRates:
    """How fast weights change, relative to their size.

    Attributes:
        each: ``‖g_l‖₂ / ‖θ_l‖₂`` of each tensor, by name; NaN for a tensor that is zero.
        whole: The mean of these, weighted by the number of entries, over the tensors that are not
            zero: as in the code of SimbaV2 (Lee et al. 2025). The step of plain gradient descent,
            relative to the weight, is the learning rate times this.
        scale_invariant: ``η / ‖θ‖₂²`` of all tensors as one vector: definition 1 of XQC (Palenicek
            et al. 2025, after van Laarhoven 2017). It holds for networks that do not change when
            their weights are scaled, by batch or layer normalisation; in others it is only a
            measure of the weights' growth. NaN where all are zero.
    """

    each: Mapping[str, float]
    whole: float
    scale_invariant: float


@torch.no_grad()
def norms(tensors: Mapping[str, Tensor]) -> Norms:
    """Compute the Euclidean norm of each tensor, and of all together.

    Args:
        tensors: Weights or gradients by name, on one device. Not modified.

    Returns:
        The norms.

    Raises:
        ValueError: If there are no tensors.
    """
    if not tensors:
        raise ValueError("there are no tensors to measure")
    # In float64, where a square of a float32 can not overflow; one transfer for all of them.
    each = torch.stack([_norm(tensor) for tensor in tensors.values()])
    *parts, whole = torch.cat((each, _norm(each)[None])).tolist()
    return Norms(dict(zip(tensors, parts, strict=True)), whole)


@torch.no_grad()
def effective_learning_rates(
    weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor], learning_rate: float
) -> EffectiveLearningRates:
    """Compute effective learning rates, after both definitions in use.

    Both take a step to be learning rate times gradient, while Adam divides by the gradients' size:
    they tell how the ratio of gradient to weight develops, not what step Adam takes.

    Args:
        weights: ``θ_l`` by name, on one device. Not modified.
        gradients: ``g_l`` of the loss, by the same names. Not modified.
        learning_rate: ``η`` of the optimiser.

    Returns:
        The rates.

    Raises:
        ValueError: If there are no tensors, or the names differ.
    """
    if weights.keys() != gradients.keys():
        raise ValueError(
            f"weights and gradients must have the same names, got {sorted(weights)} "
            f"and {sorted(gradients)}"
        )
    sizes, slopes = norms(weights), norms(gradients)
    nan = float("nan")
    each = {name: slopes.each[name] / size if size else nan for name, size in sizes.each.items()}
    counts = {name: weights[name].numel() for name, size in sizes.each.items() if size}
    total = sum(counts.values())
    whole = sum(count * each[name] for name, count in counts.items()) / total if total else nan
    invariant = learning_rate / sizes.whole**2 if sizes.whole else nan
    return EffectiveLearningRates(each, whole, invariant)


def _norm(tensor: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(tensor, dtype=torch.float64)
    return norm
