"""The gradient step of SAC on the CPU, without autograd."""

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from stable_baselines3 import SAC
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.sac.policies import Actor
from torch import Tensor, nn
from torch.optim import Optimizer

from snrl.fast import eligible, update
from snrl.fast import operations as ops
from snrl.fast.networks import Joint, Networks
from snrl.fast.panels import Panels
from snrl.fast.player import drawn, mode
from snrl.fast.tape import copies
from snrl.fast.update import ENT_COEF, LOG_ENT_COEF, LOG_PROB, SQUARES, VALUES
from snrl.spectral.native import structures as c


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

    _head = mode, drawn

    def __init__(self, model: SAC, batch_size: int) -> None:
        """Take memory for a batch.

        Args:
            model: A model for which :meth:`why_not` has nothing to say.
            batch_size: Transitions in a batch.
        """
        super().__init__(model, batch_size)
        critics, tape = self._critics, self._tape
        actor: Any = model.actor
        now, following, dtype = critics.now, critics.next, critics.dtype
        self._network = [*actor.latent_pi, Joint([actor.mu, actor.log_std])]
        # Twice: the second is for the next observations, and not trained.
        self._actor = Networks([[self._network], [self._network]], batch_size, [now, following])
        self._average = None
        self._noises = tape.slot(), tape.slot()
        self._temperature = c.Temperature()
        setattr(self._temperature, "from", LOG_PROB)
        self._copies = copies(self._actor.copies)

        ent_coef = ctypes.addressof(self._temperature)
        actions = Panels(batch_size, critics.action_dim, dtype)
        policy, next_policy = (
            ops.Squash(x[0], slot, to, feature)
            for x, slot, to, feature in zip(
                self._actor.outputs,
                self._noises,
                (actions, following),
                (0, critics.obs_dim),
                strict=True,
            )
        )
        own, others = self._actor.groups
        # mean(ent_coef · log π - min q); of an ensemble, - mean q
        heads = critics.heads.groups[0]
        self._share = -1 / batch_size
        climb, back = ops.least, ops.backward_some(heads)
        if critics.ensemble is not None:
            self._share, climb = self._share / len(heads), ops.every
        if critics.ensemble is not None or critics.heads.has_norms:
            back = ops.backward(heads, to_input=True)
        self._compose(
            before=[ops.join(self._copies), ops.read_temperature(self._temperature)],
            compare=[
                ops.forward(own, keep=True),
                policy.forward(),
                ops.forward(others, keep=False),
                next_policy.forward(),
                # 0.5 · Σ mean((q - target)²)
                *critics.compare(self._facts, 1 / batch_size, next_policy, ent_coef),
            ],
            after=[
                ops.total(policy.total, LOG_PROB),
                ops.to_temperature(self._temperature),
            ],
            climb=[
                ops.copy(actions, now, critics.obs_dim),
                ops.forward(heads, keep=False),
                climb(heads, self._share, critics.values),
                back,
                policy.backward(heads, ent_coef, self._actor.output_grads[0].address()),
            ],
        )

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
        log_ent_coef: Any = model.log_ent_coef
        dtype = actor.mu.weight.dtype
        if model.ent_coef_optimizer is not None and log_ent_coef.dtype is not dtype:
            return f"log_ent_coef is {log_ent_coef.dtype}, the networks are {dtype}"
        distribution = actor.action_dist
        if type(distribution) is not SquashedDiagGaussianDistribution or (
            distribution.epsilon != ops.EPSILON
        ):
            return "the actor's distribution is not SB3's squashed Gaussian"
        return None

    def is_for(self, model: SAC, batch_size: int) -> bool:
        """Tell whether it is still the update of a model's networks, and for such batches."""
        log_ent_coef = model.log_ent_coef
        is_alike = log_ent_coef is None or log_ent_coef.dtype is self._critics.dtype
        return is_alike and super().is_for(model, batch_size)

    def __call__(self, gradient_steps: int) -> list[Losses]:
        """Do as many gradient steps.

        Returns:
            The losses of each.
        """
        found = self.run(gradient_steps)
        size, learned = self._batch_size, self._model.ent_coef_optimizer is not None
        log_prob = found[:, LOG_PROB] / size
        columns = (
            found[:, ENT_COEF],
            found[:, ENT_COEF] * log_prob + self._share * found[:, VALUES],
            0.5 / size * found[:, SQUARES],
            # -mean(log_ent_coef · (log π + target_entropy))
            -found[:, LOG_ENT_COEF] * (log_prob + self._temperature.wanted),
        )
        rows = zip(*(x.tolist() for x in columns), strict=True)
        return [
            Losses(ent_coef, actor_loss, critic_loss, ent_coef_loss if learned else None)
            for ent_coef, actor_loss, critic_loss, ent_coef_loss in rows
        ]

    def _turns(self, gradient_steps: Sequence[int]) -> tuple[list[bool], list[bool]]:
        interval = self._model.target_update_interval
        return [step % interval == 0 for step in gradient_steps], [True] * len(gradient_steps)

    def _noise(self, count: int) -> list[Tensor]:
        shape = 2, count, self._batch_size, self._critics.action_dim
        noise = torch.empty(shape, dtype=self._critics.dtype)
        for i in range(count):
            noise[0, i].normal_()
            noise[1, i].normal_()
        return list(noise)

    def _optimizers(self) -> tuple[list[Optimizer], list[Optimizer]]:
        model = self._model
        before = [] if model.ent_coef_optimizer is None else [model.ent_coef_optimizer]
        return [*before, model.critic.optimizer], [model.actor.optimizer]

    def _prepare(self) -> None:
        super()._prepare()
        model, temperature = self._model, self._temperature
        if model.ent_coef_optimizer is None:
            temperature.log = temperature.grad = None
            temperature.value = model.ent_coef_tensor.item()
            return
        log_ent_coef = model.log_ent_coef
        if log_ent_coef.grad is None or log_ent_coef.grad.dtype is not log_ent_coef.dtype:
            log_ent_coef.grad = torch.empty_like(log_ent_coef)
        temperature.log = log_ent_coef.data_ptr()
        temperature.grad = log_ent_coef.grad.data_ptr()
        temperature.wanted = model.target_entropy


def _is_known(actor: object) -> bool:
    return type(actor) is Actor
