"""The norm of a convolution as an operator, and how it relates to that of the reshaped kernel.

A convolution has two spectral norms. The *reshaped* norm is that of its kernel as a matrix
``(out, in·kh·kw)``: what torch's ``spectral_norm`` and this library's layers normalise. The
*operator* norm is the Lipschitz constant of the layer: the largest ``‖conv(x)‖ / ‖x‖`` over the
images ``x`` of a given size. With one group they are equal where no input is read by two windows
(kernel not larger than the stride); otherwise the operator norm is larger, by up to
:func:`reshaped_factor`. ``experiments/conv_norms`` says by how much.
"""

import warnings
from collections.abc import Sequence
from math import prod, sqrt

import torch
from torch import Tensor, nn

from snrl.spectral.convolution_operator import (
    Convolution,
    ConvolutionOperator,
    convolution_operator,
)

RTOL = 1e-6
MAX_STEPS = 2000
_BLOCKS = 12  # more cost memory and products with the basis, fewer cost convergence


@torch.no_grad()
def convolution_norm(
    convolution: nn.Module | Convolution,
    size: int | Sequence[int],
    rtol: float = RTOL,
    block_size: int = 2,
    max_steps: int = MAX_STEPS,
) -> Tensor:
    """Compute the norm of a convolution on inputs of one size, by iteration on the operator.

    Gouk et al. 2021 iterate one vector with a convolution and its transpose. The gaps between the
    top singular values close as the input grows, and to 1e-6 that takes a thousand steps and more
    on 42×42 inputs. So this is block Lanczos for ``AᵀA`` with Rayleigh-Ritz and full
    orthogonalisation (Golub & Underwood 1977), restarted with half of the Ritz vectors (Wu &
    Simon, SIAM J. Matrix Anal. Appl. 22(2), 2000), which takes a hundred.

    Args:
        convolution: A ``Conv1d``, ``Conv2d`` or ``Conv3d`` layer, or a kernel with its options.
            Not modified.
        size: Spatial size of the input, one number or one per axis.
        rtol: The iteration stops when ``‖AᵀA x - σ² x‖ ≤ rtol·σ²`` for the top Ritz pair; some
            singular value then lies within ``rtol·σ/2`` of the result.
        block_size: Number of vectors that start, at least 1. They are random, from a generator of
            their own.
        max_steps: Bound on the number of steps, each one product with ``A`` and one with ``Aᵀ``
            for every vector of the block.

    Returns:
        float64, shape ``()``: never above the true value but for rounding, as it is
        ``‖A x‖ / ‖x‖`` for an ``x`` that was found. NaN if the weight is not finite. No gradient
        flows.

    Raises:
        ValueError: If the convolution is not supported, the size does not fit it, or there is to
            be no vector or no step.

    Warns:
        RuntimeWarning: If ``max_steps`` were not enough.
    """
    if min(block_size, max_steps) < 1:
        raise ValueError(
            f"block_size and max_steps must be at least 1, got {block_size} and {max_steps}"
        )
    operator = convolution_operator(convolution, size)
    if not operator.weight.isfinite().all():
        return operator.scale * torch.nan
    dimension = prod(operator.in_shape)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(
        min(block_size, dimension), dimension, dtype=torch.float64, generator=generator
    )
    krylov = _Krylov(operator, _orthonormal(start.to(operator.weight)))
    for _ in range(max_steps):
        residual, square = krylov.step()
        if residual <= rtol * square:
            break
    else:
        warnings.warn(
            f"the norm has not converged to rtol={rtol} in {max_steps} steps: the residual is "
            f"{float(residual / square):.1e}, and the result a lower bound",
            RuntimeWarning,
            stacklevel=3,  # past the wrapper of no_grad
        )
    return operator.scale * square.sqrt()


class _Krylov:
    """An orthonormal basis that grows by blocks, the images of its vectors, and their products."""

    def __init__(self, operator: ConvolutionOperator, start: Tensor) -> None:
        self.operator = operator
        self.rank = len(start)
        room = _BLOCKS * self.rank
        self.basis = start.new_empty(room, start.shape[1])
        self.images = start.new_empty(room, operator.weight.shape[0] * prod(operator.out_size))
        self.gram = start.new_zeros(room, room)
        self.n_vectors = 0
        self.new = start

    def step(self) -> tuple[Tensor, Tensor]:
        """Add the next block to the basis and solve the eigenproblem on its span.

        Returns:
            Norm of the residual of the top Ritz pair, and its Ritz value, both of shape ``()``.
        """
        self._append(self.new)
        n = self.n_vectors
        squares, ritz = torch.linalg.eigh(self.gram[:n, :n])
        if n + self.rank > len(self.basis):
            keep = len(self.basis) // 2
            squares, ritz = squares[-keep:], self._restart(squares[-keep:], ritz[:, -keep:])
            n = keep
        top, values = ritz[:, -self.rank :].mT, squares[-self.rank :, None]
        pulled = self.operator.adjoint(
            (top @ self.images[:n]).view(-1, len(self.operator.weight), *self.operator.out_size)
        )
        residual = pulled.flatten(1) - values * (top @ self.basis[:n])
        self.new = _orthonormal(residual, self.basis[:n])
        # Nothing new: the span is invariant, and the residual is what rounding leaves.
        norm = residual[-1].norm() if len(self.new) else residual.new_zeros(())
        return norm, squares[-1].clamp_min(0.0)

    def _append(self, block: Tensor) -> None:
        begin, end = self.n_vectors, self.n_vectors + len(block)
        images = self.operator.apply(block.view(-1, *self.operator.in_shape)).flatten(1)
        self.basis[begin:end], self.images[begin:end] = block, images
        products = self.images[:end] @ images.mT
        self.gram[:end, begin:end] = products
        self.gram[begin:end, :end] = products.mT
        self.n_vectors = end

    def _restart(self, squares: Tensor, ritz: Tensor) -> Tensor:
        """Replace the basis by some of its Ritz vectors; return theirs in terms of the new one."""
        n, keep = ritz.shape
        self.basis[:keep] = ritz.mT @ self.basis[:n]
        self.images[:keep] = ritz.mT @ self.images[:n]
        self.gram[:keep, :keep] = torch.diag(squares)
        self.n_vectors = keep
        return torch.eye(keep).to(squares)


def reshaped_factor(convolution: nn.Module | Convolution, size: int | Sequence[int]) -> float:
    """Bound the ratio of the operator norm to the norm of the reshaped kernel.

    ``‖conv‖ ≤ factor · ‖W.flatten(1)‖₂``, where the square of the factor is the number of windows
    that read the input entry which is read most often: ``y_j = W·patch_j(x)``, so ``‖y‖² ≤ ‖W‖²
    Σ_j ‖patch_j(x)‖²``, and the sum counts every entry once per window (Tsuzuku, Sato & Sugiyama
    2018; Singla & Feizi 2021 for stride 1, with three more ways to reshape). With kernel ``k``,
    stride ``s`` and dilation ``d`` that is at most ``ceil(k·gcd(s, d) / s)`` along an axis: the
    factor is at most ``sqrt(kh·kw)`` for stride 1, ``sqrt(ceil(kh/s)·ceil(kw/s))`` for larger
    ones, and 1 where windows do not overlap. Only circular padding of an output longer than
    ``size/s`` can read more often.

    In the other direction, ``‖conv‖ ≥ ‖W.flatten(1)‖₂`` with one group, if a whole window fits
    into the input: an ``x`` that is zero outside the window shows it. With groups the reshaped
    kernel stacks matrices that act on different channels, and the operator norm can be smaller by
    up to ``sqrt(groups)``.

    Args:
        convolution: A ``Conv1d``, ``Conv2d`` or ``Conv3d`` layer, or a kernel with its options.
            Only the shape of the weight matters.
        size: Spatial size of the input, one number or one per axis.

    Returns:
        The factor, at least 1 unless no output reads any input: 0 then.

    Raises:
        ValueError: If the convolution is not supported or the size does not fit it.
    """
    axes = convolution_operator(convolution, size).axes
    return sqrt(prod(axis.most_reads for axis in axes))


def _orthonormal(vectors: Tensor, basis: Tensor | None = None) -> Tensor:
    """Make rows orthonormal and orthogonal to a basis, leaving out those that add nothing.

    Args:
        vectors: Shape ``(r, n)``.
        basis: Orthonormal rows, shape ``(k, n)``.

    Returns:
        Shape ``(r', n)`` with ``r' ≤ r``.
    """
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    vectors = vectors / lengths.where(lengths > 0, 1.0)
    # Once leaves what rounding put back into the span of the basis; twice is enough (Giraud,
    # Langou & Rozložník 2005).
    for _ in range(2):
        if basis is not None:
            vectors = vectors - (vectors @ basis.mT) @ basis
        squares, rotation = torch.linalg.eigh(vectors @ vectors.mT)
        keep = squares > 1e-20
        vectors = (rotation[:, keep] / squares[keep].sqrt()).mT @ vectors
    return vectors
