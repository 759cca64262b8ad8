"""What a gradient step of TD3 is on any device."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from stable_baselines3 import TD3
from stable_baselines3.td3.policies import Actor
from torch import nn

from snrl.fast import eligible


class Losses(NamedTuple):
    """What SB3 logs of a gradient step.

    Attributes:
        actor_loss: Loss of the actor; None where the policy was not updated.
        critic_loss: Loss of the critics.
    """

    actor_loss: float | None
    critic_loss: float


def parts(model: TD3) -> tuple[nn.Module, ...]:
    """List the modules of a model that the steps read or change."""
    return model.actor, model.actor_target, model.critic, model.critic_target


def turns(model: TD3, gradient_steps: Sequence[int]) -> tuple[list[bool], list[bool]]:
    """Tell in which gradient steps, numbered from 0, the targets move, and the actor."""
    done, delay = model._n_updates + 1, model.policy_delay
    is_actors_turn = [(done + step) % delay == 0 for step in gradient_steps]
    return is_actors_turn, is_actors_turn


def linear_part(actor: Any) -> list[nn.Module]:
    """The layers of an actor before the last one, which is ``tanh``."""
    return [*actor.mu][:-1]


def counted(model: TD3, found: Sequence[Sequence[float]]) -> list[Losses]:
    """Raise a model's count of updates by steps that were done.

    Args:
        model: Mutated.
        found: Losses of actor and critics of each step; the actor's means nothing where it stays.

    Returns:
        What SB3 logs of them.
    """
    _, moved = turns(model, range(len(found)))
    model._n_updates += len(found)
    return [
        Losses(actor_loss if turn else None, critic_loss)
        for (actor_loss, critic_loss), turn in zip(found, moved, strict=True)
    ]


def why_not(model: TD3) -> str | None:
    """Tell what keeps a model from the fast way on its device; None if nothing does."""
    actors: list[tuple[nn.Module, list[nn.Module]]] = []
    for actor in (model.actor, model.actor_target):
        known = type(actor) is Actor and isinstance(actor.mu[-1], nn.Tanh)
        actors.append((actor, [nn.Sequential(*linear_part(actor))] if known else []))
    return eligible.why_not(model, actors)
