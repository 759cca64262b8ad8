"""What turns an SB3 policy with a continuous critic into one with a normalised critic."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy, ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from stable_baselines3.common.type_aliases import Schedule

from snrl.critics.critic import SpectralCritic
from snrl.spectral import SpectralNormalizer
from snrl.spectral.coefficient import CoefOption
from snrl.spectral.modes import Mode
from snrl.spectral.selection import LayerSelection


class SpectralPolicy(BasePolicy):
    """Mixin, placed before an SB3 policy class: its critic and target are spectrally normalised.

    One :class:`SpectralNormalizer`, ``policy.spectral``, serves both. It follows the critic's
    optimiser, and the target's averaging through :meth:`SpectralCritic.parameters`; it draws no
    random number, so that weights and exploration are those of the plain policy with the same
    seed. Saved policies hold SB3's keys plus ``spectral.*``; those of a plain policy load too.

    Args:
        *args: Those of the SB3 policy.
        sn_layers: Layers of each critic head that are normalised: negative indices counted from
            the output (-1), ``"hidden"`` (all but first and output), or ``"all"``. The default is
            the last hidden layer, as in Gogianu et al. 2021.
        sn_coef: The norm each of them is held to; or ``(start, end, steps)``, to go linearly from
            one to another over a number of steps of the critic's optimiser.
        sn_mode: How they are held: a name of ``snrl.spectral.modes.MODES``, or a mode.
        sn_mode_options: Options of the mode that is named.
        n_power_iterations: Steps at each change of the weights; more are taken where needed.
        block_size: Number of vectors iterated together.
        sn_features: Whether the linear and convolution layers of the critic's own features
            extractor are normalised as well (convolutions by their reshaped kernel).
        **kwargs: Those of the SB3 policy.

    Raises:
        ValueError: If an option does not fit the network; the message says what does.
    """

    critic: ContinuousCritic
    critic_target: ContinuousCritic
    critic_kwargs: dict[str, Any]
    share_features_extractor: bool

    def __init__(
        self,
        *args: Any,
        sn_layers: LayerSelection = (-2,),
        sn_coef: CoefOption = 1.0,
        sn_mode: str | Mode = "normalize",
        sn_mode_options: Mapping[str, Any] | None = None,
        n_power_iterations: int = 1,
        block_size: int = 4,
        sn_features: bool = False,
        **kwargs: Any,
    ) -> None:
        """Build the SB3 policy and normalise its critic and target."""
        # Set before SB3's constructor, because that is what calls _build.
        self.sn_kwargs: dict[str, Any] = {
            "sn_layers": tuple(sn_layers) if isinstance(sn_layers, list) else sn_layers,
            "sn_coef": tuple(sn_coef) if isinstance(sn_coef, list) else sn_coef,
            "sn_mode": sn_mode,
            "sn_mode_options": sn_mode_options,
            "n_power_iterations": n_power_iterations,
            "block_size": block_size,
            "sn_features": sn_features,
        }
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        if isinstance(self.observation_space, spaces.Dict) and (
            self.features_extractor_class is FlattenExtractor
        ):
            raise ValueError("a Dict observation space needs SNMultiInputPolicy")
        if self.sn_kwargs["sn_features"] and self.share_features_extractor:
            raise ValueError(
                "sn_features=True needs a features extractor that the critic owns, "
                "got share_features_extractor=True"
            )
        # Fails on a bad option before the networks are built.
        spectral = SpectralNormalizer(
            self.sn_kwargs["sn_coef"],
            self.sn_kwargs["n_power_iterations"],
            self.sn_kwargs["block_size"],
            self.sn_kwargs["sn_mode"],
            self.sn_kwargs["sn_mode_options"],
        )
        super()._build(lr_schedule)  # type: ignore[misc]
        for critic in (self.critic, self.critic_target):
            assert isinstance(critic, SpectralCritic)
            critic.normalize(spectral, self.sn_kwargs["sn_layers"], self.sn_kwargs["sn_features"])
            critic.is_target = critic is self.critic_target
        if spectral.mode.learns_gain:
            assert isinstance(self.critic, SpectralCritic)
            optimizer = self.critic.optimizer
            optimizer.add_param_group({"params": [x.gain for x in self.critic.normalized]})
            optimizer.register_load_state_dict_pre_hook(_add_missing_group)
        # Registered last, so that saved vectors are loaded after the weights they belong to.
        self.spectral = spectral

    def make_critic(
        self, features_extractor: BaseFeaturesExtractor | None = None
    ) -> SpectralCritic:
        """Build a critic as SB3 does, of the class that can be normalised."""
        kwargs = self._update_features_extractor(self.critic_kwargs, features_extractor)
        return SpectralCritic(**kwargs).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self.sn_kwargs}

    def load_from_vector(self, vector: np.ndarray) -> None:
        """Load the parameters from a 1D array, as SB3 does, and compute the vectors anew."""
        super().load_from_vector(vector)
        self.spectral.reset()


def _add_missing_group(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Complete the optimiser state of a plain critic, which has no group of gains."""
    own, saved = optimizer.state_dict()["param_groups"], state["param_groups"]
    if len(saved) != len(own) - 1:
        return state
    first = sum(len(group["params"]) for group in saved)
    gains = {**own[-1], "params": [first + i for i in range(len(own[-1]["params"]))]}
    return {**state, "param_groups": [*saved, gains]}
