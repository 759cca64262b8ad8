"""Singular vectors of stacked matrices: by power and subspace iteration, exactly, and in motion."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

RTOL = 1e-4
MAX_STEPS = 64


@torch.no_grad()
def power_iteration(
    weight: Tensor, v: Tensor, n_power_iterations: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Run power iteration (Miyato et al. 2018, algorithm 1), which :func:`track` improves on.

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


class Vectors(NamedTuple):
    """What is carried from one weight to the next, for ``k`` matrices of shape ``(m, n)``.

    Attributes:
        u: Leading left vectors, shape ``(k, m)``.
        v: Leading right vectors, shape ``(k, n)``.
        block: Orthonormal right Ritz vectors, shape ``(k, n, r)``; the first is ``v``.
        direction: Where the block last moved, shape ``(k, n, r)``.
    """

    u: Tensor
    v: Tensor
    block: Tensor
    direction: Tensor


@torch.no_grad()
def leading_vectors(weight: Tensor, block_size: int) -> Vectors:
    """Compute the leading singular vectors by SVD in float64: the start for :func:`track`.

    Args:
        weight: Matrices, shape ``(k, m, n)``. An entry that is not finite counts as zero here, so
            that a diverged network can still be loaded and looked at.
        block_size: Number of right vectors wanted; there are at most ``min(m, n)``.

    Returns:
        The vectors in the dtype of ``weight``, with no direction yet.
    """
    exact = weight.double().nan_to_num(0.0, 0.0, 0.0)
    left, _, right = torch.linalg.svd(exact, full_matrices=False)
    block = right[..., :block_size, :].mT.to(weight).contiguous()
    u = left[..., 0].to(weight).contiguous()
    return Vectors(u, block[..., 0].contiguous(), block, torch.zeros_like(block))


@torch.no_grad()
def track(
    weight: Tensor,
    vectors: Vectors,
    n_power_iterations: int = 1,
    rtol: float = RTOL,
    max_steps: int = MAX_STEPS,
) -> Vectors:
    """Carry leading singular vectors over a change of the weights.

    One step is Rayleigh-Ritz for ``WᵀW`` on the span of the block, of ``WᵀW`` times the block, and
    of the direction in which the block last moved: LOBPCG (Knyazev, SIAM J. Sci. Comput. 23(2),
    2001, algorithm 4.1) without a preconditioner, with the direction kept from one weight to the
    next. Subspace iteration is the same without the direction; under Adam the spectrum below
    ``σ_1`` is dense, its convergence there slow, and a fresh direction that overtakes is found
    dozens of updates late. ``experiments/estimators`` has the figures.

    After ``n_power_iterations`` steps there are more, up to ``max_steps`` in all, as long as the
    last one still raised some Ritz value by more than ``rtol`` times the largest: Ritz values only
    grow, so a step that raises none has little left to find.

    Args:
        weight: The changed matrices, shape ``(k, m, n)``, of any scale.
        vectors: Those of the matrices before the change. Not modified.
        n_power_iterations: Steps that are always taken, at least 1.
        rtol: Relative growth in one step that asks for another.
        max_steps: Bound on the number of steps.

    Returns:
        New vectors. For a zero matrix ``u`` stays as it was. Where a weight is not finite they
        are of no use, as the weight is; nothing is raised.
    """
    u, block, direction = vectors.u, vectors.block, vectors.direction
    rank = block.shape[-1]
    tiny = torch.finfo(weight.dtype).tiny
    for step in range(1, max(max_steps, n_power_iterations) + 1):
        image = _apply(weight, block)
        # Squares of the weights' scale would leave float32, so none is ever formed.
        scale = image.abs().amax((-2, -1), keepdim=True).clamp_min(tiny)
        image = image / scale
        before = torch.linalg.vector_norm(image, dim=-2)
        pulled = image.mT @ weight  # (k, r, n)
        pulled = pulled / pulled.abs().amax((-2, -1), keepdim=True).clamp_min(tiny)
        # Householder QR: orthonormal also where columns vanish or depend on each other.
        basis, _ = torch.linalg.qr(torch.cat((block, pulled.mT, direction), -1).nan_to_num())
        image = _apply(weight, basis) / scale
        squares, ritz = torch.linalg.eigh((image.mT @ image).nan_to_num())
        after = squares[..., -rank:].flip(-1).clamp_min(0.0).sqrt()
        ritz = ritz[..., -rank:].flip(-1)
        block = basis @ ritz
        # What the step added to the block: its part outside the span of the old one.
        direction = normalize(basis[..., rank:] @ ritz[..., rank:, :], dim=-2)
        growth = (after - before) > rtol * after[..., :1]
        if step >= n_power_iterations and not bool(growth.any()):
            break
    left = (image @ ritz[..., :1]).squeeze(-1)
    norm = torch.linalg.vector_norm(left, dim=-1, keepdim=True)
    u = torch.where(norm > 0, left / norm.clamp_min(tiny), u)
    return Vectors(u, block[..., 0].contiguous(), block, direction)


@torch.no_grad()
def belong(weight: Tensor, vectors: Vectors, exact: Vectors, rtol: float = 1e-3) -> Tensor:
    """Tell whether vectors from elsewhere can be those of the given weights.

    Args:
        weight: Matrices, shape ``(k, m, n)``.
        vectors: The vectors in question.
        exact: Leading vectors of the same matrices.
        rtol: How far below the exact ``sigma`` theirs may lie, and how far from unit length they.

    Returns:
        bool, shape ``(k,)``: orthonormal, ``v`` the first of the block, and ``sigma`` close.
    """
    eye = torch.eye(vectors.block.shape[-1]).to(weight)
    orthonormal = (vectors.block.mT @ vectors.block - eye).abs().amax((-2, -1)) < rtol
    unit = (torch.linalg.vector_norm(vectors.u, dim=-1) - 1).abs() < rtol
    first = (vectors.block[..., 0] == vectors.v).all(-1)
    sigma = sigma_estimate(weight, vectors.u, vectors.v)
    close = sigma >= (1 - rtol) * sigma_estimate(weight, exact.u, exact.v)
    finite = vectors.direction.isfinite().all(-1).all(-1)
    belongs: Tensor = orthonormal & unit & first & close & finite
    return belongs


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
    # uᵀW before v: see _apply.
    image: Tensor = u.unsqueeze(-2) @ weight
    sigma: Tensor = torch.linalg.vecdot(image.squeeze(-2), v)
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


def _apply(weight: Tensor, block: Tensor) -> Tensor:
    """Compute ``W V`` for a ``V`` of few columns, as ``(VᵀWᵀ)ᵀ``.

    With few rows on the left and W on the right the product streams through W; the other way
    round, torch's CPU product of two 256×256 matrices with four columns takes five times as long.
    """
    return (block.mT @ weight.mT).mT
