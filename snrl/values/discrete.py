"""The probe of DQN: one critic that gives a value for each of a few actions."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from snrl.values.measures.divergence import huber_loss_bound
from snrl.values.probe import Observations, Probe, Transitions


class DiscreteProbe(Probe):
    """Reads a model whose critic does not read the action; changes nothing in it.

    Actions are their numbers, shape ``(n, 1)``. The policy that is judged is the greedy one, which
    the targets are of, and not the one that explores. There is no slope in the action.
    """

    loss_key = "train/loss"

    @property
    def learning_rate(self) -> float:
        """Of the critic's optimiser, now."""
        return float(self.policy.optimizer.param_groups[0]["lr"])

    def loss_bound(self, bound: float) -> float:
        """Bound the loss that training logs, given a bound of values and targets."""
        return huber_loss_bound(bound)

    def act(self, observations: Observations) -> tuple[Tensor, Tensor]:
        """Choose the greedy actions; draws nothing.

        Args:
            observations: First dimension ``n``.

        Returns:
            The actions' numbers, floating-point, ``(n, 1)``, and zeros, ``(n,)``.
        """
        values: Tensor = self.critic(observations)
        return values.argmax(dim=1, keepdim=True).to(values.dtype), values.new_zeros(len(values))

    def to_env(self, actions: Tensor) -> np.ndarray:
        """Give actions as an environment takes them: integers, ``(n,)``."""
        return actions.long().reshape(-1).cpu().numpy()

    def heads(self, critic: Any, observations: Observations, actions: Tensor) -> Tensor:
        """Evaluate the critic at the actions.

        Returns:
            Shape ``(1, n)``. Gradients flow to observations and parameters.
        """
        return self._at(critic(observations), actions)[None]

    @torch.no_grad()
    def targets(self, batch: Transitions) -> Tensor:
        """What DQN's update moves the values of a batch towards.

        Returns:
            ``r + γ max_a Q_target(s', a)``, shape ``(n, 1)``.
        """
        values: Tensor = self.critic_target(batch.next_observations).max(dim=1, keepdim=True)[0]
        return batch.rewards[:, None] + ((1 - batch.dones) * batch.discounts)[:, None] * values

    def critic_loss(self, batch: Transitions, targets: Tensor) -> Tensor:
        """DQN's loss for given targets: Huber's, whose gradient is bounded.

        Args:
            batch: The transitions.
            targets: Those of :meth:`targets`.

        Returns:
            A scalar, before gradients are clipped. The gradient flows to the critic's parameters.
        """
        values = self.heads(self.critic, batch.observations, batch.actions)[0]
        return F.smooth_l1_loss(values, targets[:, 0])

    def _inputs(self, observations: Observations, actions: Tensor) -> Tensor:  # noqa: ARG002
        features: Tensor = self.critic.extract_features(
            observations, self.critic.features_extractor
        )
        return features

    def _at(self, output: Tensor, actions: Tensor) -> Tensor:
        return output.gather(1, actions.long())[:, 0]
