"""What stabilisers do around the optimiser's steps, without an algorithm of their own."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from snrl.critics.randomness import drawn_again
from snrl.spectral.steps import live


class Held(NamedTuple):
    """A parameter, as followers of steps know layers."""

    weight: nn.Parameter


class Term:
    """Acts before every step of whichever optimiser holds the parameters: see ``Follower``.

    It is found by the parameters, so an optimiser may be replaced, copied or loaded. Whoever holds
    the parameters has to hold this, too.

    Attributes:
        turn: When it is told of a step that others are told of too.
        layers: The parameters.
    """

    def __init__(self, turn: int, parameters: Iterable[nn.Parameter]) -> None:
        """Follow the parameters."""
        self.turn = turn
        self.layers = [Held(parameter) for parameter in parameters]
        live.add(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copied or unpickled one, which follows optimisers like any other."""
        self.__dict__.update(state)
        live.add(self)

    def before_step(self, layers: Sequence[Held], optimizer: Optimizer) -> None:
        """Change gradients or weights before the optimiser reads them."""

    def after_step(self, layers: Sequence[Held]) -> None:
        """Leave a step that was taken alone."""


class BatchTerm(Term):
    """Adds the gradient of a term on the batch that the critic was last trained on.

    That batch is the inputs of the critic's last forward in training mode, with gradients enabled,
    that had no gradient to send to its actions: the loss's, not the actor's. It is kept, by
    reference, until the step. The term is evaluated in a forward of its own that sees what the
    loss's saw: weights, modes of modules, running statistics, dropped units. These are afterwards
    as they were before. A step without such a forward before it is a step without the term. In
    CrossQ, whose loss has the following states and actions in the same forward, so has the term.
    """

    def __init__(self, turn: int, critic: nn.Module, term: Callable[..., Tensor]) -> None:
        """Watch a critic.

        Args:
            turn: See :class:`Term`.
            critic: The online critic. Mutated: it gains a hook.
            term: Takes the critic and the inputs of its forward, and returns a scalar.
        """
        super().__init__(turn, critic.parameters())
        self._critic = critic
        self._term = term
        self._batch: _Batch | None = None
        critic.register_forward_pre_hook(self._keep, with_kwargs=True)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the batch out."""
        return {**self.__dict__, "_batch": None}

    def _keep(self, critic: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs = (*args, *kwargs.values())
        is_actors = any(action.requires_grad for action in inputs[1:])
        if critic.training and torch.is_grad_enabled() and not is_actors:
            self._batch = _Batch(inputs, _modes(critic), _buffers(critic))

    def before_step(self, layers: Sequence[Held], optimizer: Optimizer) -> None:  # noqa: ARG002
        """Add the gradient of the term to ``.grad``."""
        batch, self._batch = self._batch, None
        trained = [x.weight for x in layers if x.weight.requires_grad]
        if batch is None or not trained:
            return
        with torch.enable_grad(), batch.seen_again(self._critic):
            term = self._term(self._critic, *batch.inputs)
            if term.requires_grad:
                term.backward(inputs=trained)  # type: ignore[no-untyped-call]


class _Batch(NamedTuple):
    """The inputs of a forward, and what else it saw that may be another later."""

    inputs: tuple[Any, ...]
    modes: dict[nn.Module, bool]
    buffers: dict[Tensor, Tensor]

    @contextmanager
    def seen_again(self, critic: nn.Module) -> Iterator[None]:
        modes, buffers = _modes(critic), _buffers(critic)
        try:
            _restore(self.modes, self.buffers)
            with drawn_again(critic):
                yield
        finally:
            _restore(modes, buffers)


def _modes(critic: nn.Module) -> dict[nn.Module, bool]:
    return {module: module.training for module in critic.modules()}


def _buffers(critic: nn.Module) -> dict[Tensor, Tensor]:
    return {buffer: buffer.clone() for buffer in critic.buffers()}


@torch.no_grad()
def _restore(modes: dict[nn.Module, bool], buffers: dict[Tensor, Tensor]) -> None:
    for module, mode in modes.items():
        module.training = mode
    for buffer, value in buffers.items():
        buffer.copy_(value)
