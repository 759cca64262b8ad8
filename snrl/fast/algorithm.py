"""What an SB3 algorithm needs to take the fast way where there is one."""

import logging
from typing import Any, ClassVar, Protocol

import numpy as np
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm


class Update(Protocol):
    """An algorithm's gradient steps for the networks of one model."""

    def __init__(self, model: Any, batch_size: int) -> None:
        """Take memory for a batch; :meth:`why_not` has nothing to say of the model."""

    @classmethod
    def why_not(cls, model: Any) -> str | None:
        """Tell what keeps a model from the fast way; None if nothing does."""

    def is_for(self, model: Any, batch_size: int) -> bool:
        """Tell whether it is still the update of a model's networks, and for such batches."""


class FastAlgorithm(OffPolicyAlgorithm):
    """Mixin, placed before an SB3 algorithm whose ``train`` is overridden."""

    update_class: ClassVar[type[Update]]
    _update: Update | None = None
    _reason: str | None = None

    def _prepared(self, batch_size: int) -> Any:
        """The update for the model as it is; None, which is said once, if it has to be SB3's."""
        if self._update is not None and self._update.is_for(self, batch_size):
            return self._update
        self._update = None
        reason = self.update_class.why_not(self)
        if reason is None:
            self._update = self.update_class(self, batch_size)
        elif reason != self._reason:
            logging.getLogger("snrl").warning(
                "%s updates as Stable-Baselines3 does, not the fast way: %s.",
                type(self).__name__,
                reason,
            )
        self._reason = reason
        return self._update

    def _record(self, losses: dict[str, list[float]]) -> None:
        """Log the mean of each loss, as SB3 does."""
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name, values in losses.items():
            if values:
                self.logger.record(f"train/{name}", np.mean(values))

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_update", "_reason"]
