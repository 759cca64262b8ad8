"""The gradient step of TD3 on a GPU."""

import torch
from stable_baselines3 import TD3
from torch import Tensor

from snrl.fast.gpu import update
from snrl.fast.gpu.critics import average
from snrl.fast.gpu.transitions import Batch
from snrl.fast.steps import parameters_of
from snrl.td3 import step
from snrl.td3.step import Losses


class Update(update.Update):
    """TD3's gradient step for networks of linear layers, norms and rectifiers.

    The losses are those of SB3's ``TD3.train``. It departs in what is not computed: gradients of
    the first critic's weights for the actor's loss; and in that the critics' target is averaged
    before the actor's step, which does not see it.
    """

    n_losses = 2
    parts, turns = staticmethod(step.parts), staticmethod(step.turns)

    def __init__(self, model: TD3, batch_size: int) -> None:
        """Take memory for a batch.

        Args:
            model: A model for which :meth:`why_not` has nothing to say.
            batch_size: Transitions in a batch.
        """
        super().__init__(model, batch_size)
        self._params = parameters_of(model.actor)
        self._actor_targets = parameters_of(model.actor_target)

    @staticmethod
    def baked(model: TD3) -> tuple[object, ...]:
        """List the numbers of a model that a recording takes for given."""
        return model.tau, model.target_policy_noise, model.target_noise_clip

    @classmethod
    def why_not(cls, model: TD3) -> str | None:
        """Tell what keeps a model from the fast way on a GPU; None if nothing does."""
        reason = step.why_not(model)
        return cls.why_not_recorded(model) if reason is None else reason

    def __call__(self, gradient_steps: int) -> list[Losses]:
        """Do as many gradient steps; raises the model's count of updates.

        Returns:
            The losses of each.
        """
        return step.counted(self._model, self.run(gradient_steps))

    def _losses(self, batch: Batch, tau: float | None, *, actor_moves: bool) -> list[Tensor]:
        model, critics, actor_adam = self._model, self._critics, self._actor_adam
        next_actions = model.actor_target.mu(batch.next_obs)
        # As SB3 draws it: in the dtype in which the buffer keeps actions.
        noise = torch.empty_like(next_actions, dtype=torch.float32)
        noise.normal_(0, model.target_policy_noise)
        noise.clamp_(-model.target_noise_clip, model.target_noise_clip)
        next_actions = (next_actions + noise).clamp(-1, 1)
        next_values = critics.next_values(torch.cat((batch.next_obs, next_actions), 1), self._turn)
        targets = batch.rewards + batch.discounts * next_values
        with torch.enable_grad():
            critic_loss = (critics.values(batch.now) - targets).square().mean(1).sum()
        critics.learn(critic_loss, tau)
        if not actor_moves:
            return [torch.zeros_like(critic_loss), critic_loss]

        with torch.enable_grad():
            inputs = torch.cat((batch.obs, model.actor.mu(batch.obs)), 1)
            actor_loss = -critics.first_values(inputs).mean()
        actor_adam.step(torch.autograd.grad(actor_loss, actor_adam.params))
        average(self._params, self._actor_targets, model.tau)
        return [actor_loss, critic_loss]

    def _act(self, obs: Tensor, *, noisy: bool) -> Tensor:  # noqa: ARG002
        actions: Tensor = self._model.actor.mu(obs)
        return actions
