"""What real updates do to values that they are not for, watched from between them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snrl.values.probe import Probe, Transitions


@dataclass(frozen=True)
class Updates:
    """Values on a reference batch before and after updates of the critic.

    Attributes:
        before: Before the first update, ``(heads, n)``.
        after_call: After the first call of ``train``.
        call: Updates of that call: ``gradient_steps``, 1 by default.
        after: After the last update that was watched.
        count: Updates up to there.
    """

    before: Tensor
    after_call: Tensor
    call: int
    after: Tensor
    count: int


class UpdateWatch:
    """Watches the next updates of a model's critic, call by call of its ``train``.

    It evaluates the critic before and after a call, and touches nothing that training uses, so
    that it serves any ``train``, however it takes its steps.

    Args:
        probe: The model.
        count: Updates to watch, or a few more, as the last call makes them.
    """

    def __init__(self, probe: Probe, count: int) -> None:
        """Nothing is watched yet."""
        self._probe = probe
        self._count = count
        self._reference: Transitions | None = None
        self._before: Tensor | None = None
        self._begin = 0
        self._after_call: tuple[Tensor, int] | None = None
        self._after: tuple[Tensor, int] | None = None

    def state_dict(self) -> dict[str, Any]:
        """What is being watched, and what was seen so far, for a checkpoint."""
        return {
            "reference": None if self._reference is None else tuple(self._reference),
            "before": self._before,
            "begin": self._begin,
            "after_call": self._after_call,
            "after": self._after,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on watching where :meth:`state_dict` was called."""
        reference = state["reference"]
        self._reference = None if reference is None else Transitions(*reference)
        self._before, self._begin = state["before"], state["begin"]
        self._after_call, self._after = state["after_call"], state["after"]

    @property
    def is_watching(self) -> bool:
        """Whether a reference batch was given since the last :meth:`finish`."""
        return self._reference is not None

    def start(self, reference: Transitions) -> None:
        """Watch from the next call on.

        Args:
            reference: Transitions that training never sees.
        """
        self._reference = reference
        self._before = self._after_call = self._after = None

    def before_call(self) -> None:
        """To be called right before ``train``."""
        if self._reference is not None and self._before is None:
            self._before = self._evaluate(self._reference)
            self._begin = self._probe.updates

    def after_call(self) -> None:
        """To be called right after ``train``, or after a chance for it that was not taken."""
        if self._reference is None or self._before is None or self._after is not None:
            return
        count = self._probe.updates - self._begin
        if count and self._after_call is None:
            self._after_call = self._evaluate(self._reference), count
        if count >= self._count:
            self._after = self._evaluate(self._reference), count

    def finish(self) -> Updates | None:
        """Stop watching, between two calls.

        Returns:
            What was seen; None if there was no update.
        """
        self.after_call()
        reference, self._reference = self._reference, None
        if reference is None or self._before is None or self._after_call is None:
            return None
        if self._after is None:
            self._after = self._evaluate(reference), self._probe.updates - self._begin
        return Updates(self._before, *self._after_call, *self._after)

    @torch.no_grad()
    def _evaluate(self, reference: Transitions) -> Tensor:
        with self._probe.quiet():
            critic = self._probe.critic
            return self._probe.heads(critic, reference.observations, reference.actions).clone()
