"""Actions of a policy for the training environments, without its modules."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from snrl.passes import operations as ops
from snrl.passes.networks import Joint, Networks
from snrl.passes.panels import Panels
from snrl.passes.tape import Tape, copies

# From what the actor's network gives to actions, with a slot for noise: operations of a tape.
Head = Callable[[Panels, int, Panels], ops.Operation]


class Player:
    """An actor for a fixed number of observations."""

    def __init__(
        self, network: Sequence[nn.Module | Joint], n: int, action_dim: int, head: Head
    ) -> None:
        """Take memory.

        Args:
            network: The actor's layers.
            n: Observations.
            action_dim: Columns of an action.
            head: What follows the last layer.
        """
        first = network[0].weight
        assert isinstance(first, Tensor)
        obs_dim, dtype = first.shape[1], first.dtype
        obs, actions = Panels(n, obs_dim, dtype), Panels(n, action_dim, dtype)
        networks = Networks([[network]], n, [obs], trained=False)
        self._shape, self._dtype, self._obs_dim = (n, action_dim), dtype, obs_dim
        self._kept = (networks, copies(networks.copies))
        self._tape = Tape(n, dtype, 0)
        self._tape.slot(5)
        if networks.copies:
            self._tape.once([ops.join(self._kept[1])])
        self._tape.on_panels(
            [
                ops.load(0, obs, obs_dim),
                ops.forward(networks.groups[0]),
                head(networks.outputs[0][0], 4, actions),
                ops.store(2, actions, action_dim),
            ]
        )

    def __call__(self, obs: Tensor, *, noisy: bool) -> Tensor:
        """Compute actions scaled to [-1, 1].

        Args:
            obs: Shape ``(n, obs_dim)``, contiguous and of the network's dtype.
            noisy: Whether the head reads noise: drawn from torch's global generator.
        """
        action_dim = self._shape[1]
        actions = torch.empty(self._shape, dtype=self._dtype, device="cpu")
        noise = torch.empty_like(actions).normal_() if noisy else actions
        inputs = (obs.data_ptr(), self._obs_dim, actions.data_ptr(), action_dim, noise.data_ptr())
        self._tape.run(np.array([inputs], dtype=np.int64))
        return actions


def mode(x: Panels, _: int, to: Panels) -> ops.Operation:
    """Actions that are ``tanh`` of as many first outputs."""
    return ops.Tanh(x, to, 0, to.features).forward()


def drawn(parameters: Panels, noise: int, to: Panels) -> ops.Operation:
    """Actions drawn from a policy's mean and log_std."""
    return ops.Squash(parameters, noise, to).forward()
