"""Actions of a policy for the training environments, as one launch."""

from collections.abc import Callable

import torch
from torch import Tensor

from snrl.fast.gpu.graph import Graph
from snrl.fast.gpu.staging import Staging


class Player:
    """An actor for a fixed number of observations."""

    def __init__(
        self, act: Callable[[Tensor], Tensor], obs: Tensor, dtype: torch.dtype, device: torch.device
    ) -> None:
        """Take memory.

        Args:
            act: From observations to actions scaled to [-1, 1]; to be recorded.
            obs: Observations like those to come, shape ``(n, obs_dim)``.
            dtype: What the actor computes in.
            device: Where.
        """
        self._staging = Staging(obs.shape, dtype, device)
        self._obs = torch.empty(obs.shape, dtype=dtype, device=device)
        self._act = act
        self._actions: Tensor | None = None
        self._graph = Graph(self._work, device)

    def __call__(self, obs: Tensor) -> Tensor:
        """Compute the actions, on the CPU.

        Args:
            obs: Shape ``(n, obs_dim)``, on the CPU.
        """
        self._staging.take().copy_(obs)
        self._staging.send(self._obs)
        self._graph()
        assert self._actions is not None
        return self._actions.to("cpu", copy=True)

    def _work(self) -> None:
        actions = self._act(self._obs)
        # The first call is not recorded.
        if self._actions is None:
            self._actions = torch.empty_like(actions)
        self._actions.copy_(actions)
