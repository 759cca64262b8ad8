"""Online critic and target of an actor-critic algorithm, stepped and averaged together."""

from contextlib import nullcontext
from typing import Any

import torch
from stable_baselines3.common.preprocessing import get_action_dim
from torch import Tensor, nn

from snrl.critics import SpectralCritic
from snrl.critics.stabilizers.redq import HeadSubset
from snrl.fast.batches import Batches
from snrl.fast.networks import Networks
from snrl.fast.steps import Average, step


class Critics:
    """The heads of a critic and of its target, with memory for a batch.

    Attributes:
        obs_dim: Columns of the observation in the heads' input.
        dtype: What the heads compute in.
        heads: The networks: those of the critic, and as a second group those of the target.
        ensemble: Which heads the target asks; None for all.
    """

    def __init__(self, model: Any, batch_size: int) -> None:
        """Take memory for a batch.

        Args:
            model: An SB3 model with ``critic`` and ``critic_target``.
            batch_size: Transitions in a batch.
        """
        critic, target = model.critic, model.critic_target
        groups = [[[*network] for network in x.q_networks] for x in (critic, target)]
        first = critic.q_networks[0][0]
        self.obs_dim = first.in_features - get_action_dim(model.action_space)
        self.dtype: torch.dtype = first.weight.dtype
        self.heads = Networks(groups, batch_size, from_column=self.obs_dim)
        # Not by the critics' own parameters(), which watches for changes by others.
        params, target_params = (list(nn.Module.parameters(x)) for x in (critic, target))
        self._average = Average(params, target_params)
        self._critic, self._target = critic, target
        self.ensemble: HeadSubset | None = getattr(target, "ensemble", None)
        spectral = getattr(model.policy, "spectral", None)
        self._together = nullcontext if spectral is None else spectral.together

    def split(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Observations and actions of inputs: views."""
        return rows[:, : self.obs_dim], rows[:, self.obs_dim :]

    def forward(self, batch: Batches) -> tuple[Tensor, Tensor]:
        """Evaluate the critic now, and the target on what follows.

        Args:
            batch: Transitions, with the next actions in them.

        Returns:
            Shape ``(k, batch, 1)`` each. Of an ensemble, every one of the target's is the least of
            those that were drawn.
        """
        values, next_values = self.heads.forward(batch.now, batch.next).chunk(2)
        if self.ensemble is not None:
            # The policy may be in evaluation mode: no layer of a fast update has one.
            drawn = self.ensemble.drawn(range(len(next_values)))
            next_values.copy_(next_values[drawn].amin(0, keepdim=True))
        return values, next_values

    def to_weights(self) -> None:
        """Send the heads' ``output_grads`` back to the critic's parameters."""
        # Somebody may have replaced or dropped them.
        self.heads.give_gradients()
        self.heads.backward(to_weights=True, to_input=False)

    def step(self, tau: float | None) -> None:
        """Step the critic's optimiser, and move the target.

        Args:
            tau: How far the target moves; None for not at all.
        """
        with self._together():
            step(self._critic.optimizer)
            if tau is not None:
                self._average.move(tau)
                if isinstance(self._target, SpectralCritic):
                    self._target.refresh()
