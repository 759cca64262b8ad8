"""SB3's SAC with a faster update."""

import stable_baselines3

from snrl.fast.algorithm import FastAlgorithm
from snrl.sac import gpu, update
from snrl.sac.step import Losses


class SAC(FastAlgorithm, stable_baselines3.SAC):
    """SB3's ``SAC``: the same arguments, results to rounding, saved files and logger keys.

    The update of a policy whose networks are linear layers, norms and rectifiers (SB3's
    ``MlpPolicy`` and ``SNMlpPolicy``) is computed on the CPU by
    :class:`~snrl.sac.update.Update`, on a GPU by :class:`~snrl.sac.gpu.Update`; these leave the
    policy in the mode it is in, as no layer there has a mode. Any other update is SB3's own, which
    a line of the logger ``snrl`` says, with the reason.
    """

    update_classes = {"cpu": update.Update, "cuda": gpu.Update}  # noqa: RUF012

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Do gradient steps on batches from the replay buffer, as SB3's ``SAC.train`` does.

        Args:
            gradient_steps: How many.
            batch_size: Transitions in each batch.
        """
        update = self._prepared(batch_size) if gradient_steps > 0 else None
        if update is None:
            super().train(gradient_steps, batch_size)
            return
        optimizers = [self.actor.optimizer, self.critic.optimizer]
        if self.ent_coef_optimizer is not None:
            optimizers.append(self.ent_coef_optimizer)
        self._update_learning_rate(optimizers)
        losses = update(gradient_steps)
        self._n_updates += gradient_steps
        columns = zip(Losses._fields, zip(*losses, strict=True), strict=True)
        self._record({name: list(values) for name, values in columns if None not in values})
