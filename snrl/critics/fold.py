"""Folding for SB3: what :func:`fold_spectral_norm` does to policies and algorithms."""

import copy
from typing import Any, cast

from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BaseModel, BasePolicy, ContinuousCritic
from torch import nn

from snrl.critics.critic import SpectralCritic
from snrl.critics.policy import SpectralPolicy
from snrl.spectral.normalize import fold_in_place, fold_spectral_norm


@fold_spectral_norm.register
def _fold_model(model: BaseModel) -> BaseModel:
    plain = copy.deepcopy(model, _not_copied(model))
    _fold(plain)
    return plain


@fold_spectral_norm.register
def _fold_algorithm(model: OffPolicyAlgorithm) -> OffPolicyAlgorithm:
    shared = (model.env, model._vec_normalize_env, model.replay_buffer, vars(model).get("_logger"))
    memo = {id(part): part for part in shared if part is not None}
    plain = copy.deepcopy(model, memo | _not_copied(model.policy))
    policy = plain.policy
    if isinstance(policy, SpectralPolicy):
        options = policy.sn_kwargs
        _fold(policy)
        plain.policy_class = type(policy)
        plain.policy_kwargs = {
            name: value for name, value in plain.policy_kwargs.items() if name not in options
        }
    return plain


def _not_copied(module: nn.Module) -> dict[int, Any]:
    """Memo for ``deepcopy``: with gSDE an action distribution holds a graph, which cannot be."""
    parts = [part for part in module.modules() if hasattr(part, "action_dist")]
    return {id(part.action_dist): copy.copy(part.action_dist) for part in parts}


def _fold(module: BaseModel) -> None:
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
        # Gains are baked in: they are in the optimiser's groups, and no longer in the critic.
        left = {id(parameter) for parameter in critic.parameters()}
        critic.optimizer = module.optimizer_class(
            [parameter for group in held for parameter in group["params"] if id(parameter) in left],
            lr=held[0]["lr"],  # type: ignore[call-arg]
            **module.optimizer_kwargs,
        )


def _plain_class(policy_class: type[SpectralPolicy]) -> type[BasePolicy]:
    """Find the class that the mixin was put before."""
    order = policy_class.__mro__
    return cast("type[BasePolicy]", order[order.index(SpectralPolicy) + 1])
