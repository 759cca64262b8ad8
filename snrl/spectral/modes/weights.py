"""Modes that change the stored weight after the optimiser's step; the forward is plain.

The checkpoint is that of a plain network. An averaged target stays inside the ball by convexity:
its norm is at most the average, with the weights of the averaging, of the coefficients so far.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from snrl.spectral.modes.base import Coef, Held, Mode
from snrl.spectral.precision import products

# How far above the coefficient a singular value may be left, relative to it.
_RTOL = 1e-3


@dataclass(frozen=True)
class Project(Mode):
    """Scale the stored weight down to the norm ``coef`` where it is above."""

    name: ClassVar[str] = "project"
    summary: ClassVar[str] = (
        "scale the stored weight down to coef after each step: a plain checkpoint"
    )
    source: ClassVar[str] = "Gouk et al. 2021, algorithm 2"

    @torch.no_grad()
    def hold(self, held: Held) -> None:
        """Multiply each weight by ``min(1, coef / sigma)``; the vectors stay what they are."""
        _scale_down(held, held.coef)


@dataclass(frozen=True)
class Hammer(Mode):
    """Pull the singular values of the stored weight that exceed ``coef`` down to it, and no other.

    Newhouse et al. set the largest one, up or down, and say that this bounds the norm only as long
    as no second one exceeds the coefficient in the same step. It does after a while, because what
    is pulled down piles up at the coefficient. Here smaller ones are left alone, and the bound
    holds: those of the tracked block are pulled at once; then a Cholesky factorisation tells
    whether another one still exceeds the coefficient, by more than 1e-3 of it, and only then there
    is an SVD. A larger ``block_size`` makes that rarer. Whether there is something to do is read on
    the host, so a step with it cannot be captured in a CUDA graph.
    """

    name: ClassVar[str] = "hammer"
    summary: ClassVar[str] = (
        "pull only the top singular values of the stored weight down: the rest stays"
    )
    source: ClassVar[str] = "Newhouse et al. 2025, spectral hammer"

    @torch.no_grad()
    @products("highest")
    def hold(self, held: Held) -> None:
        """Take ``P max(0, S - coef) Qᵀ`` off each weight; the vectors stay what they are."""
        block, matrices = held.vectors.block, held.matrices()
        # Weights that are not finite stay what they are; nothing is raised.
        image = (matrices @ block.mT).nan_to_num(0.0, 0.0, 0.0)  # (k, m, r)
        excess, change = _excess(image, held.coef)
        if not bool(excess.any()):
            return
        matrices -= change @ block
        for row in _exceed(matrices, held.coef * (1 + _RTOL)).nonzero().flatten().tolist():
            matrices[row] -= _excess(matrices[row], held.coef)[1]
        for weight, pulled in zip(held.weights, matrices, strict=True):
            weight.copy_(pulled.view_as(weight))


@dataclass(frozen=True)
class SoftCap(Mode):
    """Press the whole spectrum of the stored weight down by a polynomial, the top to ``coef``.

    ``p(x) = q₊(q₋(x))`` with ``q₋(x) = x - αx³`` and ``q₊(x) = x + αx³`` acts on all singular
    values in products of matrices, without an SVD: ``p(x) = x - 3α²x⁵ + 3α³x⁷ - α⁴x⁹``. The
    strength ``α ≥ 0`` is the smallest with ``p(s) = coef`` for the largest singular value ``s``
    that can occur. Newhouse et al. bound it before training, by ``s = coef · (1 - weight decay) +
    the norm of an update``, as Muon allows. Adam's updates have no such bound, so here ``s`` is the
    tracked norm after the step, or ``coef`` where that is smaller: no more than necessary is
    pressed, and a weight below the coefficient is left alone.

    ``p`` rises as long as ``3αx² ≤ 1``, that is for ``s ≤ 1.306 · coef``. A weight above is first
    scaled down to ``1.3 · coef``, so that the order of the singular values stays.
    """

    name: ClassVar[str] = "soft_cap"
    summary: ClassVar[str] = (
        "bend the spectrum of the stored weight below coef: smaller values barely move"
    )
    source: ClassVar[str] = "Newhouse et al. 2025, spectral soft cap"

    @torch.no_grad()
    @products("highest")
    def hold(self, held: Held) -> None:
        """Apply ``p`` to the singular values; the vectors stay what they are."""
        sigma = held.sigma()
        if _is_known_zero((sigma - held.coef).clamp_min(0.0)):
            return
        _scale_down(held, 1.3 * held.coef)
        sigma = held.sigma().clamp_min(held.coef)
        alpha = (_strength(held.coef / sigma) / sigma.square())[:, None, None]
        matrix = held.matrices()
        for signed in (-alpha, alpha):
            # The product with the smaller side first.
            wide = matrix.shape[-2] < matrix.shape[-1]
            gram = matrix @ matrix.mT if wide else matrix.mT @ matrix
            matrix = matrix + signed * (gram @ matrix if wide else matrix @ gram)
        for weight, capped in zip(held.weights, matrix, strict=True):
            weight.copy_(capped.view_as(weight))


def _excess(matrix: Tensor, coef: Coef) -> tuple[Tensor, Tensor]:
    """The singular values' excess over a norm, and the part of a matrix that has it."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    excess = (values - coef).clamp_min(0.0)
    return excess, (left * excess.unsqueeze(-2)) @ right


def _exceed(matrices: Tensor, norm: Coef) -> Tensor:
    """Tell which matrices have a larger norm, to rounding; not those that are not finite.

    ``‖W‖₂ < norm`` if and only if ``norm² - WᵀW`` is positive definite.
    """
    scaled = matrices / norm
    wide = matrices.shape[-2] < matrices.shape[-1]
    gram = scaled @ scaled.mT if wide else scaled.mT @ scaled
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    fails: Tensor = torch.linalg.cholesky_ex(eye - gram).info != 0
    return fails & gram.isfinite().all(-1).all(-1)


def _scale_down(held: Held, coef: Coef) -> None:
    for weight, sigma in zip(held.weights, held.sigma(), strict=True):
        # A product with 1 where nothing is to be done: no value is read on the host.
        weight.mul_(torch.where(sigma > coef, coef / sigma, 1.0))


def _is_known_zero(excess: Tensor) -> bool:
    """Whether there is nothing to be done, where looking does not make the host wait."""
    return excess.device.type == "cpu" and not bool(excess.any())


def _strength(ratio: Tensor) -> Tensor:
    """Solve ``1 - 3a² + 3a³ - a⁴ = ratio`` for the smallest ``a ≥ 0``, ``0.766 < ratio ≤ 1``.

    That is ``p(s) = coef`` with ``a = αs²`` and ``ratio = coef/s``.
    """
    drop = 1 - ratio
    a = (drop / 3).sqrt()
    for _ in range(6):
        # Newton from the left of a convex, rising function.
        slope = a * (6 - 9 * a + 4 * a * a)
        a = a - (a * a * (3 - 3 * a + a * a) - drop) / torch.where(slope > 0, slope, 1.0)
    return a
