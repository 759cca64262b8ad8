"""What an SB3 algorithm needs to take the fast way where there is one."""

import logging
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy

from snrl.fast.prepared import Prepared


class FastAlgorithm(OffPolicyAlgorithm):
    """Mixin, placed before an SB3 algorithm whose ``train`` is overridden.

    Attributes:
        update_classes: The fast way on each type of device that has one.
    """

    update_classes: ClassVar[Mapping[str, type[Prepared]]]
    _update: Prepared | None = None
    _reason: str | None = None

    def _prepared(self, batch_size: int) -> Any:
        """The update for the model as it is; None, which is said once, if it has to be SB3's."""
        if self._update is not None and self._update.is_for(self, batch_size):
            return self._update
        self._update = None
        way = self.update_classes.get(self.device.type)
        reason = f"the device is {self.device}" if way is None else way.why_not(self)
        if way is not None and reason is None:
            self._update = way(self, batch_size)
        elif reason != self._reason:
            logging.getLogger("snrl").warning(
                "%s updates as Stable-Baselines3 does, not the fast way: %s.",
                type(self).__name__,
                reason,
            )
        self._reason = reason
        return self._update

    @property
    def is_prepared(self) -> bool:
        """Whether actions come from what the update has prepared, not from the policy's modules."""
        return self._update is not None

    def prepare(self) -> None:
        """Prepare the update before the first call of ``train``, as when a training goes on."""
        self._prepared(self.batch_size)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        found = super()._setup_learn(*args, **kwargs)
        if self._n_updates > 0:
            # A training that was saved acts, to the last bit, as one that goes on.
            self.prepare()
        return found

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Get the policy's actions, as SB3 does; for the training environments without modules."""
        shape = self.observation_space.shape or ()
        if (
            self._update is not None
            and isinstance(observation, np.ndarray)
            and observation.shape == (self.n_envs, *shape)
            and type(self.policy).predict is BasePolicy.predict
        ):
            obs = torch.from_numpy(observation).flatten(1)
            scaled = self._update.act(obs, deterministic)
            if scaled is not None:
                actions = scaled.numpy().reshape(-1, *(self.action_space.shape or ()))
                return self.policy.unscale_action(actions), state
        return super().predict(observation, state, episode_start, deterministic)

    def _record(self, losses: dict[str, list[float]]) -> None:
        """Log the mean of each loss, as SB3 does."""
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name, values in losses.items():
            if values:
                self.logger.record(f"train/{name}", sum(values) / len(values))

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what holds addresses of this one's tensors: a copy prepares its own."""
        return {k: v for k, v in self.__dict__.items() if k not in ("_update", "_reason")}

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_update", "_reason"]
