"""The gradient step of SAC on the CPU, without autograd."""

import ctypes
from typing import Any

import torch
from stable_baselines3 import SAC
from torch import Tensor
from torch.optim import Optimizer

from snrl.fast import update
from snrl.fast.player import drawn, mode
from snrl.fast.update import ENT_COEF, LOG_ENT_COEF, LOG_PROB, SQUARES, VALUES
from snrl.passes import operations as ops
from snrl.passes.networks import Joint, Networks
from snrl.passes.panels import Panels
from snrl.passes.tape import copies
from snrl.sac import step
from snrl.sac.step import Losses
from snrl.spectral.native import structures as c


class Update(update.Update):
    """SAC's gradient step for networks of linear layers, norms and rectifiers.

    The arithmetic is that of SB3's ``SAC.train`` with the gradients of its three losses written
    out. It departs in what is not computed: gradients of the critics' weights for the actor's
    loss; and in that the target is averaged before the actor's step, which does not see it.
    """

    _head = mode, drawn
    draws = True

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
                ops.forward(own),
                policy.forward(),
                ops.forward(others),
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
                ops.forward(heads),
                climb(heads, self._share, critics.values),
                back,
                policy.backward(heads, ent_coef, self._actor.output_grads[0].address()),
            ],
        )

    parts, turns = staticmethod(step.parts), staticmethod(step.turns)
    eligible = staticmethod(step.why_not)

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

    def _noise(self, count: int) -> list[Tensor]:
        shape = 2, count, self._batch_size, self._critics.action_dim
        noise = torch.empty(shape, dtype=self._critics.dtype, device="cpu")
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
