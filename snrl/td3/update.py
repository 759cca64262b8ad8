"""The gradient step of TD3 on the CPU, without autograd."""

import torch
from stable_baselines3 import TD3
from torch import Tensor
from torch.optim import Optimizer

from snrl.fast import update
from snrl.fast.steps import Average
from snrl.fast.update import SQUARES, VALUES
from snrl.passes import operations as ops
from snrl.passes.networks import Networks
from snrl.td3 import step
from snrl.td3.step import Losses


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
        critics, tape = self._critics, self._tape
        now, following, dim = critics.now, critics.next, critics.action_dim
        self._network, target = (step.linear_part(x) for x in (model.actor, model.actor_target))
        self._actor = Networks([[self._network]], batch_size, [now])
        self._actor_target = Networks([[target]], batch_size, [following])
        params, targets = (list(x.parameters()) for x in (model.actor, model.actor_target))
        self._average = Average(params, targets)
        self._noises = (tape.slot(),)

        (next_actions,) = self._actor_target.outputs[0]
        next_policy = ops.Tanh(next_actions, following, critics.obs_dim, dim, self._noises[0])
        # What the actor climbs: the mean of all heads of an ensemble, otherwise the first one.
        count = 1 if critics.ensemble is None else len(critics.heads.groups[0])
        climbed = critics.heads.first(count)
        self._share = -1 / batch_size / count
        (actor,) = self._actor.groups
        policy = ops.Tanh(self._actor.outputs[0][0], now, critics.obs_dim, dim)
        self._compose(
            compare=[
                ops.forward(self._actor_target.groups[0]),
                next_policy.forward(),
                # Σ mean((q - target)²)
                *critics.compare(self._facts, 2 / batch_size),
            ],
            climb=[
                ops.forward(actor),
                policy.forward(),
                ops.forward(climbed),
                ops.every(climbed, self._share, critics.values),
                ops.backward(climbed, to_input=True),
                policy.backward(climbed, self._actor.output_grads[0].address()),
            ],
        )

    parts, turns = staticmethod(step.parts), staticmethod(step.turns)
    eligible = staticmethod(step.why_not)

    def __call__(self, gradient_steps: int) -> list[Losses]:
        """Do as many gradient steps; raises the model's count of updates.

        Returns:
            The losses of each.
        """
        found = self.run(gradient_steps)
        columns = self._share * found[:, VALUES], found[:, SQUARES] / self._batch_size
        return step.counted(self._model, [*zip(*(x.tolist() for x in columns), strict=True)])

    def _noise(self, count: int) -> list[Tensor]:
        model = self._model
        # As SB3 draws it: in the dtype in which the buffer keeps actions.
        noise = torch.empty(count, self._batch_size, self._critics.action_dim, device="cpu")
        for one in noise:
            one.normal_(0, model.target_policy_noise)
        noise.clamp_(-model.target_noise_clip, model.target_noise_clip)
        return [noise.to(self._critics.dtype)]

    def _optimizers(self) -> tuple[list[Optimizer], list[Optimizer]]:
        return [self._model.critic.optimizer], [self._model.actor.optimizer]
