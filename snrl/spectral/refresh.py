"""Vectors follow their weights, in place: by the fastest way the device has."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Protocol

import torch

from snrl.spectral import native
from snrl.spectral.batch import Batch
from snrl.spectral.tracking import MAX_STEPS, RTOL, Vectors, track


class Plan(Protocol):
    """A way to carry the vectors of some matrices, prepared."""

    def __call__(self, n_power_iterations: int, rtol: float, max_steps: int) -> None:
        """Carry them; the arguments are those of :func:`track`."""


class Refresh:
    """Carries the vectors of a fixed set of matrices over changes of these: see :func:`track`.

    In one call of C on the CPU, in one launch of a kernel on a GPU, and by torch where neither can
    be had. Prepared once and used as long as all tensors stay where they are, since preparing takes
    longer than the arithmetic. The vectors are mutated without a trace in autograd's version
    counters, so a graph must hold copies.
    """

    def __init__(self, batches: Sequence[Batch]) -> None:
        """Prepare for matrices of any shapes.

        Args:
            batches: What belongs together; kept.
        """
        self.batches = batches
        ways: dict[Any, list[Batch]] = defaultdict(list)
        for batch in batches:
            first = batch.weights[0]
            ways[_way(batch), first.device, first.dtype].append(batch)
        self.plans: list[Plan] = [way(taken) for (way, *_), taken in ways.items()]

    @torch.no_grad()
    def __call__(
        self, n_power_iterations: int, rtol: float = RTOL, max_steps: int = MAX_STEPS
    ) -> None:
        """Carry all vectors; the arguments are those of :func:`track`.

        Raises:
            MemoryError: If there is none for scratch space.
        """
        for batch in self.batches:
            for row in batch.rows:
                batch.sigmas[row] = math.nan
        for plan in self.plans:
            plan(n_power_iterations, rtol, max_steps)


class InTorch:
    """The plan that is none: :func:`track`, batch by batch."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        """Keep the batches."""
        self.batches = batches

    def __call__(self, n_power_iterations: int, rtol: float, max_steps: int) -> None:
        """Carry the vectors; the arguments are those of :func:`track`."""
        for weights, vectors, rows, _ in self.batches:
            chosen = as_index(rows)
            current = Vectors(*(part[chosen] for part in vectors))
            moved = track(torch.stack(list(weights)), current, n_power_iterations, rtol, max_steps)
            for part, value in zip(vectors, moved, strict=True):
                part[chosen] = value


def _way(batch: Batch) -> Callable[[Sequence[Batch]], Plan]:
    if batch.weights[0].is_cuda:
        # Loads Triton, which nobody without a GPU should wait for.
        triton_kernel = import_module("snrl.spectral.triton_kernel")
        return triton_kernel.Plan if triton_kernel.takes(batch) else InTorch
    return native.Plan if native.can_refresh(batch) else InTorch


def as_index(rows: Sequence[int]) -> slice | list[int]:
    """Rows as a slice where they are contiguous: a view, and no index tensor to build."""
    contiguous = list(rows) == list(range(rows[0], rows[0] + len(rows)))
    return slice(rows[0], rows[0] + len(rows)) if contiguous else list(rows)
