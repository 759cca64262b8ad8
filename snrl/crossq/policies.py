"""CrossQ's policy with spectrally-normalised critics, drop-in for sb3-contrib's."""

from typing import ClassVar

import torch
from gymnasium import spaces
from sb3_contrib.crossq import policies as contrib
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from snrl.critics import access
from snrl.critics.critic import ComposedCritic
from snrl.critics.policy import SpectralPolicy


class BatchNormCritic(ComposedCritic, contrib.CrossQCritic):
    """CrossQ's critic with composed heads.

    Its batch renormalisations stand where they are, before each linear layer; a layer's norm is
    held, not that of the layer together with the scale its norm gives it.
    """

    q_networks: list[nn.Sequential]  # type: ignore[assignment]

    def forward(self, obs: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
        """Evaluate all critics.

        Args:
            obs: Observations as the replay buffer holds them; in the critic's loss those of a
                batch, and then the next ones.
            actions: Actions scaled to [-1, 1], shape ``(batch, action_dim)``.

        Returns:
            One tensor of shape ``(batch, 1)`` for each critic. Gradients flow as in sb3-contrib:
            not into a shared features extractor. The norms' statistics move while these train.
        """
        return self.evaluate(
            self.q_networks, torch.cat([access.features(self, obs), actions], dim=1)
        )


class SNCrossQPolicy(SpectralPolicy, contrib.CrossQPolicy):
    """sb3-contrib's ``CrossQPolicy`` with the options of :class:`SpectralPolicy`.

    There is no target critic to normalise. As in sb3-contrib, there is no policy for images or for
    Dict observations.
    """

    critic_class: ClassVar[type[ComposedCritic]] = BatchNormCritic
    joint_forward: ClassVar[bool] = True

    def _build(self, lr_schedule: Schedule) -> None:
        if isinstance(self.observation_space, spaces.Dict):
            raise ValueError("CrossQ evaluates two batches as one, which Dict observations are not")
        super()._build(lr_schedule)


MlpPolicy = SNCrossQPolicy
