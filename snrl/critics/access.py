"""Where the critics of an algorithm are: SB3 and sb3-contrib call them by several names.

Found by their structure, so that subclasses are served as well, and nothing of sb3-contrib is
imported.
"""

from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor, nn


def online_critic(model: BaseAlgorithm) -> nn.Module:
    """Give the module that a model's critic update trains.

    Args:
        model: SAC, TD3, DDPG, TQC, CrossQ, DQN, or anything of their structure.

    Returns:
        ``policy.critic``, or ``policy.q_net`` of DQN.

    Raises:
        ValueError: If the model has neither.
    """
    critic = critic_of(model.policy)
    if critic is None:
        raise ValueError(
            f"{type(model).__name__} has no critic of state and action; SAC, TD3, DDPG, TQC, "
            "CrossQ and DQN have one"
        )
    return critic


def target_critic(model: BaseAlgorithm) -> nn.Module | None:
    """Give the critic that a model's targets come from; None where it is the online one (CrossQ).

    Args:
        model: As in :func:`online_critic`.
    """
    return critic_of(model.policy, "_target")


def heads(critic: Any) -> list[nn.Sequential]:
    """List the networks that give the values, from features (and action) to output.

    Args:
        critic: What :func:`online_critic` or :func:`target_critic` gives.

    Returns:
        One for each critic of an ensemble, without the features extractor. Empty for a critic of
        another structure, which shows none.
    """
    if hasattr(critic, "q_networks"):
        return list(critic.q_networks)
    return [critic.q_net] if hasattr(critic, "q_net") else []


def features(critic: Any, observations: Any) -> Tensor:
    """Compute the features that a critic's heads read, as its own forward does.

    Args:
        critic: As in :func:`heads`.
        observations: As the replay buffer holds them, first dimension the batch.

    Returns:
        Shape ``(batch, features)``. Gradients flow into a features extractor that is the critic's
        own, not into one that it shares with the actor.
    """
    own = not getattr(critic, "share_features_extractor", False)
    with torch.set_grad_enabled(own and torch.is_grad_enabled()):
        extracted: Tensor = critic.extract_features(observations, critic.features_extractor)
    return extracted


def reads_action(critic: nn.Module) -> bool:
    """Tell whether a critic reads the action, as DQN's, which has an output for each, does not."""
    return not hasattr(critic, "q_net")


def critic_of(policy: Any, suffix: str = "") -> nn.Module | None:
    """Give the critic that a policy has; None if it has none.

    Args:
        policy: Of any algorithm.
        suffix: ``"_target"`` for the target critic.
    """
    found = (getattr(policy, name + suffix, None) for name in ("critic", "q_net"))
    return next((critic for critic in found if isinstance(critic, nn.Module)), None)
