"""SB3's TD3 with a faster update."""

import stable_baselines3

from snrl.fast.algorithm import FastAlgorithm
from snrl.td3 import gpu, update


class TD3(FastAlgorithm, stable_baselines3.TD3):
    """SB3's ``TD3``: the same arguments, results to rounding, saved files and logger keys.

    The update of a policy whose networks are linear layers, norms and rectifiers (SB3's
    ``MlpPolicy`` and ``SNMlpPolicy``) is computed on the CPU by
    :class:`~snrl.td3.update.Update`, on a GPU by :class:`~snrl.td3.gpu.Update`; these leave the
    policy in the mode it is in, as no layer there has a mode. Any other update is SB3's own, which
    a line of the logger ``snrl`` says, with the reason.
    """

    update_classes = {"cpu": update.Update, "cuda": gpu.Update}  # noqa: RUF012

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Do gradient steps on batches from the replay buffer, as SB3's ``TD3.train`` does.

        Args:
            gradient_steps: How many.
            batch_size: Transitions in each batch.
        """
        update = self._prepared(batch_size) if gradient_steps > 0 else None
        if update is None:
            super().train(gradient_steps, batch_size)
            return
        self._update_learning_rate([self.actor.optimizer, self.critic.optimizer])
        losses = update(gradient_steps)
        actor_losses = [x.actor_loss for x in losses if x.actor_loss is not None]
        critic_losses = [x.critic_loss for x in losses]
        self._record({"actor_loss": actor_losses, "critic_loss": critic_losses})
