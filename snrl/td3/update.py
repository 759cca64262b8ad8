"""The gradient step of TD3 on the CPU, without autograd."""

from typing import Any, NamedTuple

import torch
from stable_baselines3 import TD3
from stable_baselines3.td3.policies import Actor
from torch import Tensor, nn

from snrl.fast import eligible, update
from snrl.fast.batches import Batches, draw
from snrl.fast.losses import temporal_differences
from snrl.fast.networks import Networks
from snrl.fast.steps import Average, step


class Losses(NamedTuple):
    """What SB3 logs of a gradient step.

    Attributes:
        actor_loss: Loss of the actor; None where the policy was not updated.
        critic_loss: Loss of the critics.
    """

    actor_loss: float | None
    critic_loss: float


class Update(update.Update):
    """TD3's gradient step for networks of linear layers, norms and rectifiers.

    The arithmetic is that of SB3's ``TD3.train`` with the gradients of its two losses written out.
    It departs in what is not computed: gradients of the first critic's weights for the actor's
    loss; and in that the critics' target is averaged before the actor's step, which does not see
    it.
    """

    def __init__(self, model: TD3, batch_size: int) -> None:
        """Take memory for a batch.

        Args:
            model: A model for which :meth:`why_not` has nothing to say.
            batch_size: Transitions in a batch.
        """
        super().__init__(model, batch_size)
        columns = self._critics.obs_dim
        first: Any = model.critic.q_networks[0]
        # What the actor climbs: the mean of all heads of an ensemble, otherwise the first one.
        self._climbed = (
            Networks([[[*first]]], batch_size, from_column=columns)
            if self._critics.ensemble is None
            else self._critics.heads
        )
        actor, target = (_linear_part(x) for x in (model.actor, model.actor_target))
        self._actor = Networks([[actor]], batch_size)
        self._network = actor
        self._players: dict[int, Networks] = {}
        self._actor_target = Networks([[target]], batch_size)
        params, targets = (list(x.parameters()) for x in (model.actor, model.actor_target))
        self._average = Average(params, targets)

    @staticmethod
    def parts(model: TD3) -> tuple[nn.Module, ...]:
        """List the modules of a model that the steps read or change."""
        return model.actor, model.actor_target, model.critic, model.critic_target

    @classmethod
    def why_not(cls, model: TD3) -> str | None:
        """Tell what keeps a model from the fast way; None if nothing does."""
        actors: list[tuple[nn.Module, list[nn.Module]]] = []
        for actor in (model.actor, model.actor_target):
            known = type(actor) is Actor and isinstance(actor.mu[-1], nn.Tanh)
            actors.append((actor, [nn.Sequential(*_linear_part(actor))] if known else []))
        return eligible.why_not(model, actors)

    @torch.no_grad()
    def _act(self, obs: Tensor, deterministic: bool) -> Tensor:  # noqa: ARG002
        if len(obs) not in self._players:
            self._players[len(obs)] = Networks([[self._network]], len(obs))
        return self._players[len(obs)].forward(obs)[0].tanh()

    @torch.no_grad()
    def __call__(self, gradient_steps: int) -> list[Losses]:
        """Do as many gradient steps; raises the model's count of updates.

        Returns:
            The losses of each.
        """
        drawn = draw(self._model, gradient_steps, self._batch_size, self._critics.dtype)
        return [self._step(batch) for batch in drawn]

    def _step(self, batch: Batches) -> Losses:
        model, heads, size = self._model, self._critics.heads, self._batch_size
        model._n_updates += 1
        next_obs, next_actions = self._critics.split(batch.next)
        # As SB3 draws it: in the dtype in which the buffer keeps actions.
        noise = torch.empty(next_actions.shape).normal_(0, model.target_policy_noise)
        noise = noise.clamp_(-model.target_noise_clip, model.target_noise_clip)
        following = self._actor_target.forward(next_obs)[0].tanh().add_(noise)
        torch.clamp(following, -1, 1, out=next_actions)

        values, next_values = self._critics.forward(batch)
        # Σ mean((q - target)²)
        critic_loss = temporal_differences(
            values, next_values, batch.rewards, batch.discounts, 2 / size, heads.output_grads
        )
        self._critics.to_weights()
        is_actors_turn = model._n_updates % model.policy_delay == 0
        self._critics.step(model.tau if is_actors_turn else None)
        actor_loss = self._move_actor(batch.now) if is_actors_turn else None
        return Losses(actor_loss, critic_loss / size)

    def _move_actor(self, now: Tensor) -> float:
        """One step on -mean(q1), or of an ensemble -mean(q); and of the target behind it."""
        climbed = self._climbed
        obs, actions = self._critics.split(now)
        moved = torch.tanh(self._actor.forward(obs)[0])
        actions.copy_(moved)
        value = climbed.forward(now).mean()
        climbed.output_grads.fill_(-1 / climbed.output_grads.numel())
        climbed.backward(to_weights=False, to_input=True)
        # ∂tanh = 1 - tanh²
        slopes = torch.addcmul(torch.ones((), dtype=moved.dtype), moved, moved, value=-1)
        grads = climbed.input_grads.sum(0, keepdim=True)
        torch.mul(grads, slopes, out=self._actor.output_grads)
        self._actor.give_gradients()
        self._actor.backward(to_weights=True, to_input=False)
        step(self._model.actor.optimizer)
        self._average.move(self._model.tau)
        return -value.item()


def _linear_part(actor: Any) -> list[nn.Module]:
    """The layers before the last one, which is ``tanh``."""
    return [*actor.mu][:-1]
