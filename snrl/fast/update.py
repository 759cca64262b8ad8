"""What the gradient steps of all algorithms have in common on the CPU."""

import ctypes
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.optim import Optimizer

from snrl.fast.batches import Batches, draw
from snrl.fast.critics import Critics
from snrl.fast.player import Head, Player, mode
from snrl.fast.prepared import Prepared
from snrl.fast.steps import Average, Table, is_plain_adam, is_ready, parameters_of, step
from snrl.passes import operations as ops
from snrl.passes.networks import Joint, Networks
from snrl.passes.tape import Tape
from snrl.spectral import native
from snrl.spectral.native import structures as c
from snrl.spectral.native.structures import PhaseKind
from snrl.spectral.steps import followers

# The sections of a tape.
CRITIC, MOVE_CRITIC, ACTOR, MOVE_ACTOR = range(4)
# What each step gives: the entropy coefficient and its logarithm, and sums over the batch.
ENT_COEF, LOG_ENT_COEF, LOG_PROB, SQUARES, VALUES = range(5)


class Update(Prepared):
    """An algorithm's gradient steps for the networks of one model; called with their number.

    They stand on a :class:`~snrl.passes.tape.Tape` that C runs as a whole, for all steps whose
    batches are drawn at once, where each optimiser's step is one that C can do; otherwise section
    by section, with what PyTorch does in between.
    """

    # To be set by a subclass: the actor by its layers and with memory, how its target follows if
    # there is one, and the slots of what _noise() gives.
    _network: Sequence[nn.Module | Joint]
    _actor: Networks
    _average: Average | None
    _noises: Sequence[int]
    # From what the actor's network gives to its mode, and to actions that are drawn if it has some.
    _head: tuple[Head, ...] = (mode,)

    def __init__(self, model: Any, batch_size: int) -> None:
        """Take memory for a batch.

        Args:
            model: A model for which :meth:`why_not` has nothing to say.
            batch_size: Transitions in a batch.
        """
        super().__init__(model, batch_size)
        self._critics = critics = Critics(model, batch_size)
        self._tape = Tape(batch_size, critics.dtype, 5)
        # Of both inputs the address and the distance of rows.
        self._now, self._next = self._tape.slot(2), self._tape.slot(2)
        # Addresses of rewards, of discounts, and of what the target asks.
        self._facts = self._tape.slot(3)
        self._targets_move, self._actor_moves = self._tape.slot(), self._tape.slot()
        self._known: tuple[Table, Table] | None = None
        self._moves = (
            c.Move(average=self._targets_move),
            c.Move(average=self._actor_moves),
        )

    def _compose(
        self,
        compare: Sequence[ops.Operation],
        climb: Sequence[ops.Operation],
        before: Sequence[ops.Operation] = (),
        after: Sequence[ops.Operation] = (),
    ) -> None:
        """Put the steps on the tape, when the subclass has all it needs.

        Args:
            compare: From both inputs to the gradients of what the critic gave.
            climb: From there to those of what the actor gave.
            before: What is done once, before all that.
            after: What is done once, after the comparison.
        """
        critics, tape, flag = self._critics, self._tape, self._actor_moves
        tape.once(before)
        tape.on_panels(
            [
                ops.load(self._now, critics.now, critics.now.features),
                ops.load(self._next, critics.next, critics.obs_dim),
                *compare,
            ]
        )
        tape.once([ops.total(critics.squares, SQUARES), *after])
        tape.to_weights(critics.heads.groups[0])
        tape.end_section()

        tape.add(PhaseKind.MOVE, self._moves[0])
        critics.follow(tape, self._targets_move)
        tape.end_section()

        trained = self._actor.groups[0]
        tape.on_panels([*climb, ops.backward(trained, to_input=False)], flag)
        tape.once([ops.total(critics.values, VALUES)], flag)
        tape.to_weights(trained, flag)
        tape.end_section()

        tape.add(PhaseKind.MOVE, self._moves[1], flag)

    @staticmethod
    @abstractmethod
    def eligible(model: Any) -> str | None:
        """Tell what keeps a model from the fast way on its device; None if nothing does."""

    @classmethod
    def why_not(cls, model: Any) -> str | None:
        """Tell what keeps a model from the fast way on the CPU; None if nothing does."""
        if (reason := cls.eligible(model)) is not None:
            return reason
        dtype = parameters_of(model.critic)[0].dtype
        return None if native.is_available(dtype) else "there is no C compiler"

    def is_for(self, model: Any, batch_size: int) -> bool:
        """Tell whether it is still the update of a model's networks, and for such batches."""
        return (
            super().is_for(model, batch_size)
            and self._critics.is_current()
            and self._actor.is_current()
        )

    def _is_actor_current(self) -> bool:
        return super()._is_actor_current() and self._actor.is_current()

    def _player(self, obs: Tensor, *, noisy: bool) -> Callable[[Tensor], Tensor]:
        critics = self._critics
        player = Player(self._network, len(obs), critics.action_dim, self._head[noisy])

        def act(obs: Tensor) -> Tensor:
            return player(obs.to(critics.dtype).contiguous(), noisy=noisy)

        return act

    @torch.no_grad()
    def run(self, gradient_steps: int) -> np.ndarray:
        """Do as many gradient steps.

        Returns:
            What they gave, float64, shape ``(gradient_steps, 5)``.
        """
        found: list[np.ndarray] = []
        drawn = draw(self._model, gradient_steps, self._batch_size, self._critics.dtype)
        for batches in drawn:
            self._prepare()
            tables = self._tables()
            # Without a tape, noise is drawn step by step: an optimiser may draw some too.
            parts = [batches] if tables else _singly(batches)
            for part in parts:
                inputs, kept = self._inputs(part, sum(map(len, found)))
                found.append(self._run(tables, inputs) if tables else self._step(inputs))
                # Until here there are addresses of it.
                del kept
        return np.concatenate(found)

    @abstractmethod
    def _noise(self, count: int) -> list[Tensor]:
        """Draw the noise of the next gradient steps, each of shape ``(count, batch, action_dim)``.

        The addresses stand in the slots that the algorithm has reserved.
        """

    @abstractmethod
    def _optimizers(self) -> tuple[list[Optimizer], list[Optimizer]]:
        """List the optimisers of both moves: the critic's after others, the actor's."""

    @property
    def _targets(self) -> Mapping[int, Tensor]:
        """What is averaged towards the actor's parameters, by the ``id`` of these."""
        return {} if self._average is None else self._average.targets

    def _prepare(self) -> None:
        """Write down what may have changed since the last call."""
        self._critics.heads.rescale()
        for networks in (self._critics.heads, self._actor):
            # Somebody may have replaced or dropped them.
            networks.give_gradients()

    def _tables(self) -> tuple[Table, Table] | None:
        """What C reads of the optimisers; None if it cannot do all of their steps."""
        first, second = self._optimizers()
        *others, own = first
        if not self._critics.is_on_tape(own) or any(map(followers, (*others, *second))):
            return None
        optimizers = *first, *second
        if (
            self._known is None
            or not all(map(is_plain_adam, optimizers))
            or not all(
                table.is_for(x) for table, x in zip(self._known, (first, second), strict=True)
            )
        ):
            if not all(map(is_ready, optimizers)):
                return None
            tables = Table(first, self._critics.targets), Table(second, self._targets)
            if not all(table.is_whole(self._critics.dtype) for table in tables):
                return None
            self._known = tables
        for table in self._known:
            table.read_options()
        return self._known

    def _inputs(self, batches: Batches, first: int) -> tuple[np.ndarray, list[Tensor]]:
        """Fill the slots; gives also what they have addresses of."""
        count = len(batches.now)
        kept = [*batches, *self._noise(count)]
        now, following, rewards, discounts, *noise = map(_addresses, kept)
        columns: list[Sequence[int]] = [[0] * count] * self._tape.width
        columns[self._now], columns[self._next] = now, following
        columns[self._now + 1] = [batches.now.stride(1)] * count
        columns[self._next + 1] = [batches.next.stride(1)] * count
        columns[self._facts], columns[self._facts + 1] = rewards, discounts
        if (asked := self._critics.drawn(count)) is not None:
            kept.append(asked)
            columns[self._facts + 2] = _addresses(asked)
        turns = self.turns(self._model, range(first, first + count))
        columns[self._targets_move], columns[self._actor_moves] = turns
        for slot, addresses in zip(self._noises, noise, strict=True):
            columns[slot] = addresses
        return np.array([*zip(*columns, strict=True)], dtype=np.int64), kept

    def _run(self, tables: tuple[Table, Table], inputs: np.ndarray) -> np.ndarray:
        """Do gradient steps from one end of the tape to the other."""
        for move, table in zip(self._moves, tables, strict=True):
            move.rows, move.count = ctypes.addressof(table.rows), len(table.rows)
            move.tau = self._model.tau
        found = self._tape.run(inputs)
        increment_version(tables[0].params)
        self._critics.moved(targets_moved=bool(inputs[:, self._targets_move].any()))
        if inputs[:, self._actor_moves].any():
            increment_version([*tables[1].params, *self._targets.values()])
        return found

    def _step(self, inputs: np.ndarray) -> np.ndarray:
        """Do one gradient step, section by section."""
        self._prepare()
        found = self._tape.run(inputs, CRITIC, CRITIC)
        (*others, _), (actors,) = self._optimizers()
        for optimizer in others:
            step(optimizer)
        self._critics.step(self._model.tau if inputs[0, self._targets_move] else None)
        if inputs[0, self._actor_moves]:
            self._prepare()
            found += self._tape.run(inputs, ACTOR, ACTOR)
            step(actors)
            if self._average is not None:
                self._average.move(self._model.tau)
        return found


def _singly(batches: Batches) -> list[Batches]:
    """Some batches, one by one."""
    return [Batches(*(x[i : i + 1] for x in batches)) for i in range(len(batches.now))]


def _addresses(of: Tensor) -> Sequence[int]:
    """Where the parts of a tensor are, along its first dimension."""
    first, distance = of.data_ptr(), of.stride(0) * of.itemsize
    return range(first, first + of.shape[0] * distance, distance)
