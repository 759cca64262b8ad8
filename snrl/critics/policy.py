"""What turns an SB3 policy with a critic into one whose critic is composed of stabilisers."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel, BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import nn
from torch.optim import Optimizer

from snrl.critics.access import critic_of
from snrl.critics.critic import ComposedCritic, SpectralCritic
from snrl.critics.randomness import reseed
from snrl.critics.stabilizers import Place, Stabilizer, resolve_critic
from snrl.spectral import SpectralNormalizer
from snrl.spectral.coefficient import CoefOption
from snrl.spectral.modes import Mode
from snrl.spectral.selection import LayerSelection


class SpectralPolicy(BasePolicy):
    """Mixin, placed before an SB3 policy class: its critic and target have stabilisers.

    By default they are spectrally normalised, and nothing else. One :class:`SpectralNormalizer`,
    ``policy.spectral``, serves both. It follows the critic's optimiser, and the target's averaging
    through :meth:`ComposedCritic.parameters`. No stabiliser draws from the global generator, so
    that weights and exploration are those of the plain policy with the same seed. Saved policies
    hold SB3's keys plus ``spectral.*``, where nothing stands between the layers; those of a plain
    policy then load too.

    Args:
        *args: Those of the SB3 policy.
        critic: Names of ``snrl.critics.stabilizers.STABILIZERS`` joined by ``+``; ``"plain"`` for
            SB3's own critic.
        critic_options: Options of those stabilisers, by their name; ``sn`` has the next ones.
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

    Attributes:
        critic_class: What is composed.
        joint_forward: Whether the algorithm evaluates ``(s, a)`` and ``(s', a')`` in one batch and
            without a target critic, so that statistics of a batch are those of both.
        stabilizers: What the critic is composed of, in this order.
        spectral: The normalizer; None without ``sn``.
        followers: What acts around the steps of the critic's optimiser, by its stabiliser's name.

    Raises:
        ValueError: If an option does not fit the network; the message says what does.
    """

    critic_class: ClassVar[type[ComposedCritic]] = SpectralCritic
    joint_forward: ClassVar[bool] = False
    critic: Any
    critic_target: Any
    critic_kwargs: dict[str, Any]
    share_features_extractor: bool = False
    spectral: SpectralNormalizer | None

    def __init__(
        self,
        *args: Any,
        critic: str = "sn",
        critic_options: Mapping[str, Mapping[str, Any]] | None = None,
        sn_layers: LayerSelection = (-2,),
        sn_coef: CoefOption = 1.0,
        sn_mode: str | Mode = "normalize",
        sn_mode_options: Mapping[str, Any] | None = None,
        n_power_iterations: int = 1,
        block_size: int = 4,
        sn_features: bool = False,
        **kwargs: Any,
    ) -> None:
        """Build the SB3 policy with a critic and target of these stabilisers."""
        self.stabilizers = resolve_critic(critic, critic_options)
        # Set before SB3's constructor, because that is what calls _build.
        self.own_kwargs: dict[str, Any] = {
            "critic": critic,
            "critic_options": critic_options,
            "sn_layers": tuple(sn_layers) if isinstance(sn_layers, list) else sn_layers,
            "sn_coef": tuple(sn_coef) if isinstance(sn_coef, list) else sn_coef,
            "sn_mode": sn_mode,
            "sn_mode_options": sn_mode_options,
            "n_power_iterations": n_power_iterations,
            "block_size": block_size,
            "sn_features": sn_features,
        }
        super().__init__(*args, **kwargs)

    @property
    def is_normalized(self) -> bool:
        """Whether ``sn`` is among the stabilisers."""
        return _is_normalized(self.stabilizers)

    def _build(self, lr_schedule: Schedule) -> None:
        if isinstance(self.observation_space, spaces.Dict) and (
            self.features_extractor_class is FlattenExtractor
        ):
            raise ValueError("a Dict observation space needs SNMultiInputPolicy")
        for stabilizer in self.stabilizers:
            if (reason := stabilizer.why_not(self)) is not None:
                raise ValueError(f"critic {stabilizer.name!r}: {reason}")
        # Fails on a bad option before the networks are built.
        spectral = self._normalizer() if self.is_normalized else None
        super()._build(lr_schedule)  # type: ignore[misc]
        online, target = critic_of(self), critic_of(self, "_target")
        for critic in (online, target):
            if isinstance(critic, ComposedCritic):
                if spectral is not None:
                    critic.normalize(spectral, self.own_kwargs["sn_features"])
                critic.is_target = critic is target
        if spectral is not None and spectral.mode.learns_gain:
            assert isinstance(online, ComposedCritic)
            optimizer = self.critic_optimizer
            optimizer.add_param_group({"params": [x.gain for x in online.normalized]})
            optimizer.register_load_state_dict_pre_hook(_add_missing_group)
        # Registered last, so that saved vectors are loaded after the weights they belong to.
        self.spectral = spectral
        self.followers: dict[str, object] = {}
        for stabilizer in self.stabilizers:
            stabilizer.install(self)
        reseed(critic for critic in (online, target) if critic is not None)

    @property
    def critic_optimizer(self) -> Optimizer:
        """The optimiser of the online critic: its own, or, with DQN, the policy's."""
        optimizer = getattr(critic_of(self), "optimizer", None)
        return self.optimizer if optimizer is None else optimizer

    def _normalizer(self) -> SpectralNormalizer:
        if self.own_kwargs["sn_features"] and self.share_features_extractor:
            raise ValueError(
                "sn_features=True needs a features extractor that the critic owns, "
                "got share_features_extractor=True"
            )
        return normalizer_of(self.own_kwargs)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        """Build a critic as SB3 does, of the class that can be composed; SB3's own for none."""
        if not self.stabilizers:
            return super().make_critic(features_extractor)  # type: ignore[misc]
        kwargs = self._update_features_extractor(self.critic_kwargs, features_extractor)
        return self._composed(**kwargs)

    def _composed(self, **kwargs: Any) -> ComposedCritic:
        critic = self.critic_class(**kwargs)
        _compose(critic, self.stabilizers, self.own_kwargs)
        return critic.to(self.device)

    def set_training_mode(self, mode: bool) -> None:
        """Set the mode as SB3 does; in the target, of what has to do there what it does online."""
        for name in ("actor", "critic", "q_net"):
            part: Any = self._modules.get(name)
            if part is not None and type(part).set_training_mode is BaseModel.set_training_mode:
                _set_mode(part, mode)
            elif part is not None:
                part.set_training_mode(mode)
        self.training = mode
        modal = tuple(kind for stabilizer in self.stabilizers for kind in stabilizer.modal)
        target = critic_of(self, "_target") if modal else None
        for module in () if target is None else target.modules():
            if isinstance(module, modal):
                module.train(mode)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self.own_kwargs}

    def load_from_vector(self, vector: np.ndarray) -> None:
        """Load the parameters from a 1D array, as SB3 does, and compute the vectors anew."""
        super().load_from_vector(vector)
        if self.spectral is not None:
            self.spectral.reset()


def compose(critic: ComposedCritic, own_kwargs: Mapping[str, Any]) -> None:
    """Compose and normalise a critic that no policy holds, as one that is loaded by itself.

    Args:
        critic: Mutated.
        own_kwargs: The options of :class:`SpectralPolicy`, all of them.
    """
    stabilizers = resolve_critic(own_kwargs["critic"], own_kwargs["critic_options"])
    _compose(critic, stabilizers, own_kwargs)
    if _is_normalized(stabilizers):
        critic.normalize(normalizer_of(own_kwargs), own_kwargs["sn_features"])


def _compose(
    critic: ComposedCritic, stabilizers: Sequence[Stabilizer], own_kwargs: Mapping[str, Any]
) -> None:
    critic.own_kwargs = own_kwargs
    critic.compose(stabilizers, own_kwargs["sn_layers"] if _is_normalized(stabilizers) else None)


def _is_normalized(stabilizers: Sequence[Stabilizer]) -> bool:
    return any(stabilizer.place is Place.SPECTRAL for stabilizer in stabilizers)


def normalizer_of(own_kwargs: Mapping[str, Any]) -> SpectralNormalizer:
    """Make the normalizer that a policy's options describe; it has no layers yet.

    Raises:
        ValueError: If an option is out of its range.
    """
    return SpectralNormalizer(
        own_kwargs["sn_coef"],
        own_kwargs["n_power_iterations"],
        own_kwargs["block_size"],
        own_kwargs["sn_mode"],
        own_kwargs["sn_mode_options"],
    )


def _set_mode(module: nn.Module, mode: bool) -> None:
    """Do what ``module.train(mode)`` does, without a call for each module.

    SB3 asks for it twice in each environment step, which takes longer than some layers' products.
    """
    waiting = [module]
    while waiting:
        one = waiting.pop()
        if type(one).train is nn.Module.train:
            one.__dict__["training"] = mode
            waiting += [child for child in one._modules.values() if child is not None]
        else:
            one.train(mode)


def _add_missing_group(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Complete the optimiser state of a plain critic, which has no group of gains."""
    own, saved = optimizer.state_dict()["param_groups"], state["param_groups"]
    if len(saved) != len(own) - 1:
        return state
    first = sum(len(group["params"]) for group in saved)
    gains = {**own[-1], "params": [first + i for i in range(len(own[-1]["params"]))]}
    return {**state, "param_groups": [*saved, gains]}
