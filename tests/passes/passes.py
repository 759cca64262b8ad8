"""Networks forward and backward, and single operations, on matrices that are tensors."""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snrl.passes import operations as ops
from snrl.passes.networks import Networks
from snrl.passes.panels import Panels
from snrl.passes.tape import Tape, copies
from snrl.spectral.native import structures as c


def panels_of(matrix: Tensor, **options: Any) -> Panels:
    """A matrix in panels."""
    panels = Panels(*matrix.shape, matrix.dtype, **options)
    panels.fill(matrix)
    return panels


def once_done(
    operations: Sequence[ops.Operation],
    batch_size: int,
    dtype: torch.dtype,
    slots: Sequence[Tensor] = (),
) -> None:
    """Do operations on panels, with the addresses of tensors in the slots."""
    tape = Tape(batch_size, dtype, 0)
    tape.slot(len(slots) + 1)
    tape.on_panels(operations)
    tape.run(np.array([[*(x.data_ptr() for x in slots), 0]], dtype=np.int64))


class Values:
    """Networks of no more than a value and its gradient, and an input with one.

    Attributes:
        networks: As the operations take them.
        grads: Gradients of the values, to be read.
    """

    def __init__(self, values: Tensor | None = None, input_grads: Tensor | None = None) -> None:
        """Take values of shape ``(k, batch, 1)``, or gradients of inputs likewise."""
        given = values if values is not None else input_grads
        assert given is not None
        self.networks = (c.Network * len(given))()
        self._kept: list[Any] = []
        self.grads: list[Panels] = []
        for network, matrix in zip(self.networks, given, strict=True):
            panels, grads, layer = panels_of(matrix), panels_of(matrix), (c.Layer * 1)()
            layer[0].y, layer[0].gy = panels.address(), grads.address()
            network.layers, network.depth = ctypes.addressof(layer), 1
            network.gx = panels.address()
            self._kept.append((panels, layer))
            self.grads.append(grads)


class Passes:
    """Networks that are sent forward and backward by themselves."""

    def __init__(self, groups: Any, batch_size: int, *, from_column: int = 0) -> None:
        """Take networks: see :class:`Networks`."""
        first = groups[0][0][0].weight
        self._batch_size, self._dtype = batch_size, first.dtype
        self._inputs = [Panels(batch_size, first.shape[1], first.dtype) for _ in groups]
        self.networks = networks = Networks(
            groups, batch_size, self._inputs, from_column=from_column
        )
        self._copies = copies(networks.copies)
        self.output_grads, self.input_grads = (
            torch.zeros(len(x), batch_size, x[0].features, dtype=first.dtype)
            for x in (networks.output_grads, networks.input_grads)
        )

    def forward(self, *inputs: Tensor) -> Tensor:
        """Evaluate the networks of as many groups, shape ``(k, batch, m)``."""
        self.networks.rescale()
        tape = self._tape()
        slots = [tape.slot(2) for _ in inputs]
        tape.once([ops.join(self._copies)])
        for slot, x, panels, group in zip(
            slots, inputs, self._inputs, self.networks.groups, strict=False
        ):
            tape.on_panels(
                [
                    ops.load(slot, panels, x.shape[1]),
                    ops.forward(group),
                ]
            )
        row = [y for x in inputs for y in (x.data_ptr(), x.stride(0))]
        tape.run(np.array([row], dtype=np.int64))
        found = self.networks.outputs[: len(inputs)]
        return torch.stack([panels.matrix() for group in found for panels in group])

    def backward(self, *, to_weights: bool, to_input: bool, some: bool = False) -> None:
        """Send ``output_grads`` back through the first group, or only some rows of them."""
        for panels, grads in zip(self.networks.output_grads, self.output_grads, strict=True):
            panels.fill(grads)
        for panels, grads in zip(self.networks.input_grads, self.input_grads, strict=True):
            panels.fill(grads)
        tape = self._tape()
        tape.slot()
        group = self.networks.groups[0]
        tape.on_panels(
            [ops.backward_some(group) if some else ops.backward(group, to_input=to_input)]
        )
        if to_weights:
            tape.to_weights(self.networks.groups[0])
        tape.run(np.zeros((1, 1), dtype=np.int64))
        for panels, grads in zip(self.networks.input_grads, self.input_grads, strict=True):
            grads.copy_(panels.matrix())

    def _tape(self) -> Tape:
        return Tape(self._batch_size, self._dtype, 0)
