"""Folding for SB3: what :func:`fold_spectral_norm` does to policies and algorithms."""

import copy
from typing import Any

from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BaseModel, BasePolicy
from torch import nn

from snrl.critics.access import critic_of, heads
from snrl.critics.critic import ComposedCritic
from snrl.critics.policy import SpectralPolicy
from snrl.critics.stabilizers import Place, describe
from snrl.spectral.normalize import fold_in_place, fold_spectral_norm


@fold_spectral_norm.register
def _fold_model(model: BaseModel) -> BaseModel:
    plain = copy.deepcopy(model, not_copied(model))
    _fold(plain)
    return plain


@fold_spectral_norm.register
def _fold_algorithm(model: OffPolicyAlgorithm) -> OffPolicyAlgorithm:
    shared = (model.env, model._vec_normalize_env, model.replay_buffer, vars(model).get("_logger"))
    memo = {id(part): part for part in shared if part is not None}
    plain = copy.deepcopy(model, memo | not_copied(model.policy))
    policy = plain.policy
    if isinstance(policy, SpectralPolicy):
        options = policy.own_kwargs
        _fold(policy)
        plain.policy_class = type(policy)
        plain.policy_kwargs = {
            name: value for name, value in plain.policy_kwargs.items() if name not in options
        } | _rest(policy)
    return plain


def _rest(policy: BasePolicy) -> dict[str, Any]:
    """The options that a folded policy still needs: those of other stabilisers than SN."""
    if not isinstance(policy, SpectralPolicy):
        return {}
    return {name: policy.own_kwargs[name] for name in ("critic", "critic_options")}


def not_copied(module: nn.Module) -> dict[int, Any]:
    """Memo for ``deepcopy``: with gSDE an action distribution holds a graph, which cannot be."""
    parts = [part for part in module.modules() if hasattr(part, "action_dist")]
    return {id(part.action_dist): copy.copy(part.action_dist) for part in parts}


def _fold(module: BaseModel) -> None:
    untrained = _untrained(module) if isinstance(module, SpectralPolicy) else set()
    fold_in_place(module)
    parts = [part for part in module.modules() if isinstance(part, ComposedCritic)]
    if not isinstance(module, SpectralPolicy):
        for part in parts:
            _make_plain(part)
        return
    module.stabilizers = tuple(x for x in module.stabilizers if x.place is not Place.SPECTRAL)
    module.spectral = None
    if module.stabilizers:
        module.own_kwargs = {
            "critic": describe(module.stabilizers),
            "critic_options": module.own_kwargs["critic_options"],
        }
        for part in parts:
            part.normalized, part.own_kwargs = (), module.own_kwargs
            for stabilizer in module.stabilizers:
                for network in heads(part):
                    stabilizer.take_released(network)
    else:
        for part in parts:
            _make_plain(part)
        del module.own_kwargs, module.stabilizers, module.spectral, module.followers
        module.__class__ = class_after(type(module), SpectralPolicy)
    _renew_optimizer(module, untrained)


def _make_plain(critic: ComposedCritic) -> None:
    del critic.normalized, critic.is_target, critic.ensemble, critic.own_kwargs, critic._chosen
    del critic.evaluate
    critic.__class__ = class_after(type(critic), ComposedCritic)


def _untrained(policy: SpectralPolicy) -> set[int]:
    held = {id(x) for group in policy.critic_optimizer.param_groups for x in group["params"]}
    critic: Any = critic_of(policy)
    return {id(parameter) for parameter in critic.parameters()} - held


def _renew_optimizer(policy: BasePolicy, untrained: set[int]) -> None:
    critic: Any = critic_of(policy)
    # Of DQN it is the policy that has the optimiser.
    owner = policy if getattr(critic, "optimizer", None) is None else critic
    # Gains are baked in, and no longer in the critic; layers that were SN's may have new scales.
    owner.optimizer = policy.optimizer_class(
        [parameter for parameter in critic.parameters() if id(parameter) not in untrained],
        lr=owner.optimizer.param_groups[0]["lr"],  # type: ignore[call-arg]
        **policy.optimizer_kwargs,
    )


def class_after(found: type, mixin: type) -> Any:
    """Find the class that a mixin was put before."""
    order = found.__mro__
    return order[order.index(mixin) + 1]
