"""What a gradient step of SAC is on any device."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from stable_baselines3 import SAC
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.sac.policies import Actor
from torch import nn

from snrl.fast import eligible
from snrl.passes.operations import EPSILON


class Losses(NamedTuple):
    """What SB3 logs of a gradient step.

    Attributes:
        ent_coef: Entropy coefficient.
        actor_loss: Loss of the actor.
        critic_loss: Loss of the critics.
        ent_coef_loss: Loss of the entropy coefficient; None where it is fixed.
    """

    ent_coef: float
    actor_loss: float
    critic_loss: float
    ent_coef_loss: float | None


def parts(model: SAC) -> tuple[nn.Module, ...]:
    """List the modules of a model that the steps read or change."""
    return model.actor, model.critic, model.critic_target


def turns(model: SAC, gradient_steps: Sequence[int]) -> tuple[list[bool], list[bool]]:
    """Tell in which gradient steps, numbered from 0, the target moves, and the actor."""
    interval = model.target_update_interval
    return [step % interval == 0 for step in gradient_steps], [True] * len(gradient_steps)


def why_not(model: SAC) -> str | None:
    """Tell what keeps a model from the fast way on its device; None if nothing does."""
    actor: Any = model.actor
    if not _is_known(actor):
        return eligible.why_not(model, [(actor, [])])
    networks: list[nn.Module] = [actor.latent_pi, actor.mu, actor.log_std]
    if (reason := eligible.why_not(model, [(actor, networks)])) is not None:
        return reason
    heads = (actor.mu, actor.log_std)
    if any(type(x) is not nn.Linear for x in heads) or len({x.bias is None for x in heads}) > 1:
        return "the actor's mean and log_std are not two alike linear layers"
    log_ent_coef: Any = model.log_ent_coef
    dtype = actor.mu.weight.dtype
    if model.ent_coef_optimizer is not None and log_ent_coef.dtype is not dtype:
        return f"log_ent_coef is {log_ent_coef.dtype}, the networks are {dtype}"
    distribution = actor.action_dist
    if type(distribution) is not SquashedDiagGaussianDistribution or (
        distribution.epsilon != EPSILON
    ):
        return "the actor's distribution is not SB3's squashed Gaussian"
    return None


def _is_known(actor: object) -> bool:
    return type(actor) is Actor
