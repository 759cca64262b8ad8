"""TQC policies with spectrally-normalised critics, drop-in for sb3-contrib's."""

from typing import ClassVar

import torch
from sb3_contrib.tqc import policies as contrib
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor, nn

from snrl.critics import access
from snrl.critics.critic import ComposedCritic
from snrl.critics.policy import SpectralPolicy


class QuantileCritic(ComposedCritic, contrib.Critic):
    """TQC's critic with composed heads, all of them in one product; each gives quantiles."""

    q_networks: list[nn.Sequential]

    def forward(self, obs: PyTorchObs, action: Tensor) -> Tensor:
        """Evaluate all critics.

        Args:
            obs: Observations as the replay buffer holds them, first dimension the batch.
            action: Actions scaled to [-1, 1], shape ``(batch, action_dim)``.

        Returns:
            Quantiles, shape ``(batch, n_critics, n_quantiles)``. Gradients flow as in sb3-contrib:
            not into a shared features extractor. No state changes.
        """
        x = torch.cat([access.features(self, obs), action], dim=1)
        return torch.stack(self.evaluate(self.q_networks, x), dim=1)


class _Quantiles(SpectralPolicy):
    critic_class: ClassVar[type[ComposedCritic]] = QuantileCritic


class SNTQCPolicy(_Quantiles, contrib.TQCPolicy):
    """sb3-contrib's ``TQCPolicy`` with the options of :class:`SpectralPolicy`."""


class CnnPolicy(_Quantiles, contrib.CnnPolicy):
    """sb3-contrib's TQC ``CnnPolicy`` with the options of :class:`SpectralPolicy`."""


class MultiInputPolicy(_Quantiles, contrib.MultiInputPolicy):
    """sb3-contrib's TQC ``MultiInputPolicy`` with the options of :class:`SpectralPolicy`."""


MlpPolicy = SNTQCPolicy
