"""How much to trust sigma, and what it says of a network: bounds that are proven."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from snrl.spectral.bounds import activation_lipschitz, gram_bound, product_bound
from snrl.spectral.iteration import sigma_estimate
from snrl.spectral.layers import applied_weight
from snrl.spectral.stores import Stores

RTOL = 1e-6


class Certificate(NamedTuple):
    """What can be proven of the layers in a normalizer's care.

    Attributes:
        lower: ``uᵀ W v`` of each layer's effective weight as the vectors are now, float64, shape
            ``(n_layers,)``, on the CPU. A lower bound on its norm, as the vectors have unit length.
        upper: A certified upper bound on the same norm: see :func:`gram_bound`.
        lipschitz: For each network, by the name of its input, a certified upper bound on the
            Lipschitz constant of its output in that input (Euclidean norms, the other inputs held);
            an empty mapping where a part of the network has no known constant.
    """

    lower: Tensor
    upper: Tensor
    lipschitz: tuple[Mapping[str, float], ...]

    @property
    def error(self) -> float:
        """How far, relative to it, the true norm may lie above ``uᵀ W v``: largest of all layers.

        At least the true error of the estimate, and above it by no more than ``rtol``. NaN where a
        weight is not finite.
        """
        return (self.upper / self.lower - 1).where(self.upper != 0, 0.0).max().item()


@torch.no_grad()
def norm_bounds(weight: Tensor, u: Tensor, v: Tensor, rtol: float = RTOL) -> tuple[Tensor, Tensor]:
    """Bound the norm of a matrix from both sides.

    Args:
        weight: ``W``, shape ``(m, n)``.
        u: Left vector, shape ``(m,)``, of any length but zero.
        v: Right vector, shape ``(n,)``, likewise.
        rtol: How far above the norm the upper bound may lie.

    Returns:
        ``|uᵀ W v|`` for the vectors scaled to unit length, which is a lower bound up to the
        rounding of float64, and :func:`gram_bound`. float64 scalars on the CPU.
    """
    exact = weight.double()
    lengths = torch.linalg.vector_norm(u.double()) * torch.linalg.vector_norm(v.double())
    lower = sigma_estimate(exact, u.double(), v.double()).abs() / lengths
    return lower.cpu(), gram_bound(weight, rtol).cpu()


@torch.no_grad()
def lipschitz_bounds(
    modules: Iterable[nn.Module], inputs: Mapping[str, slice], rtol: float = RTOL
) -> dict[str, float]:
    """Bound the Lipschitz constants of a chain of layers: the product of those of its parts.

    Gouk et al. 2021, eq. 6, with certified norms. True, and often far above the constant itself:
    it would be reached only if the leading directions of all layers were aligned and no unit of an
    activation like ReLU were at rest.

    Args:
        modules: From input to output, the first of those with parameters a linear layer. Where
            normalised, it is the effective weight that counts. Not modified.
        inputs: Parts of the first layer's input, by name.
        rtol: How far above its norm the bound of a layer may lie.

    Returns:
        One number for each name; nothing at all where a module is neither linear nor one whose
        constant :func:`activation_lipschitz` knows, or has a hook, which may change what it gives.

    Raises:
        ValueError: If ``rtol`` is below what float64 can promise.
    """
    weights: list[Tensor] = []
    slopes: list[float] = []
    for module in modules:
        if isinstance(module, Stores):
            continue  # stands among the layers and passes its input on
        if module._forward_hooks or module._forward_pre_hooks:
            return {}
        if isinstance(module, nn.Linear):
            weight = applied_weight(module)
            if weight is None:
                return {}
            weights.append(weight)
            continue
        slope = activation_lipschitz(module)
        if slope is None or (not weights and slope != 1.0):
            return {}
        slopes.append(slope)
    if not weights:
        return {}
    first, *rest = weights
    others = [gram_bound(weight, rtol) for weight in rest]
    return {
        name: product_bound([gram_bound(first[:, columns], rtol), *others], slopes).item()
        for name, columns in inputs.items()
    }
