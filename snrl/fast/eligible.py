"""What can go the fast way, and why something cannot."""

from collections.abc import Sequence
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from snrl.critics import SpectralCritic
from snrl.passes import networks
from snrl.passes.watch import is_hooked
from snrl.spectral.layers import SpectralLayer

_CRITICS = (ContinuousCritic, SpectralCritic)


def why_not(model: Any, actors: Sequence[tuple[nn.Module, Sequence[nn.Module]]]) -> str | None:
    """Tell what keeps a model's update from the fast way.

    Args:
        model: An SB3 model with a continuous critic and a target.
        actors: Its actors, each with the networks it consists of; for an actor of a class that is
            not known, none.

    Returns:
        The reason, as the end of a sentence; None if there is none.
    """
    space = model.observation_space
    if not isinstance(space, spaces.Box):
        return f"observations are of a {type(space).__name__} space"
    if is_image_space(space):
        return "observations are images"
    if getattr(model, "use_sde", False):
        return "gSDE draws its noise from the policy's features"
    for stabilizer in getattr(model.policy, "stabilizers", ()):
        if stabilizer.through_critic:
            return f"the critic has {stabilizer.name}"
    found: list[tuple[Any, Sequence[nn.Module]]] = [*actors]
    for critic in (model.critic, model.critic_target):
        if type(critic) not in _CRITICS:
            return f"the critic is a {type(critic).__name__}"
        found.append((critic, list(critic.q_networks)))
    heads = [*model.critic.q_networks, *model.critic_target.q_networks]
    if len({str([*map(networks.form, head)]) for head in heads}) > 1:
        return "the critics' heads differ in shape"
    for owner, parts in found:
        if is_hooked(owner):
            return f"somebody has hooked the {type(owner).__name__} or a part of it"
        if not parts:
            return f"the actor is a {type(owner).__name__}"
        if type(owner.features_extractor) is not FlattenExtractor:
            return f"the features extractor is a {type(owner.features_extractor).__name__}"
        is_critic = type(owner) in _CRITICS
        for part in parts:
            if not is_critic and any(isinstance(x, SpectralLayer) for x in part.modules()):
                return f"the {type(owner).__name__} has normalised layers"
            if (reason := networks.why_not(part, place_of(model.actor))) is not None:
                return f"the {type(owner).__name__} has {reason}"
    dtypes = {param.dtype for owner, _ in found for param in owner.parameters()}
    if len(dtypes) > 1:
        return f"parameters are of several dtypes: {', '.join(sorted(map(str, dtypes)))}"
    return None


def place_of(module: nn.Module) -> torch.device:
    """Where a module's first parameter is: of a model's own device, SB3 may not say the number."""
    return next(module.parameters()).device
