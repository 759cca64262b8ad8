"""Networks of one input as one node of autograd's graph, on the CPU.

What a small network costs in torch is not its products: two heads have ten operations, and twice
as many backward, each with passes over the activations. C does without most of them, and shares the
rest out over all threads.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import reduce
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from snrl.passes import operations as ops
from snrl.passes.hooks import is_hooked
from snrl.passes.networks import Networks, form, is_ordinary, why_not
from snrl.passes.panels import Panels
from snrl.passes.tape import Tape, copies
from snrl.passes.watch import Watch
from snrl.spectral import native

# With more rows it is the products that cost. Memory is kept for so many sizes of a batch, with
# gradients or without, and for so many graphs of each at once.
_ROWS, _SIZES, _GRAPHS = 1024, 8, 2
_NO_FLAGS = (False, False, False)


class Evaluator:
    """Evaluates networks of equal shape on the same input.

    Their modules are not called, and single operations not seen: where somebody would notice, it
    leaves the networks to themselves. Which way is taken depends on what is given, never on what
    was done before.
    """

    def __init__(self, networks: Sequence[nn.Sequential]) -> None:
        """Take networks, which are looked at when they are first evaluated."""
        self._networks = tuple(networks)
        self._watch: Watch | None = None
        self._takes: tuple[torch.dtype, int] | None = None
        self._lock = Lock()
        self._spare: OrderedDict[tuple[int, bool], list[_Memory]] = OrderedDict()

    def __call__(self, x: Tensor) -> tuple[Tensor, ...] | None:
        """Evaluate the networks, if that goes without their modules.

        Args:
            x: Shape ``(batch, features)``, on the CPU;
                :func:`~snrl.spectral.products.is_eager` holds.

        Returns:
            One tensor of shape ``(batch, outputs)`` for each network. Gradients flow to all
            parameters, through ``sigma`` too as far as a mode lets them, and to ``x``, to any
            order. None where somebody hooked a module, and for networks, dtypes and sizes that C
            does not take.
        """
        if x.dim() != 2 or not 0 < len(x) <= _ROWS or not is_ordinary(x):
            return None
        if self._watch is None or not self._watch.is_unchanged():
            self._look()
        if (x.dtype, x.shape[1]) != self._takes:
            return None
        trained = torch.is_grad_enabled()
        taken = self._take(len(x), trained=trained)
        x = x.contiguous()
        if not trained:
            return taken.memory.forward(x)
        found: tuple[Tensor, ...] = _Node.apply(x, self._networks, taken, *self._parameters)  # type: ignore[no-untyped-call]
        return found

    def _take(self, batch_size: int, *, trained: bool) -> "_Taken":
        key = batch_size, trained
        with self._lock:
            spare = self._spare.setdefault(key, [])
            self._spare.move_to_end(key)
            if len(self._spare) > _SIZES:
                self._spare.popitem(last=False)
            memory = spare.pop() if spare else None
        if memory is None or not memory.is_current():
            memory = _Memory(self._networks, batch_size, trained=trained)
        return _Taken(memory, spare)

    def _look(self) -> None:
        """Find out whether C takes the networks as they are now."""
        self._spare.clear()
        self._watch, self._takes = Watch(self._networks, gradients=False), None
        modules = [module for network in self._networks for module in network]
        self._parameters = [param for module in modules for param in module.parameters()]
        if (
            not is_hooked([*self._networks, *modules])
            and len({str([*map(form, network)]) for network in self._networks}) == 1
            and 0 < len(set(modules)) == len(modules)
            and all(why_not(x, torch.device("cpu"), trained=False) is None for x in self._networks)
            and len({param.dtype for param in self._parameters}) == 1
            and native.is_available(self._parameters[0].dtype)
        ):
            first: Any = modules[0]
            self._takes = first.weight.dtype, first.in_features


class _Memory:
    """What it takes to send a batch through networks in C."""

    def __init__(
        self, networks: Sequence[nn.Sequential], batch_size: int, *, trained: bool
    ) -> None:
        first: Any = networks[0][0]
        dtype, width = first.weight.dtype, first.in_features
        x = Panels(batch_size, width, dtype)
        chains = [[*network] for network in networks]
        self._networks = passing = Networks([chains], batch_size, [x], trained=trained)
        if trained:
            passing.keep_vectors()
        self._copies = copies(passing.copies)
        group, values = passing.groups[0], passing.outputs[0]
        height = values[0].features
        self._lock = Lock()
        self._count = len(networks)
        self._input, self._output = (batch_size, width), (batch_size, height)
        self._tape = tape = Tape(batch_size, dtype, 0)
        # Of the input and its gradients, and of the values and theirs: where, how far between rows.
        inputs, outputs = ([tape.slot(2) for _ in networks] for _ in range(2))
        self._to_input, self._to_input_not, self._to_weights = (tape.slot() for _ in range(3))
        written = [ops.store(*pair, height) for pair in zip(outputs, values, strict=True)]
        tape.once([ops.join(self._copies)] if self._copies else [])
        tape.on_panels([ops.load(inputs[0], x, width), ops.forward(group), *written])
        tape.end_section()
        if not trained:
            return
        sent, found = passing.output_grads, passing.input_grads
        back = [ops.load(*pair, height) for pair in zip(outputs, sent, strict=True)]
        out = [ops.store(*pair, width) for pair in zip(inputs, found, strict=True)]
        tape.on_panels([*back, ops.backward(group, to_input=True), *out], self._to_input)
        tape.on_panels([*back, ops.backward(group, to_input=False)], self._to_input_not)
        tape.to_weights(group, self._to_weights)
        tape.end_section()

    def is_current(self) -> bool:
        """Tell whether it is for the networks as they are, if their watch has seen no change."""
        return self._networks.is_current()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Evaluate the networks; if they are trained, what a backward reads is kept."""
        self._networks.rescale()
        values = tuple([x.new_empty(self._output) for _ in range(self._count)])
        self._tape.run(self._slots([x], values), 0, 0)
        return values

    def backward(
        self, grads: Sequence[Tensor | None], *, to_input: bool, to_weights: bool
    ) -> tuple[Tensor | None, list[Tensor]]:
        """Send gradients of the values back: to the input, to all parameters, or both.

        Args:
            grads: Those of each network, None where nobody asked it.
            to_input: Whether the gradient of the input is wanted.
            to_weights: Whether those of the parameters are; of a network that was not asked they
                mean nothing.

        Returns:
            What was wanted, in memory of its own.
        """
        like = next(grad for grad in grads if grad is not None)
        sent = [like.new_zeros(self._output) if x is None else x.contiguous() for x in grads]
        inputs = like.new_empty(self._count if to_input else 0, *self._input)
        flags = to_input, not to_input, to_weights
        # The same graph may be asked by several threads.
        with self._lock:
            parameters = self._networks.new_gradients() if to_weights else []
            self._tape.run(self._slots([*inputs], sent, flags), 1, 1)
        asked = [x for x, grad in zip(inputs, grads, strict=False) if grad is not None]
        return reduce(torch.add, asked) if to_input else None, parameters

    def _slots(
        self, inputs: Sequence[Tensor], values: Sequence[Tensor], flags: Sequence[bool] = _NO_FLAGS
    ) -> np.ndarray:
        slots: list[int] = []
        for matrices in (inputs, values):
            for matrix in matrices:
                slots += matrix.data_ptr(), matrix.shape[1]
            slots += (self._count - len(matrices)) * (0, 0)
        return np.array([[*slots, *flags]], dtype=np.int64)


class _Taken:
    """Memory that is in use until this is gone."""

    def __init__(self, memory: _Memory, spare: list[_Memory]) -> None:
        self.memory, self._spare = memory, spare

    def __del__(self) -> None:
        if len(self._spare) < _GRAPHS:
            self._spare.append(self.memory)

    def token(self) -> Tensor:
        """Make a tensor that holds it: one that a graph saves is gone after the last backward."""
        token: Any = torch.empty(0, device="cpu")
        token.taken = self
        return token  # type: ignore[no-any-return]


class _Node(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        networks: Sequence[nn.Sequential],
        taken: _Taken,
        *parameters: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(taken.token(), x, *parameters)
        ctx.networks = networks
        return taken.memory.forward(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        token, x, *parameters = ctx.saved_tensors
        to_input, _, _, *needed = ctx.needs_input_grad
        given = [grad for grad in grads if grad is not None]
        if not given:
            return None, None, None, *(None for _ in parameters)
        if torch.is_grad_enabled() or not all(map(is_ordinary, given)):
            return _again(ctx.networks, x, parameters, grads, [to_input, *needed])
        memory: _Memory = token.taken.memory
        to_x, found = memory.backward(grads, to_input=to_input, to_weights=any(needed))
        each = len(parameters) // len(grads)
        # As in torch, who was not asked has no gradient, which is another thing than zero.
        to_parameters = [
            grad if need and grads[i // each] is not None else None
            for i, (grad, need) in enumerate(zip(found or needed, needed, strict=True))
        ]
        return to_x, None, None, *to_parameters


def _again(
    networks: Sequence[nn.Sequential],
    x: Tensor,
    parameters: Sequence[Tensor],
    grads: Sequence[Tensor | None],
    needed: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """The gradients by operations that autograd knows, for somebody who differentiates them.

    By the modules, of the parameters as they were, which autograd sees to, but as the modules
    are: their structure, coefficients and singular vectors.
    """
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # Views, one for each place: x may come from a weight, and a weight may stand in several.
        sources = [part.view_as(part) for part in (x, *parameters)]
        for source, need in zip(sources, needed, strict=True):
            # Somebody may have frozen it meanwhile.
            if need and not source.requires_grad:
                source.requires_grad_()
        each = len(parameters) // len(networks)
        values, sent = [], []
        for i, (network, grad) in enumerate(zip(networks, grads, strict=True)):
            if grad is not None:
                names = [name for name, _ in network.named_parameters(remove_duplicate=False)]
                own = dict(zip(names, sources[1 + i * each :], strict=False))
                values.append(functional_call(network, own, (sources[0],), tie_weights=False))
                sent.append(grad)
        wanted = [part for part, need in zip(sources, needed, strict=True) if need]
        found = iter(
            torch.autograd.grad(values, wanted, sent, create_graph=create_graph, allow_unused=True)
        )
    to_x, *to_parameters = (next(found) if need else None for need in needed)
    return to_x, None, None, *to_parameters
