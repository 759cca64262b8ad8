"""Singular values of stacked matrices: estimated by power and subspace iteration, and exactly."""

import torch
from torch import Tensor

from snrl.spectral.precision import products


@torch.no_grad()
def power_iteration(
    weight: Tensor, v: Tensor, n_power_iterations: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Run power iteration (Miyato et al. 2018, algorithm 1), which ``tracking`` improves on.

    Args:
        weight: Matrices, shape ``(..., m, n)``, float32 or float64.
        v: Right start vectors, shape ``(..., n)``; any scale. Not modified.
        n_power_iterations: Number of steps, each a product with ``W`` and one with ``Wᵀ``.

    Returns:
        ``u`` of shape ``(..., m)``, ``sigma = uᵀ W v`` of shape ``(...)`` and ``v`` of shape
        ``(..., n)``. No gradient flows through them.
    """
    u, sigma, block = subspace_iteration(weight, v.unsqueeze(-1), n_power_iterations)
    return u, sigma, block.squeeze(-1)


@torch.no_grad()
@products("highest")
def subspace_iteration(
    weight: Tensor, block: Tensor, n_power_iterations: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Run subspace iteration with Rayleigh-Ritz on a block of right vectors.

    One step is ``Q = orth(W V)``, ``QᵀW = T S Pᵀ``: the columns of ``QT`` and ``P`` are the Ritz
    vectors and ``S`` the Ritz values, so ``uᵀ W v = S₀`` holds for the leading pair to rounding,
    and ``S₀ ≤ ‖W‖₂`` (Saad, Numerical Methods for Large Eigenvalue Problems, 2011, chapter 5,
    applied to ``WᵀW``). With a block of ``r`` vectors the error of the leading pair shrinks by
    ``(σ_{r+1}/σ_1)²`` a step, where a single vector has ``(σ_2/σ_1)²``.

    Args:
        weight: Matrices, shape ``(..., m, n)``, float32 or float64.
        block: Right start vectors, shape ``(..., n, r)`` with ``r ≤ min(m, n)``; need not be
            orthonormal. Not modified.
        n_power_iterations: Number of steps, at least 1.

    Returns:
        ``u`` of shape ``(..., m)``, ``sigma`` of shape ``(...)`` and the next block of shape
        ``(..., n, r)``, orthonormal, its first column ``v``. No gradient flows through them.
    """
    for _ in range(n_power_iterations):
        q, _ = torch.linalg.qr(weight @ block)
        left, values, right = torch.linalg.svd(q.mT @ weight, full_matrices=False)
        block = right.mT
    u: Tensor = q @ left[..., :1]
    return u.squeeze(-1), values[..., 0], block


def sigma_estimate(weight: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Compute ``sigma = uᵀ W v`` (Miyato et al. 2018, eq. 12).

    Args:
        weight: Matrices, shape ``(..., m, n)``.
        u: Left vectors, shape ``(..., m)``.
        v: Right vectors, shape ``(..., n)``.

    Returns:
        Shape ``(...)``. For unit vectors a lower bound on ``‖W‖₂``. The gradient flows to
        ``weight`` (it is ``u vᵀ``), and to ``u`` and ``v`` if they ask for it.
    """
    # uᵀW before v: see _apply. No product that torch may have been told to round.
    image = torch.linalg.vecdot(u.unsqueeze(-1), weight, dim=-2)
    sigma: Tensor = torch.linalg.vecdot(image, v)
    return sigma


@torch.no_grad()
def exact_sigma(weight: Tensor) -> Tensor:
    """Compute the largest singular value by SVD in float64.

    Args:
        weight: Matrices, shape ``(..., m, n)``.

    Returns:
        float64 tensor of shape ``(...)``; NaN for a matrix with an entry that is not finite.
    """
    finite = weight.isfinite().all(-1).all(-1)
    values = torch.linalg.svdvals(weight.double().nan_to_num(0.0, 0.0, 0.0))[..., 0]
    sigma: Tensor = values.where(finite, torch.nan)
    return sigma
