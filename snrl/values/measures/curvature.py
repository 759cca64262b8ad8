"""How curved a loss is in the weights: extreme eigenvalues of its Hessian."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ExtremeEigenvalues:
    """What Lanczos steps tell of a symmetric matrix ``H``.

    Its Ritz values ``θ_i`` lie between the smallest and the largest eigenvalue of ``H``, and within
    ``residual_i`` of each there is one. The outer ones converge in few steps. Those next to zero do
    not, in a spectrum that has both signs or most of its mass there, as a network's; a condition
    number taken from them as they are would grow with the steps. So what is stated is what is
    proven, up to the rounding of the products.

    Attributes:
        largest: ``max |θ_i|``: a lower bound on the largest absolute eigenvalue, and close to one
            of them.
        error: The residual of ``largest``: there is an eigenvalue as near as that.
        smallest: ``min (|θ_i| + residual_i)``: an upper bound on the smallest absolute eigenvalue,
            but never below ``ε largest``, with ``ε`` of the dtype, which products cannot resolve.
        condition_number: ``largest / smallest``: a lower bound on ``max |λ| / min |λ|`` (XQC,
            Palenicek et al. 2025, section 3), at most ``1/ε``, which stands for singular; NaN for a
            zero matrix.
    """

    largest: float
    error: float
    smallest: float
    condition_number: float


@torch.no_grad()
def extreme_eigenvalues(
    product: Callable[[Tensor], Tensor], start: Tensor, steps: int
) -> ExtremeEigenvalues:
    """Find the extreme eigenvalues of a symmetric matrix by Lanczos, fully reorthogonalised.

    Args:
        product: ``v ↦ H v``, from and to shape ``(dim,)``, ``H`` symmetric.
        start: Starting vector, shape ``(dim,)``, drawn at random: eigenvalues whose eigenvectors
            it has no part of are not found. Not modified.
        steps: Products to take; fewer where they span an invariant subspace before, or all of the
            space after ``dim``.

    Returns:
        The eigenvalues, NaN where a product is not finite.

    Raises:
        ValueError: If ``start`` is zero or not finite, or ``steps`` less than 1.
    """
    length = torch.linalg.vector_norm(start)
    if steps < 1 or not (length > 0 and length.isfinite()):
        raise ValueError(f"need a step and a start with a length, got {steps} and {length.item()}")
    steps = min(steps, len(start))
    eps = torch.finfo(start.dtype).eps
    basis = start.new_zeros(steps, len(start))
    basis[0] = start / length
    tridiagonal = torch.zeros(steps, steps, dtype=torch.float64)
    last = 0.0
    for step in range(steps):
        image = product(basis[step])
        scale = torch.linalg.vector_norm(image)
        tridiagonal[step, step] = torch.dot(basis[step], image).double().cpu()
        known = basis[: step + 1]
        for _ in range(2):  # Twice is enough to be orthogonal to rounding (Parlett).
            image = image - known.mT @ (known @ image)
        last_norm = torch.linalg.vector_norm(image)
        last, size = torch.stack((last_norm, scale)).double().tolist()
        if not last < float("inf"):
            nan = float("nan")
            return ExtremeEigenvalues(nan, nan, nan, nan)
        # What is left of an image within the subspace is its rounding error.
        if last <= 10 * eps * size:
            tridiagonal, last = tridiagonal[: step + 1, : step + 1], 0.0
            break
        if step + 1 < steps:
            basis[step + 1] = image / last_norm
            tridiagonal[step, step + 1] = tridiagonal[step + 1, step] = last
    ritz, vectors = torch.linalg.eigh(tridiagonal)
    residuals = last * vectors[-1].abs()
    top = int(ritz.abs().argmax())
    largest, error = ritz[top].abs().item(), residuals[top].item()
    smallest = max((ritz.abs() + residuals).min().item(), eps * largest)
    condition = largest / smallest if smallest else float("nan")
    return ExtremeEigenvalues(largest, error, smallest, condition)


def loss_curvature(
    loss: Callable[[], Tensor], params: Sequence[Tensor], *, steps: int, generator: torch.Generator
) -> ExtremeEigenvalues:
    """Measure the curvature of a loss: extreme eigenvalues of its Hessian in the parameters.

    Of a spectrally-normalised layer it is the Hessian with the singular vectors held, as they are
    in its forward: that they turn with the weight is second order in ``sigma``, and not seen.

    Args:
        loss: Computes the loss, a scalar, from the parameters as they are, on a fixed batch with
            fixed targets. Called once, with gradients enabled; twice differentiable by autograd.
        params: The parameters, which require gradients. Not modified, nor is their ``.grad``.
        steps: Hessian-vector products to take, each about the cost of two gradients.
        generator: Draws the starting vector; on any device.

    Returns:
        The eigenvalues, of the loss's unit per weight².

    Raises:
        ValueError: If ``steps`` is less than 1.
    """
    with torch.enable_grad():
        gradients = torch.autograd.grad(loss(), params, create_graph=True, materialize_grads=True)
        gradient = torch.cat([part.flatten() for part in gradients])

    def product(vector: Tensor) -> Tensor:
        if not gradient.requires_grad:  # The loss is linear.
            return torch.zeros_like(vector)
        parts = torch.autograd.grad(
            gradient, params, vector, retain_graph=True, materialize_grads=True
        )
        return torch.cat([part.flatten() for part in parts])

    start = torch.randn(
        len(gradient), dtype=gradient.dtype, device=generator.device, generator=generator
    )
    return extreme_eigenvalues(product, start.to(gradient.device), steps)
