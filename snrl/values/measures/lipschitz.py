"""How steep the values are in the state and in the action."""

from collections.abc import Callable

import torch
from torch import Tensor


def input_gradient_norms(
    q: Callable[[Tensor, Tensor], Tensor], states: Tensor, actions: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute the norms of ``∂Q/∂s`` and ``∂Q/∂a`` at given states and actions.

    Each is a lower bound on the Lipschitz constant in that input (Euclidean norms), which
    ``snrl.critics.critic_lipschitz`` bounds from above.

    Args:
        q: The values of one critic, shape ``(n,)``, from states and actions. Each value depends on
            its own row alone, so not on statistics of the batch.
        states: Shape ``(n, …)``, as the critic sees them: normalised, floating-point. Not modified.
        actions: Scaled actions, shape ``(n, …)``. Not modified.

    Returns:
        ``‖∂Q/∂s‖₂`` and ``‖∂Q/∂a‖₂``, each of shape ``(n,)``, float64, in units of value per unit
        of state or action; without gradient. No ``.grad`` is written.
    """
    inputs = [states.detach().requires_grad_(), actions.detach().requires_grad_()]
    with torch.enable_grad():
        total = q(*inputs).sum()
    by_state, by_action = torch.autograd.grad(total, inputs, materialize_grads=True)
    return _row_norms(by_state), _row_norms(by_action)


def _row_norms(gradients: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(gradients.flatten(1), dim=1, dtype=torch.float64)
    return norms
