"""What the gradient steps of all algorithms have in common."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from snrl.fast.critics import Critics
from snrl.fast.watch import Watch


class Update(ABC):
    """An algorithm's gradient steps for the networks of one model; called with their number."""

    def __init__(self, model: Any, batch_size: int) -> None:
        """Take memory for a batch.

        Args:
            model: A model for which :meth:`why_not` has nothing to say.
            batch_size: Transitions in a batch.
        """
        self._model = model
        self._batch_size = batch_size
        self._parts = self.parts(model)
        self._watch = Watch(self._parts)
        self._actor_watch = Watch([model.actor])
        self._critics = Critics(model, batch_size)

    @staticmethod
    @abstractmethod
    def parts(model: Any) -> tuple[nn.Module, ...]:
        """List the modules of a model that the steps read or change."""

    @classmethod
    @abstractmethod
    def why_not(cls, model: Any) -> str | None:
        """Tell what keeps a model from the fast way; None if nothing does."""

    def is_for(self, model: Any, batch_size: int) -> bool:
        """Tell whether it is still the update of a model's networks, and for such batches."""
        return (
            batch_size == self._batch_size
            and all(part is own for part, own in zip(self.parts(model), self._parts, strict=True))
            and self._watch.is_unchanged()
            and self._critics.heads.is_current()
        )

    def act(self, obs: Tensor, deterministic: bool) -> Tensor | None:
        """Compute actions scaled to [-1, 1]; None if the actor is no longer what it was.

        Args:
            obs: Shape ``(n, obs_dim)``.
            deterministic: Whether the action is the distribution's mode; if not, noise is drawn
                from torch's global generator by an actor that has some of its own.
        """
        if not self._actor_watch.is_unchanged():
            return None
        return self._act(obs.to(self._critics.dtype).contiguous(), deterministic)

    @abstractmethod
    def _act(self, obs: Tensor, deterministic: bool) -> Tensor:
        """Compute actions for observations that are contiguous and of the networks' dtype."""
