"""What stands between the networks of an actor-critic update, a call of C each."""

import torch
from torch import Tensor

from snrl.spectral.native import library

# SB3's, and that of the C functions.
EPSILON = 1e-6


class SquashedGaussian:
    """Actions ``tanh(mean + std · noise)`` and their log-probabilities.

    As SB3's ``SquashedDiagGaussianDistribution`` has them (Haarnoja et al. 2018, appendix C):
    ``log π(a) = Σ log N(g; mean, std) - log(1 - a² + 1e-6)`` with ``g = mean + std · noise`` and
    ``std = exp(clamp(log_std, -20, 2))``.

    Attributes:
        log_prob: Shape ``(batch,)``.
        mean_log_prob: Their mean.
    """

    def __init__(self, batch_size: int, action_dim: int, dtype: torch.dtype) -> None:
        """Take memory for a batch."""
        self._spread = torch.empty(batch_size, action_dim, dtype=dtype)
        self.log_prob = torch.empty(batch_size, dtype=dtype)
        self.mean_log_prob = 0.0

    def act(self, parameters: Tensor, actions: Tensor) -> None:
        """Draw actions, with noise from torch's global generator.

        Args:
            parameters: Mean and ``log_std`` side by side, shape ``(batch, 2 · action_dim)``.
            actions: Takes the actions, shape ``(batch, action_dim)``, rows at any distance.
                Mutated.
        """
        batch_size, action_dim = actions.shape
        total: float = library().act(
            actions.dtype is torch.float64,
            parameters.data_ptr(),
            self._spread.normal_().data_ptr(),
            *(actions.data_ptr(), actions.stride(0), self.log_prob.data_ptr()),
            *(batch_size, action_dim),
        )
        self.mean_log_prob = total / batch_size

    def backward(
        self,
        parameters: Tensor,
        actions: Tensor,
        to_actions: Tensor,
        to_log_prob: float,
        grads: Tensor,
    ) -> None:
        """Compute the gradients of ``parameters``.

        Args:
            parameters: As they were given to :meth:`act`.
            actions: As they were found.
            to_actions: Gradients of the actions, to be added up, shape
                ``(k, batch, action_dim)``.
            to_log_prob: Gradient of each log-probability.
            grads: Takes the gradients, in the shape of ``parameters``. Mutated.
        """
        library().act_backward(
            actions.dtype is torch.float64,
            *(parameters.data_ptr(), self._spread.data_ptr()),
            *(actions.data_ptr(), actions.stride(0)),
            *(to_actions.data_ptr(), len(to_actions), to_log_prob, grads.data_ptr()),
            *actions.shape,
        )


def temporal_differences(
    values: Tensor,
    next_values: Tensor,
    rewards: Tensor,
    discounts: Tensor,
    share: float,
    grads: Tensor,
    log_prob: Tensor | None = None,
    ent_coef: float = 0.0,
) -> float:
    """Compare values with ``reward + discount · (min next_values - ent_coef · log_prob)``.

    Args:
        values: Shape ``(k, batch, 1)``.
        next_values: Those of the target, of the same shape.
        rewards: Shape ``(batch,)``.
        discounts: Likewise.
        share: What the differences are multiplied by to be gradients.
        grads: Takes those, in the shape of ``values``. Mutated.
        log_prob: Log-probabilities of the next actions, shape ``(batch,)``.
        ent_coef: Entropy coefficient.

    Returns:
        The sum of the squared differences.
    """
    squares: float = library().temporal_differences(
        values.dtype is torch.float64,
        *(values.data_ptr(), next_values.data_ptr(), len(values)),
        *(None if log_prob is None else log_prob.data_ptr(), ent_coef),
        *(rewards.data_ptr(), discounts.data_ptr(), share, grads.data_ptr(), len(rewards)),
    )
    return squares


def least(values: Tensor, share: float, grads: Tensor) -> float:
    """Take the least value of each column.

    Args:
        values: Shape ``(k, batch, 1)``.
        share: Gradient of each of the least values.
        grads: Takes it in their places, and 0 elsewhere. Mutated.

    Returns:
        The sum of the least values.
    """
    k, batch_size, _ = values.shape
    total: float = library().least(
        *(values.dtype is torch.float64, values.data_ptr(), k),
        *(share, grads.data_ptr(), batch_size),
    )
    return total
