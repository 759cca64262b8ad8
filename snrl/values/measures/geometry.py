"""How the slope in which a policy climbs turns with the state and with the action."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Geometry(NamedTuple):
    """Second derivatives of a critic, at each of ``n`` states and actions: float64, shape ``(n,)``.

    Attributes:
        mixed: Largest singular value of ``∂²Q/∂s∂a``, in units of value per unit of state and of
            action: how fast the slope in the action turns with the state. PAVE's ``M``.
        action: Largest absolute eigenvalue of ``∂²Q/∂a²``, in units of value per action². PAVE's
            ``μ`` is another one of the same matrix: its largest with sign, without the sign, where
            ``Q`` is concave in the action. For one action they are the same.
    """

    mixed: Tensor
    action: Tensor


def geometry(q: Callable[[Tensor, Tensor], Tensor], states: Tensor, actions: Tensor) -> Geometry:
    """Compute the geometry of a critic (Lee et al. 2026, PAVE, section 4), exactly.

    A network of linear layers and ReLUs is piecewise linear in its inputs: all its second
    derivatives are zero but on the kinks, which autograd does not see, so both results are zero and
    say nothing of how its slope turns. (PAVE trains all its critics with SiLU.)

    Args:
        q: The values of one critic, shape ``(n,)``, from states and actions; twice differentiable
            by autograd. Each value depends on its own row alone, so not on statistics of the batch.
        states: Shape ``(n, …)``, as the critic sees them: normalised, floating-point. Not modified.
        actions: Scaled actions, shape ``(n, k)``. Not modified.

    Returns:
        The geometry at each state, without gradient; NaN where a derivative is not finite. No
        ``.grad`` is written. The cost is that of ``k + 1`` gradients of the batch.
    """
    inputs = [states.detach().requires_grad_(), actions.detach().requires_grad_()]
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(
            q(*inputs).sum(), inputs[1], create_graph=True, materialize_grads=True
        )
        columns = slope.sum(0).unbind()
    if not slope.requires_grad:  # Q is linear in both, and the slope constant.
        zeros = torch.zeros(len(actions), dtype=torch.float64, device=actions.device)
        return Geometry(zeros, zeros.clone())
    rows = [
        torch.autograd.grad(column, inputs, retain_graph=True, materialize_grads=True)
        for column in columns
    ]
    mixed = torch.stack([by_state.flatten(1) for by_state, _ in rows], 1).double()
    curvature = torch.stack([by_action for _, by_action in rows], 1).double()
    # The squares of the smaller side: exact enough for the largest, far cheaper than an SVD each.
    gram = mixed @ mixed.mT if mixed.shape[1] <= mixed.shape[2] else mixed.mT @ mixed
    return Geometry(_extreme(gram).sqrt(), _extreme((curvature + curvature.mT) / 2))


def _extreme(matrices: Tensor) -> Tensor:
    """Largest absolute eigenvalue of each symmetric matrix; NaN where an entry is not finite."""
    finite = matrices.isfinite().flatten(1).all(1)
    extreme: Tensor = (
        torch.linalg.eigvalsh(matrices.where(finite[:, None, None], 0.0)).abs().amax(1)
    )
    return extreme.where(finite, torch.nan)
