"""Certified upper bounds: on spectral norms, and on the Lipschitz constant of a network."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def gram_bound(weight: Tensor, rtol: float = 1e-3) -> Tensor:
    """Bound spectral norms from above: ``‖W‖₂ ≤ bound ≤ (1 + rtol) ‖W‖₂``, rounding included.

    Gram iteration (Delattre, Barthélemy, Araujo, Allauzen, ICML 2023, algorithm 1): with
    ``G₀ = W`` and ``Gᵢ₊₁ = GᵢᵀGᵢ``, ``‖W‖₂ ≤ ‖G_t‖_F^(1/2ᵗ) ≤ rank^(1/2ᵗ⁺¹) ‖W‖₂``. The rank is at
    most the smaller side, which fixes ``t`` before the first product. Where Delattre et al. add up
    the logarithms of the factors they divide by, here the square roots are taken one by one on the
    way back: nothing leaves the range of float64 either, and while no accuracy is guaranteed for
    ``log`` and ``exp``, each rounding of a product, a sum and a root is bounded, hence the whole:

    Let ``Gᵢ`` be the matrices in memory, each divided by its largest entry, so ``‖Gᵢ‖₂ ≥ 1``, and
    ``Pᵢ`` the computed product ``GᵢᵀGᵢ``, ``cᵢ`` its largest entry. A sum of ``k`` products is off
    by at most ``γ_k`` times the sum of their absolute values, ``γ_k = k·u / (1 - k·u)``,
    ``u = 2⁻⁵³``, in whatever order and with or without fused multiply-add (Higham, Accuracy and
    Stability of Numerical Algorithms, 2002, eq. 3.13; a product that is not made of such sums, as
    Strassen's, is not covered; underflow adds some 1e-308, far below ``u ‖Gᵢ‖_F²``). So ``|Pᵢ -
    GᵢᵀGᵢ| ≤ γ_k |Gᵢ|ᵀ|Gᵢ|`` entry by entry, and as ``‖ |G|ᵀ|G| ‖_F ≤ ‖G‖_F²``, with one more
    rounding for the division by ``cᵢ``,

        ``‖Gᵢ‖₂² ≤ cᵢ ‖Gᵢ₊₁‖₂ + γ_{k+1} ‖Gᵢ‖_F²``.

    Unrolled from ``‖G_t‖₂ ≤ ‖G_t‖_F`` this is the bound. The roundings of the unrolling itself are
    relative to a right side that does not exceed ``‖Gᵢ‖_F²`` by more than rounding, so they are
    paid for by a larger index of ``γ``. The bound is true for every ``t``; ``t`` and the size of
    the matrix decide how close it is.

    Args:
        weight: Matrices, shape ``(..., m, n)``, of any floating dtype, scale and strides.
            Not modified.
        rtol: How far above the exact value the bound may lie, relative to it.

    Returns:
        float64, shape ``(...)``. 0 for a matrix of zeros or of no entries, NaN for one with an
        entry that is not finite, inf where the bound exceeds float64. Cast it to float32 only if
        you round up. Where it is below 2⁻¹⁰²² it may lie above the tolerance by the spacing of
        numbers there, 5e-324. No gradient flows, no host synchronisation is made.

    Raises:
        ValueError: If ``rtol`` is smaller than what rounding may add for matrices of this shape:
            about ``6·u·min(m, n)·(m + n)``, 9e-11 for 256×256.
    """
    m, n = weight.shape[-2:]
    steps, error = _plan(m, n, rtol)
    if min(m, n) == 0:
        return weight.new_zeros(weight.shape[:-2], dtype=torch.float64)
    matrix = weight.double() if m >= n else weight.double().mT
    scales, squares = [], []
    for step in range(steps + 1):
        if step:
            matrix = matrix.mT @ matrix
        scale = matrix.abs().amax((-2, -1))
        matrix = matrix / scale.where(scale != 0, 1.0)[..., None, None]
        scales.append(scale)
        # Rows, then columns: each number takes part in m + n roundings, not in m·n.
        squares.append(matrix.square().sum(-1).sum(-1))
    bound = squares.pop().sqrt() * (1 + error)
    while squares:
        bound = (scales.pop() * bound + error * squares.pop()).sqrt()
    (scale,) = scales
    return _times(scale, bound)


def product_bound(bounds: Sequence[Tensor], slopes: Sequence[float]) -> Tensor:
    """Bound the Lipschitz constant of maps applied one after the other, by the product of theirs.

    Args:
        bounds: Upper bounds on the norms of the linear maps, each of shape ``(...)``, float64, at
            least one; as :func:`gram_bound` computes them. Not modified.
        slopes: Upper bounds for all that stands between: see :func:`activation_lipschitz`.

    Returns:
        float64, shape ``(...)``, with every rounding upwards: inf on overflow, positive on
        underflow; 0 where a factor is 0, NaN where one is NaN or 0 meets inf.
    """
    first, *others = (bound.double() for bound in bounds)
    product = first
    for bound in others:
        product = _times(product, bound)
    for slope in slopes:
        product = _times(product, slope)
    return product


def activation_lipschitz(module: nn.Module) -> float | None:
    """Look up the Lipschitz constant of a module that stands between the matrices of a network.

    Args:
        module: Any module. Not modified. Parameters that count are read, which on CUDA waits for
            the device.

    Returns:
        An upper bound on the constant in the Euclidean norm, for activations within 1e-4 of it,
        relative; or None if there is none: a discontinuous or random function, or a module that is
        not known, which includes subclasses of known ones, as their forward may be another. For
        ``LayerNorm`` it is ``max|γ| / √eps``: the true constant, reached at constant inputs, and
        large.
    """
    constant = _CONSTANTS.get(type(module))
    if constant is not None:
        return constant
    of_options = _OF_OPTIONS.get(type(module))
    return None if of_options is None else of_options(module)


def _plan(m: int, n: int, rtol: float) -> tuple[int, float]:
    """Choose the number of Gram iterations, and give the rounding error of one of them.

    The error, ``γ`` below, is that of ``m + n + 10`` roundings with one in a hundred to spare. It
    covers the sum of squares, over rows and then columns (``m + n``), and a step: a product and its
    division (at most ``max(m, n) + 1``), the unrolling (4), the division of ``W`` (2).

    As ``‖Gᵢ‖_F² ≤ r ‖Gᵢ‖₂²``, ``r`` the smaller side, a step multiplies the square of the bound by
    at most ``1 + 2rγ``: once because a product may come out too large, once because it is allowed
    to have come out too small. The roots halve that from step to step, so all steps together
    multiply the bound by less than ``exp(2.1·r·γ)``, and all other roundings by less than
    ``exp(3γ)``. Their product is below ``1 + 3(r + 2)γ``; at least as much is left of ``rtol`` for
    ``r^(1/2ᵗ⁺¹)``.

    Returns:
        The number of iterations and the error.

    Raises:
        ValueError: If ``rtol`` is too small.
    """
    rank = min(m, n)
    error = 1.01 * (m + n + 10) * 2**-53
    rounding = 3 * (rank + 2) * error
    if not 2 * rounding <= rtol < math.inf:
        raise ValueError(
            f"rtol must be a number no smaller than {2 * rounding}, which is what rounding in "
            f"float64 allows for {m}×{n} matrices, got {rtol!r}"
        )
    room = math.log1p(rtol) - math.log1p(rounding)
    steps = 0
    while math.log(max(rank, 1)) > room * 2 ** (steps + 1):
        steps += 1
    return steps, error


def _times(a: Tensor, b: Tensor | float) -> Tensor:
    """Multiply two numbers that are not negative, rounding up; 0 only where one of them is 0."""
    product = a * b
    above = torch.nextafter(product, torch.full_like(product, math.inf))
    return torch.where((a == 0) | (b == 0), product, above)


# Suprema of |f'|, rounded up: SiLU 1.099839 at x = 2.3994, Mish 1.088498 at 1.4906, GELU 1.128904
# at √2 and with the tanh approximation 1.128993 at 1.4185; SELU scale·alpha = 1.758099 at 0 from
# below, Hardswish 3/2 at 3 from below, Hardsigmoid 1/6, in torch's backward the float32 1/6.
_CONSTANTS: Mapping[type[nn.Module], float] = {
    nn.Flatten: 1.0,
    nn.GELU: 1.129,
    nn.Hardsigmoid: 0.166667,
    nn.Hardswish: 1.5,
    nn.Hardtanh: 1.0,
    nn.Identity: 1.0,
    nn.LogSigmoid: 1.0,
    nn.Mish: 1.0885,
    nn.ReLU: 1.0,
    nn.ReLU6: 1.0,
    nn.SELU: 1.7581,
    nn.SiLU: 1.09984,
    nn.Sigmoid: 0.25,
    nn.Softshrink: 1.0,
    nn.Softsign: 1.0,
    nn.Tanh: 1.0,
    nn.Tanhshrink: 1.0,
}


def _layer_norm(module: nn.LayerNorm) -> float | None:
    # The Jacobian is diag(γ)·(I - 11ᵀ/n - yyᵀ/n) / √(var + eps), with y the normalised input and
    # yᵀy < n: a matrix of norm at most 1 between the two factors.
    if not module.eps > 0:
        return None
    gain = 1.0 if module.weight is None else module.weight.detach().abs().max().item()
    return gain / math.sqrt(module.eps) * (1 + 2**-50)


_OF_OPTIONS: Mapping[type[nn.Module], Callable[[Any], float | None]] = {
    # alpha·(exp(x/alpha) - 1) grows without bound to the left if alpha is negative.
    nn.CELU: lambda module: 1.0 if module.alpha > 0 else None,
    nn.Dropout: lambda module: None if module.training and module.p else 1.0,
    nn.ELU: lambda module: max(1.0, abs(module.alpha)),
    nn.LayerNorm: _layer_norm,
    nn.LeakyReLU: lambda module: max(1.0, abs(module.negative_slope)),
    nn.PReLU: lambda module: module.weight.detach().abs().max().clamp(min=1.0).item(),
    # torch jumps from log(1 + exp(x)) to x at the threshold: at the default of 20 by 1e-10 of x,
    # which float32 does not resolve.
    nn.Softplus: lambda module: 1.0 if module.threshold >= 20 else None,
}
