"""DQN policies with spectrally-normalised Q-networks, drop-in for SB3's."""

from collections.abc import Mapping
from typing import Any, ClassVar

from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.dqn import policies as sb3
from torch import Tensor, nn

from snrl.critics import access
from snrl.critics.critic import ComposedCritic
from snrl.critics.policy import SpectralPolicy, compose
from snrl.spectral.normalize import fold_spectral_norm


class SpectralQNetwork(ComposedCritic, sb3.QNetwork):
    """SB3's ``QNetwork`` with a composed head, in which layers are counted to the pixels.

    SB3's network for images has no hidden layer of its own: its features extractor, which it shares
    with nobody, has the last one. So ``sn_layers`` counts on through the extractor's layers, in the
    order of their registration (convolutions by their reshaped kernel), and the default is the last
    hidden layer here too, as in Gogianu et al. 2021.

    Args:
        *args: Those of SB3's.
        own_kwargs: Options of :class:`SpectralPolicy` to compose it by, where no policy does.
        **kwargs: Those of SB3's.
    """

    q_net: nn.Sequential

    def __init__(
        self, *args: Any, own_kwargs: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Build SB3's network, composed if there are options."""
        super().__init__(*args, **kwargs)
        if own_kwargs is not None:
            compose(self, own_kwargs)

    def counted(self, network: nn.Sequential) -> nn.Module:
        """Give what holds the layers to choose from: extractor and head."""
        return nn.ModuleList([self.features_extractor, network])

    def forward(self, obs: PyTorchObs) -> Tensor:
        """Evaluate the network.

        Args:
            obs: Observations as the replay buffer holds them, first dimension the batch.

        Returns:
            Values of all actions, shape ``(batch, n_actions)``. No state changes.
        """
        (values,) = self.evaluate([self.q_net], access.features(self, obs))
        return values

    def _get_constructor_parameters(self) -> dict[str, Any]:
        parameters = super()._get_constructor_parameters()
        # Whoever composes it anew takes plain layers; the weights come from the state dict.
        parameters["features_extractor"] = fold_spectral_norm(self.features_extractor)
        return {**parameters, "own_kwargs": self.own_kwargs}


class _QNetworks(SpectralPolicy):
    critic_class: ClassVar[type[ComposedCritic]] = SpectralQNetwork

    def make_q_net(self) -> Any:
        """Build a Q-network as SB3 does, of the class that can be composed; SB3's own for none."""
        if not self.stabilizers:
            return super().make_q_net()  # type: ignore[misc]
        net_args: dict[str, Any] = self.net_args  # type: ignore[assignment]
        return self._composed(**self._update_features_extractor(net_args, None))


class SNDQNPolicy(_QNetworks, sb3.DQNPolicy):
    """SB3's ``DQNPolicy`` with the options of :class:`SpectralPolicy`."""


class CnnPolicy(_QNetworks, sb3.CnnPolicy):
    """SB3's DQN ``CnnPolicy`` with the options of :class:`SpectralPolicy`."""


class MultiInputPolicy(_QNetworks, sb3.MultiInputPolicy):
    """SB3's DQN ``MultiInputPolicy`` with the options of :class:`SpectralPolicy`."""


MlpPolicy = SNDQNPolicy
