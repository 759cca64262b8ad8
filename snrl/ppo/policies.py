"""PPO policies whose value network is spectrally normalised, drop-in for SB3's."""

import copy
from collections.abc import Mapping
from typing import Any

from stable_baselines3 import PPO
from stable_baselines3.common import policies as sb3
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from snrl.critics.fold import class_after, not_copied
from snrl.critics.policy import normalizer_of
from snrl.spectral.coefficient import CoefOption
from snrl.spectral.layers import normalizable_layers
from snrl.spectral.modes import Mode
from snrl.spectral.normalize import fold_in_place, fold_spectral_norm
from snrl.spectral.selection import LayerSelection, select_layers


class SNPPOPolicy(sb3.ActorCriticPolicy):
    """SB3's ``ActorCriticPolicy`` with layers of its value network held to a spectral norm.

    There is no target that could be forgotten: a :class:`SpectralNormalizer`, ``policy.spectral``,
    follows the one optimiser. The actor, and the features extractor, which the two may share, stay
    as they are. SB3 clips the gradients of actor and value network by their joint norm, so that
    what SN does to the latter has a part in how far the actor's are clipped.

    Args:
        *args: Those of the SB3 policy.
        sn_layers: Layers of the value network that are normalised: negative indices counted from
            the output (-1), ``"hidden"`` (all but first and output), or ``"all"``.
        sn_coef: The norm each of them is held to; or ``(start, end, steps)``, to go linearly from
            one to another over a number of steps of the optimiser.
        sn_mode: How they are held: a name of ``snrl.spectral.modes.MODES``, or a mode.
        sn_mode_options: Options of the mode that is named.
        n_power_iterations: Steps at each change of the weights; more are taken where needed.
        block_size: Number of vectors iterated together.
        **kwargs: Those of the SB3 policy.

    Raises:
        ValueError: If an option does not fit the network; the message says what does.
    """

    def __init__(
        self,
        *args: Any,
        sn_layers: LayerSelection = (-2,),
        sn_coef: CoefOption = 1.0,
        sn_mode: str | Mode = "normalize",
        sn_mode_options: Mapping[str, Any] | None = None,
        n_power_iterations: int = 1,
        block_size: int = 4,
        **kwargs: Any,
    ) -> None:
        """Build the SB3 policy and normalise its value network."""
        # Set before SB3's constructor, because that is what calls _build.
        self.own_kwargs: dict[str, Any] = {
            "sn_layers": tuple(sn_layers) if isinstance(sn_layers, list) else sn_layers,
            "sn_coef": tuple(sn_coef) if isinstance(sn_coef, list) else sn_coef,
            "sn_mode": sn_mode,
            "sn_mode_options": sn_mode_options,
            "n_power_iterations": n_power_iterations,
            "block_size": block_size,
        }
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        # Fails on a bad option before the networks are built.
        spectral = normalizer_of(self.own_kwargs)
        super()._build(lr_schedule)
        network = nn.Sequential(*self.mlp_extractor.value_net, self.value_net)
        layers = normalizable_layers(network)
        chosen = [layers[i] for i in select_layers(self.own_kwargs["sn_layers"], len(layers))]
        normalized = spectral.add(chosen, [network])
        if spectral.mode.learns_gain:
            self.optimizer.add_param_group({"params": [layer.gain for layer in normalized]})
        # Registered last, so that saved vectors are loaded after the weights they belong to.
        self.spectral = spectral

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self.own_kwargs}


class CnnPolicy(SNPPOPolicy, sb3.ActorCriticCnnPolicy):
    """SB3's ``ActorCriticCnnPolicy`` with the options of :class:`SNPPOPolicy`."""


class MultiInputPolicy(SNPPOPolicy, sb3.MultiInputActorCriticPolicy):
    """SB3's ``MultiInputActorCriticPolicy`` with the options of :class:`SNPPOPolicy`."""


MlpPolicy = SNPPOPolicy


@fold_spectral_norm.register
def _fold_ppo(model: PPO) -> PPO:
    shared = (model.env, model._vec_normalize_env, vars(model).get("_logger"))
    memo = {id(part): part for part in shared if part is not None}
    plain = copy.deepcopy(model, memo | not_copied(model.policy))
    policy = plain.policy
    if isinstance(policy, SNPPOPolicy):
        options = policy.own_kwargs
        rate = policy.optimizer.param_groups[0]["lr"]
        fold_in_place(policy)
        del policy.own_kwargs
        policy.__class__ = class_after(type(policy), SNPPOPolicy)
        plain.policy_class = type(policy)
        plain.policy_kwargs = {k: v for k, v in plain.policy_kwargs.items() if k not in options}
        # Moments of the raw weights mean nothing for the baked ones.
        policy.optimizer = policy.optimizer_class(
            policy.parameters(),
            lr=rate,  # type: ignore[call-arg]
            **policy.optimizer_kwargs,
        )
    return plain
