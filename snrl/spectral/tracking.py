"""Leading singular vectors of matrices in motion: the algorithm, in torch."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from snrl.spectral.iteration import sigma_estimate
from snrl.spectral.precision import products

RTOL = 3e-5
MAX_STEPS = 64


class Vectors(NamedTuple):
    """What is carried from one weight to the next, for ``k`` matrices of shape ``(m, n)``.

    Attributes:
        u: Leading left vectors, shape ``(k, m)``.
        block: Orthonormal right Ritz vectors as rows, shape ``(k, r, n)``; the first is ``v``.
        direction: Where the block last moved, shape ``(k, r, n)``.
    """

    u: Tensor
    block: Tensor
    direction: Tensor

    @property
    def v(self) -> Tensor:
        """Leading right vectors, shape ``(k, n)``: a view."""
        return self.block[..., 0, :]


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
    block = right[..., :block_size, :].to(weight).contiguous()
    return Vectors(left[..., 0].to(weight).contiguous(), block, torch.zeros_like(block))


@torch.no_grad()
@products("highest")
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
    u, block, direction = vectors
    rank = block.shape[-2]
    tiny = torch.finfo(weight.dtype).tiny
    for step in range(1, max(max_steps, n_power_iterations) + 1):
        # Few rows on the left and W on the right streams through W; with W on the left and few
        # columns, torch's CPU product of two 256×256 matrices takes five times as long.
        image = block @ weight.mT  # (k, r, m)
        # Squares of the weights' scale would leave float32, so none is ever formed.
        scale = image.abs().amax((-2, -1), keepdim=True).clamp_min(tiny)
        image = image / scale
        before = torch.linalg.vector_norm(image, dim=-1)
        pulled = image @ weight  # (k, r, n)
        pulled = pulled / pulled.abs().amax((-2, -1), keepdim=True).clamp_min(tiny)
        # Householder QR: orthonormal also where vectors vanish or depend on each other.
        basis, _ = torch.linalg.qr(torch.cat((block, pulled, direction), -2).nan_to_num().mT)
        basis = basis.mT.contiguous()  # (k, ≤ 3r, n)
        image = basis @ weight.mT / scale
        squares, ritz = torch.linalg.eigh((image @ image.mT).nan_to_num())
        after = squares[..., -rank:].flip(-1).clamp_min(0.0).sqrt()
        ritz = ritz[..., -rank:].flip(-1).mT  # (k, r, ≤ 3r)
        block = ritz @ basis
        # What the step added to the block: its part outside the span of the old one.
        direction = normalize(ritz[..., rank:] @ basis[..., rank:, :], dim=-1)
        growth = (after - before) > rtol * after[..., :1]
        if step >= n_power_iterations and not bool(growth.any()):
            break
    left = (ritz[..., :1, :] @ image).squeeze(-2)
    norm = torch.linalg.vector_norm(left, dim=-1, keepdim=True)
    u = torch.where(norm > 0, left / norm.clamp_min(tiny), u)
    return Vectors(u, block, direction)


@torch.no_grad()
def belong(weight: Tensor, vectors: Vectors, exact: Vectors, rtol: float = 1e-3) -> Tensor:
    """Tell whether vectors from elsewhere can be those of the given weights.

    Args:
        weight: Matrices, shape ``(k, m, n)``.
        vectors: The vectors in question.
        exact: Leading vectors of the same matrices.
        rtol: How far below the exact ``sigma`` theirs may lie, and how far from unit length they.

    Returns:
        bool, shape ``(k,)``: orthonormal, and ``sigma`` close.
    """
    eye = torch.eye(vectors.block.shape[-2]).to(weight)
    orthonormal = (vectors.block @ vectors.block.mT - eye).abs().amax((-2, -1)) < rtol
    unit = (torch.linalg.vector_norm(vectors.u, dim=-1) - 1).abs() < rtol
    sigma = sigma_estimate(weight, vectors.u, vectors.v)
    close = sigma >= (1 - rtol) * sigma_estimate(weight, exact.u, exact.v)
    finite = vectors.direction.isfinite().all(-1).all(-1)
    belongs: Tensor = orthonormal & unit & close & finite
    return belongs
