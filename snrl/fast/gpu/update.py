"""What the gradient steps of all algorithms have in common on a GPU."""

from abc import abstractmethod
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from snrl.fast.batches import AT_ONCE
from snrl.fast.eligible import place_of
from snrl.fast.gpu import adam
from snrl.fast.gpu.critics import Critics
from snrl.fast.gpu.critics import why_not as why_not_critics
from snrl.fast.gpu.graph import Graph
from snrl.fast.gpu.player import Player
from snrl.fast.gpu.transitions import Batch, transitions
from snrl.fast.prepared import Prepared
from snrl.fast.steps import parameters_of


class Update(Prepared):
    """An algorithm's gradient steps for the networks of one model; called with their number.

    A gradient step is a :class:`~snrl.fast.gpu.graph.Graph`, from the batch's gathering to the
    refresh of the singular vectors; there are as many as there are kinds of steps (does the target
    move, does the actor). The losses are read once for up to 32 of them. Anything that a recording
    takes for given is looked at before each ``train()``, and a new recording made where it changed.
    Gradients are not left in the parameters' ``.grad``.
    """

    # How many numbers a step gives.
    n_losses: ClassVar[int]

    def __init__(self, model: Any, batch_size: int) -> None:
        """Take memory for a batch.

        Args:
            model: A model for which :meth:`why_not` has nothing to say.
            batch_size: Transitions in a batch.
        """
        super().__init__(model, batch_size)
        self._critics = Critics(model)
        self._actor_adam = adam.Adam(model.actor.optimizer)
        # What a subclass adds: optimisers that each step steps, and what moves with the actor.
        self._others: list[adam.Adam] = []
        self._actor_targets: list[Tensor] = []
        device, dtype = place_of(model.actor), self._critics.dtype
        self._device = device
        self._transitions = transitions(model, batch_size, device, dtype)
        self._turn = torch.zeros(1, dtype=torch.int64, device=device)
        self._given = torch.zeros(AT_ONCE, self.n_losses, dtype=dtype, device=device)
        self._baked = self.baked(model)
        self._graphs: dict[tuple[bool, bool], Graph] = {}

    @staticmethod
    @abstractmethod
    def baked(model: Any) -> tuple[object, ...]:
        """List the numbers of a model that a recording takes for given."""

    @abstractmethod
    def _losses(self, batch: Batch, tau: float | None, *, actor_moves: bool) -> list[Tensor]:
        """Do a gradient step, to be recorded.

        Args:
            batch: The transitions.
            tau: How far the targets move; None for not at all.
            actor_moves: Whether the actor is stepped.

        Returns:
            What the step gave, ``n_losses`` numbers of no dimensions.
        """

    @abstractmethod
    def _act(self, obs: Tensor, *, noisy: bool) -> Tensor:
        """Compute actions scaled to [-1, 1], to be recorded."""

    @classmethod
    def why_not_recorded(cls, model: Any) -> str | None:
        """Tell what keeps a model, eligible otherwise, from recordings; None if nothing does."""
        reason = adam.why_not(model.actor.optimizer, parameters_of(model.actor))
        return why_not_critics(model) if reason is None else f"the actor's optimizer is {reason}"

    def is_for(self, model: Any, batch_size: int) -> bool:
        """Tell whether it is still the update of a model's networks, and for such batches."""
        return (
            super().is_for(model, batch_size)
            and self.baked(model) == self._baked
            and self._transitions.is_current()
            and all(x.is_current() for x in (self._actor_adam, *self._others))
            and self._critics.is_current()
        )

    def _player(self, obs: Tensor, *, noisy: bool) -> Player:
        act = partial(self._act, noisy=noisy)
        return Player(act, obs, self._critics.dtype, self._device)

    def run(self, gradient_steps: int) -> list[list[float]]:
        """Do as many gradient steps.

        Returns:
            What each of them gave.
        """
        found: list[list[float]] = []
        turns = [*zip(*self.turns(self._model, range(gradient_steps)), strict=True)]
        for first in range(0, gradient_steps, AT_ONCE):
            chunk = turns[first : first + AT_ONCE]
            self._begin(len(chunk))
            for turn in chunk:
                self._graph(*turn)()
            found += self._given[: len(chunk)].tolist()
            targets_moved, actor_moved = (sum(x) for x in zip(*chunk, strict=True))
            self._critics.done(len(chunk), targets_moved=targets_moved > 0)
            self._actor_adam.done(actor_moved)
            if actor_moved:
                increment_version(self._actor_targets)
            for other in self._others:
                other.done(len(chunk))
        return found

    def _begin(self, count: int) -> None:
        """Bring to the device what so many gradient steps will read."""
        self._transitions.draw(count)
        self._critics.begin(count)
        for optimizer in (self._actor_adam, *self._others):
            optimizer.begin()
        self._turn.zero_()

    def _graph(self, targets_move: bool, actor_moves: bool) -> Graph:
        graph = self._graphs.get((targets_move, actor_moves))
        if graph is None:
            tau = self._model.tau if targets_move else None

            def work() -> None:
                batch = self._transitions.batch(self._turn)
                given = torch.stack(self._losses(batch, tau, actor_moves=actor_moves))
                self._given.index_copy_(0, self._turn, given.detach().unsqueeze(0))
                self._turn.add_(1)

            graph = self._graphs[targets_move, actor_moves] = Graph(work, self._device)
        return graph
