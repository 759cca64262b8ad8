"""The gradient step of SAC on a GPU."""

import math
from operator import is_
from typing import Any

import torch
from stable_baselines3 import SAC
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN
from torch import Tensor

from snrl.fast.eligible import place_of
from snrl.fast.gpu import adam, update
from snrl.fast.gpu.transitions import Batch
from snrl.passes.operations import EPSILON
from snrl.sac import step
from snrl.sac.step import Losses

_LOG_ROOT = 0.5 * math.log(2 * math.pi)


class Update(update.Update):
    """SAC's gradient step for networks of linear layers, norms and rectifiers.

    The losses are those of SB3's ``SAC.train``. It departs in what is not computed: gradients of
    the critics' weights for the actor's loss, the inverse of an action that has just been squashed;
    and in that the target is averaged before the actor's step, which does not see it.
    """

    n_losses = 4
    draws = True
    parts, turns = staticmethod(step.parts), staticmethod(step.turns)

    def __init__(self, model: SAC, batch_size: int) -> None:
        """Take memory for a batch.

        Args:
            model: A model for which :meth:`why_not` has nothing to say.
            batch_size: Transitions in a batch.
        """
        super().__init__(model, batch_size)
        self._temperature = _temperature(model)
        optimizer = model.ent_coef_optimizer
        if optimizer is not None:
            self._others = [adam.Adam(optimizer)]

    @staticmethod
    def baked(model: SAC) -> tuple[object, ...]:
        """List the numbers of a model that a recording takes for given."""
        log_ent_coef, _, ent_coef = _temperature(model)
        places = [x.data_ptr() for x in (log_ent_coef, ent_coef) if x is not None]
        return model.tau, model.target_entropy, *places

    @classmethod
    def why_not(cls, model: SAC) -> str | None:
        """Tell what keeps a model from the fast way on a GPU; None if nothing does."""
        if (reason := step.why_not(model)) is not None:
            return reason
        log_ent_coef, optimizer, ent_coef = _temperature(model)
        if optimizer is not None:
            if (reason := adam.why_not(optimizer, [log_ent_coef])) is not None:
                return f"the optimizer of the entropy coefficient is {reason}"
        elif ent_coef.device != place_of(model.actor):
            return f"the entropy coefficient is on {ent_coef.device}"
        return cls.why_not_recorded(model)

    def is_for(self, model: SAC, batch_size: int) -> bool:
        """Tell whether it is still the update of a model's networks, and for such batches."""
        return all(map(is_, _temperature(model), self._temperature)) and super().is_for(
            model, batch_size
        )

    def __call__(self, gradient_steps: int) -> list[Losses]:
        """Do as many gradient steps.

        Returns:
            The losses of each.
        """
        learned = bool(self._others)
        return [
            Losses(ent_coef, actor_loss, critic_loss, ent_coef_loss if learned else None)
            for ent_coef, actor_loss, critic_loss, ent_coef_loss in self.run(gradient_steps)
        ]

    def _losses(self, batch: Batch, tau: float | None, *, actor_moves: bool) -> list[Tensor]:  # noqa: ARG002
        critics, actor_adam = self._critics, self._actor_adam
        with torch.enable_grad():
            actions, log_prob = self._policy(batch.obs)
        ent_coef, ent_coef_loss = self._step_temperature(log_prob.detach())

        next_actions, next_log_prob = self._policy(batch.next_obs)
        inputs = torch.cat((batch.next_obs, next_actions), 1)
        next_values = critics.next_values(inputs, self._turn) - ent_coef * next_log_prob
        targets = batch.rewards + batch.discounts * next_values
        with torch.enable_grad():
            differences = critics.values(batch.now) - targets
            critic_loss = 0.5 * differences.square().mean(1).sum()
        critics.learn(critic_loss, tau)

        with torch.enable_grad():
            values = critics.values(torch.cat((batch.obs, actions), 1))
            climbed = values.min(0).values if critics.ensemble is None else values.mean(0)
            actor_loss = (ent_coef * log_prob - climbed).mean()
        actor_adam.step(torch.autograd.grad(actor_loss, actor_adam.params))
        return [ent_coef, actor_loss, critic_loss, ent_coef_loss]

    def _step_temperature(self, log_prob: Tensor) -> tuple[Tensor, Tensor]:
        """Step the entropy coefficient; gives its value before, and its loss."""
        model = self._model
        if not self._others:
            return model.ent_coef_tensor.to(log_prob.dtype), log_prob.new_zeros(())
        # -mean(log_ent_coef · (log π + target_entropy))
        gap = (log_prob + model.target_entropy).mean()
        log_ent_coef = model.log_ent_coef.detach()
        ent_coef, loss = log_ent_coef.exp().squeeze(0), -(log_ent_coef * gap).squeeze(0)
        (optimizer,) = self._others
        optimizer.step([-gap.reshape(1)])
        return ent_coef, loss

    def _parameters(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        actor = self._model.actor
        latent = actor.latent_pi(obs)
        return actor.mu(latent), actor.log_std(latent).clamp(LOG_STD_MIN, LOG_STD_MAX)

    def _policy(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Draw actions and give the logarithms of their densities, shape ``(batch,)``."""
        mean, log_std = self._parameters(obs)
        noise = torch.empty_like(mean.detach()).normal_()
        actions = torch.tanh(mean + log_std.exp() * noise)
        # log N(mean + std · noise; mean, std) - log |d tanh|
        densities = -0.5 * noise.square() - log_std - _LOG_ROOT
        return actions, (densities - torch.log(1 - actions.square() + EPSILON)).sum(1)

    def _act(self, obs: Tensor, *, noisy: bool) -> Tensor:
        mean, log_std = self._parameters(obs)
        if noisy:
            mean = mean + log_std.exp() * torch.empty_like(mean).normal_()
        return torch.tanh(mean)


def _temperature(model: SAC) -> tuple[Any, Any, Any]:
    """The logarithm of the entropy coefficient and its optimiser, or its fixed value."""
    optimizer = model.ent_coef_optimizer
    fixed = model.ent_coef_tensor if optimizer is None else None
    return model.log_ent_coef, optimizer, fixed
