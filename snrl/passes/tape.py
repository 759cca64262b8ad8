"""A gradient step as a list that C runs from one end to the other, as often as is asked for."""

import ctypes
import time
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from snrl.passes.operations import Operation
from snrl.passes.pace import Pace
from snrl.passes.panels import count
from snrl.spectral import native
from snrl.spectral.native.structures import Operation as Row
from snrl.spectral.native.structures import Phase, PhaseKind

_ALWAYS = -1


class Tape:
    """Phases in sections; all threads do a phase before the next begins.

    Attributes:
        width: Slots for each step: what changes from one step to the next. They are set by the
            caller of :meth:`run`.
    """

    def __init__(self, batch_size: int, dtype: torch.dtype, n_results: int) -> None:
        """Begin with nothing.

        Args:
            batch_size: Transitions in a batch.
            dtype: What is computed in.
            n_results: How many numbers each step gives.
        """
        self.width = 0
        self._batch_size, self._library = batch_size, native.library(dtype)
        self._n_results = n_results
        self._panels, _ = count(batch_size, dtype)
        self._paces: dict[tuple[int, ...], Pace] = {}
        self._flags: list[int] = []
        self._phases: list[Phase] = []
        self._ends: list[int] = []
        self._kept: list[object] = []
        self._table: Any = None

    def slot(self, width: int = 1) -> int:
        """Reserve slots that follow each other; gives the first."""
        self.width += width
        return self.width - width

    def on_panels(self, operations: Sequence[Operation], flag: int = _ALWAYS) -> None:
        """Do operations one after the other on each panel of the batch.

        Args:
            operations: What to do.
            flag: Slot that is 0 in steps without this phase, here and below.
        """
        self._add(PhaseKind.ON_PANELS, self._rows(operations), len(operations), flag)

    def once(self, operations: Sequence[Operation], flag: int = _ALWAYS) -> None:
        """Do operations once, one after the other."""
        if operations:
            self._add(PhaseKind.ONCE, self._rows(operations), len(operations), flag)

    def to_weights(self, networks: "ctypes.Array[Any]", flag: int = _ALWAYS) -> None:
        """Compute gradients of parameters, of what a backward has left."""
        self._add(PhaseKind.TO_WEIGHTS, networks, len(networks), flag)
        self._add(PhaseKind.THROUGH_SCALE, networks, len(networks), flag)

    def add(self, kind: PhaseKind, arguments: ctypes.Structure, flag: int = _ALWAYS) -> None:
        """Step an optimiser, or refresh vectors, by a structure that the caller may change."""
        self._add(kind, arguments, 0, flag)

    def end_section(self) -> None:
        """Let what is added from here on be the next section."""
        self._ends.append(len(self._phases))

    def run(self, inputs: np.ndarray, first: int = 0, last: int | None = None) -> np.ndarray:
        """Do sections in turn, all of them for each step.

        Args:
            inputs: What stands in the slots, int64, shape ``(steps, width)``.
            first: First section.
            last: Last section; all from the first by default.

        Returns:
            What the steps gave, float64, shape ``(steps, n_results)``.

        Raises:
            MemoryError: If there is none for scratch space.
        """
        if self._table is None:
            self._table = (Phase * len(self._phases))(*self._phases)
        start = self._ends[first - 1] if first else 0
        end = len(self._phases) if last is None else self._ends[last]
        steps = len(inputs)
        results = np.zeros((steps, self._n_results))
        # Other sections, or steps without some phases, are other work.
        flags = np.count_nonzero(inputs[:, self._flags]) if self._flags else 0
        work = start, end, steps, int(flags)
        pace = self._paces.get(work) or self._paces.setdefault(work, Pace())
        threads = pace.choose(min(torch.get_num_threads(), self._panels))
        begun = time.perf_counter()
        if self._library.run(
            ctypes.addressof(self._table) + start * ctypes.sizeof(Phase),
            end - start,
            *(inputs.ctypes.data, self.width, steps),
            *(results.ctypes.data, self._n_results, self._batch_size),
            threads,
        ):
            raise MemoryError("no memory for scratch space")
        pace.took(threads, (time.perf_counter() - begun) / steps)
        return results

    def _rows(self, operations: Sequence[Operation]) -> "ctypes.Array[Any]":
        self._kept += operations
        return (Row * len(operations))(
            *(Row(kind, ctypes.addressof(arguments)) for kind, arguments in operations)
        )

    def _add(self, kind: PhaseKind, arguments: Any, length: int, flag: int) -> None:
        self._kept.append(arguments)
        if flag != _ALWAYS and flag not in self._flags:
            self._flags.append(flag)
        self._phases.append(Phase(kind, flag, ctypes.addressof(arguments), length))


def copies(triples: Sequence[tuple[int, int, int]]) -> "array[int]":
    """A table of copies: where to, where from, how many numbers."""
    return array("q", [x for triple in triples for x in triple])
