"""What gradient steps have in common on all devices."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from snrl.passes.watch import Watch


class Prepared(ABC):
    """An algorithm's gradient steps, prepared for the networks of one model on one kind of device.

    Attributes:
        draws: Whether an action that is not deterministic has noise of the actor's own.
    """

    draws: ClassVar[bool] = False

    def __init__(self, model: Any, batch_size: int) -> None:
        """Look at the networks.

        Args:
            model: A model for which :meth:`why_not` has nothing to say.
            batch_size: Transitions in a batch.
        """
        self._model = model
        self._batch_size = batch_size
        self._parts = self.parts(model)
        self._watch, self._actor_watch = Watch(self._parts), Watch([model.actor])
        self._players: dict[tuple[int, bool], Callable[[Tensor], Tensor]] = {}

    @staticmethod
    @abstractmethod
    def parts(model: Any) -> tuple[nn.Module, ...]:
        """List the modules of a model that the steps read or change."""

    @staticmethod
    @abstractmethod
    def turns(model: Any, gradient_steps: Sequence[int]) -> tuple[list[bool], list[bool]]:
        """Tell in which gradient steps, numbered from 0, the targets move, and the actor."""

    @classmethod
    @abstractmethod
    def why_not(cls, model: Any) -> str | None:
        """Tell what keeps a model from the fast way; None if nothing does."""

    @abstractmethod
    def __call__(self, gradient_steps: int) -> Any:
        """Do as many gradient steps; gives their losses."""

    @abstractmethod
    def _player(self, obs: Tensor, *, noisy: bool) -> Callable[[Tensor], Tensor]:
        """Prepare actions for observations of the same shape, without noise or with the actor's."""

    def is_for(self, model: Any, batch_size: int) -> bool:
        """Tell whether it is still the update of a model's networks, and for such batches."""
        return (
            batch_size == self._batch_size
            and all(part is own for part, own in zip(self.parts(model), self._parts, strict=True))
            and self._watch.is_unchanged()
        )

    @torch.no_grad()
    def act(self, obs: Tensor, deterministic: bool) -> Tensor | None:
        """Compute actions scaled to [-1, 1]; None if the actor is no longer what it was.

        Args:
            obs: Shape ``(n, obs_dim)``, on the CPU.
            deterministic: Whether the action is the distribution's mode; if not, noise is drawn
                from the device's global generator by an actor that has some of its own.

        Returns:
            Shape ``(n, action_dim)``, on the CPU.
        """
        if not self._is_actor_current():
            return None
        key = len(obs), self.draws and not deterministic
        player = self._players.get(key)
        if player is None:
            player = self._players[key] = self._player(obs, noisy=key[1])
        return player(obs)

    def _is_actor_current(self) -> bool:
        return self._actor_watch.is_unchanged()
