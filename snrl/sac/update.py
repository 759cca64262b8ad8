"""The gradient step of SAC on the CPU, without autograd."""

from typing import Any, NamedTuple

import torch
from stable_baselines3 import SAC
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.sac.policies import Actor
from torch import Tensor, nn

from snrl.fast import eligible, update
from snrl.fast.batches import Batches, draw
from snrl.fast.losses import EPSILON, SquashedGaussian, least, temporal_differences
from snrl.fast.networks import Joint, Networks
from snrl.fast.steps import step


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


class Update(update.Update):
    """SAC's gradient step for networks of linear layers, norms and rectifiers.

    The arithmetic is that of SB3's ``SAC.train`` with the gradients of its three losses written
    out. It departs in what is not computed: gradients of the critics' weights for the actor's
    loss; and in that the target is averaged before the actor's step, which does not see it.
    """

    def __init__(self, model: SAC, batch_size: int) -> None:
        """Take memory for a batch.

        Args:
            model: A model for which :meth:`why_not` has nothing to say.
            batch_size: Transitions in a batch.
        """
        super().__init__(model, batch_size)
        actor: Any = model.actor
        network = [*actor.latent_pi, Joint([actor.mu, actor.log_std])]
        # Twice: the second is for the next observations, and not trained.
        self._actor = Networks([[network], [network]], batch_size)
        action_dim, dtype = actor.mu.out_features, self._critics.dtype
        self._network = network
        self._players: dict[int, tuple[Networks, SquashedGaussian]] = {}
        self._policy = SquashedGaussian(batch_size, action_dim, dtype)
        self._next_policy = SquashedGaussian(batch_size, action_dim, dtype)
        self._actions = torch.empty(batch_size, action_dim, dtype=dtype)

    @staticmethod
    def parts(model: SAC) -> tuple[nn.Module, ...]:
        """List the modules of a model that the steps read or change."""
        return model.actor, model.critic, model.critic_target

    @classmethod
    def why_not(cls, model: SAC) -> str | None:
        """Tell what keeps a model from the fast way; None if nothing does."""
        actor: Any = model.actor
        if not _is_known(actor):
            return eligible.why_not(model, [(actor, [])])
        parts: list[nn.Module] = [actor.latent_pi, actor.mu, actor.log_std]
        if (reason := eligible.why_not(model, [(actor, parts)])) is not None:
            return reason
        heads = (actor.mu, actor.log_std)
        if any(type(x) is not nn.Linear for x in heads) or len({x.bias is None for x in heads}) > 1:
            return "the actor's mean and log_std are not two alike linear layers"
        distribution = actor.action_dist
        if type(distribution) is not SquashedDiagGaussianDistribution or (
            distribution.epsilon != EPSILON
        ):
            return "the actor's distribution is not SB3's squashed Gaussian"
        return None

    @torch.no_grad()
    def _act(self, obs: Tensor, deterministic: bool) -> Tensor:
        n, action_dim, dtype = len(obs), self._actions.shape[1], self._critics.dtype
        if n not in self._players:
            networks = Networks([[self._network]], n)
            self._players[n] = networks, SquashedGaussian(n, action_dim, dtype)
        networks, policy = self._players[n]
        parameters = networks.forward(obs)[0]
        if deterministic:
            return parameters[:, :action_dim].tanh()
        actions = torch.empty(n, action_dim, dtype=dtype)
        policy.act(parameters, actions)
        return actions

    @torch.no_grad()
    def __call__(self, gradient_steps: int) -> list[Losses]:
        """Do as many gradient steps.

        Returns:
            The losses of each.
        """
        model = self._model
        drawn = draw(model, gradient_steps, self._batch_size, self._critics.dtype)
        return [self._step(i, batch) for i, batch in enumerate(drawn)]

    def _step(self, i: int, batch: Batches) -> Losses:
        model, heads, policy, size = (
            self._model,
            self._critics.heads,
            self._policy,
            self._batch_size,
        )
        obs, actions = self._critics.split(batch.now)
        next_obs, next_actions = self._critics.split(batch.next)

        parameters, next_parameters = self._actor.forward(obs, next_obs)
        policy.act(parameters, self._actions)
        ent_coef, ent_coef_loss = self._move_ent_coef(policy.mean_log_prob)

        self._next_policy.act(next_parameters, next_actions)
        values, next_values = self._critics.forward(batch)
        # 0.5 · Σ mean((q - target)²)
        critic_loss = (0.5 / size) * temporal_differences(
            values,
            next_values,
            batch.rewards,
            batch.discounts,
            1 / size,
            heads.output_grads,
            self._next_policy.log_prob,
            ent_coef,
        )
        self._critics.to_weights()
        self._critics.step(model.tau if i % model.target_update_interval == 0 else None)

        # mean(ent_coef · log π - min q); of an ensemble, - mean q
        actions.copy_(self._actions)
        values = heads.forward(batch.now)
        if self._critics.ensemble is None:
            value = least(values, -1 / size, heads.output_grads) / size
        else:
            heads.output_grads.fill_(-1 / values.numel())
            value = values.mean().item()
        heads.backward(to_weights=False, to_input=True)
        policy.backward(
            parameters,
            self._actions,
            heads.input_grads,
            ent_coef / size,
            self._actor.output_grads,
        )
        self._actor.give_gradients()
        self._actor.backward(to_weights=True, to_input=False)
        step(model.actor.optimizer)
        return Losses(ent_coef, ent_coef * policy.mean_log_prob - value, critic_loss, ent_coef_loss)

    def _move_ent_coef(self, mean_log_prob: float) -> tuple[float, float | None]:
        """The entropy coefficient as it is, and one step of it where it is learned."""
        model = self._model
        if model.ent_coef_optimizer is None:
            return model.ent_coef_tensor.item(), None
        log_ent_coef = model.log_ent_coef
        assert log_ent_coef is not None
        assert isinstance(model.target_entropy, float)
        ent_coef = log_ent_coef.exp().item()
        # -mean(log_ent_coef · (log π + target_entropy))
        slope = -(mean_log_prob + model.target_entropy)
        loss = log_ent_coef.item() * slope
        if log_ent_coef.grad is None:
            log_ent_coef.grad = torch.empty_like(log_ent_coef)
        log_ent_coef.grad.fill_(slope)
        step(model.ent_coef_optimizer)
        return ent_coef, loss


def _is_known(actor: object) -> bool:
    return type(actor) is Actor
