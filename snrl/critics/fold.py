"""From a policy or model with normalised critics to a plain one of SB3's own classes."""

import copy
from typing import TypeVar, cast

from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy, ContinuousCritic
from torch import nn

from snrl.critics.critic import SpectralCritic
from snrl.critics.policy import SpectralPolicy
from snrl.spectral.normalize import fold_in_place

FoldableT = TypeVar("FoldableT", bound=nn.Module | OffPolicyAlgorithm)


def fold_spectral_norm(module: FoldableT) -> FoldableT:
    """Make a plain copy with the effective weights baked in.

    Args:
        module: A torch module, an SB3 policy, or an SB3 algorithm with such a policy. Not
            modified.

    Returns:
        A copy that computes the same values (actions, Q-values) without normalisation. A policy
        becomes one of SB3's own class; an algorithm saves to a zip that SB3 loads where ``snrl``
        is not installed. It shares environment, replay buffer and logger with the original; its
        critic optimiser starts afresh, because moments of the raw weights mean nothing for the
        baked ones. Training it further trains a plain critic.
    """
    if isinstance(module, OffPolicyAlgorithm):
        return cast("FoldableT", _fold_algorithm(module))
    plain = copy.deepcopy(module)
    _fold_module(plain)
    return plain


def _fold_algorithm(model: OffPolicyAlgorithm) -> OffPolicyAlgorithm:
    shared = (model.env, model._vec_normalize_env, model.replay_buffer, vars(model).get("_logger"))
    plain = copy.deepcopy(model, {id(part): part for part in shared if part is not None})
    policy = plain.policy
    if isinstance(policy, SpectralPolicy):
        options = policy.sn_kwargs
        _fold_module(policy)
        plain.policy_class = type(policy)
        plain.policy_kwargs = {
            name: value for name, value in plain.policy_kwargs.items() if name not in options
        }
    return plain


def _fold_module(module: nn.Module) -> None:
    fold_in_place(module)
    for part in module.modules():
        if isinstance(part, SpectralCritic):
            del part.normalized, part.is_target
            part.__class__ = ContinuousCritic  # type: ignore[assignment]
    if isinstance(module, SpectralPolicy):
        del module.sn_kwargs
        module.__class__ = _plain_class(type(module))  # type: ignore[assignment]
        critic = module.critic
        held = critic.optimizer.param_groups
        critic.optimizer = module.optimizer_class(
            [parameter for group in held for parameter in group["params"]],
            lr=held[0]["lr"],  # type: ignore[call-arg]
            **module.optimizer_kwargs,
        )


def _plain_class(policy_class: type[SpectralPolicy]) -> type[BasePolicy]:
    """Find the class that the mixin was put before."""
    order = policy_class.__mro__
    return cast("type[BasePolicy]", order[order.index(SpectralPolicy) + 1])
