"""Networks of one input as one node of autograd's graph, on the CPU.

What a small network costs in torch is not its products: two heads have ten operations, and twice
as many backward, each with passes over the activations. C does without most of them, and shares the
rest out over all threads.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from snrl.passes import operations as ops
from snrl.passes.networks import Networks, form, why_not
from snrl.passes.panels import Panels
from snrl.passes.tape import Tape, copies
from snrl.passes.watch import Watch, is_hooked
from snrl.spectral import native
from snrl.spectral.products import is_batched

# With more rows it is the products that cost. Memory is kept for so many sizes of a batch, and for
# so many graphs of each at once.
_ROWS, _SIZES, _GRAPHS = 1024, 4, 4
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
        if x.dim() != 2 or not 0 < len(x) <= _ROWS:
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
        self._watch, self._takes = Watch(self._networks), None
        modules = [module for network in self._networks for module in network]
        self._parameters = [param for module in modules for param in module.parameters()]
        if (
            native.is_available()
            and not any(map(is_hooked, self._networks))
            and len({str([*map(form, network)]) for network in self._networks}) == 1
            and 0 < len(set(modules)) == len(modules)
            and all(why_not(x, torch.device("cpu")) is None for x in self._networks)
            and len({param.dtype for param in self._parameters}) == 1
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
        self._count, self._input, self._output = (
            len(networks),
            (batch_size, width),
            (batch_size, height),
        )
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
        """Tell whether the singular vectors are where they were."""
        return self._networks.is_current()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Evaluate the networks; if they are trained, what a backward reads is kept."""
        self._networks.rescale()
        values = tuple([x.new_empty(self._output) for _ in range(self._count)])
        self._tape.run(self._slots([x], values), 0, 0)
        return values

    def backward(
        self, grads: Sequence[Tensor], *, to_input: bool, to_weights: bool
    ) -> tuple[Tensor | None, list[Tensor]]:
        """Send gradients of the values back: to the input, to all parameters, or both."""
        inputs = grads[0].new_empty(self._count if to_input else 0, *self._input)
        parameters = self._networks.new_gradients() if to_weights else []
        flags = to_input, not to_input, to_weights
        self._tape.run(self._slots([*inputs], grads, flags), 1, 1)
        return inputs.sum(0) if to_input else None, parameters

    def zero(self, like: Tensor) -> Tensor:
        """Make what is sent back from a network whose values have no gradient."""
        return like.new_zeros(self._output)

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
        token: Any = torch.empty(0)
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
        if torch.is_grad_enabled() or any(map(is_batched, given)):
            return _again(ctx.networks, x, parameters, grads, [to_input, *needed])
        memory: _Memory = token.taken.memory
        sent = [memory.zero(given[0]) if grad is None else grad.contiguous() for grad in grads]
        to_x, found = memory.backward(sent, to_input=to_input, to_weights=any(needed))
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
    """The gradients by operations that autograd knows, for somebody who differentiates them."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # Views, one for each place: x may come from a weight, and a weight may stand in several.
        sources = [part.view_as(part) for part in (x, *parameters)]
        places = iter(sources[1:])
        values, sent = [], []
        for network, grad in zip(networks, grads, strict=True):
            names = [name for name, _ in network.named_parameters(remove_duplicate=False)]
            own = {name: next(places) for name in names}
            if grad is not None:
                values.append(functional_call(network, own, (sources[0],), tie_weights=False))
                sent.append(grad)
        wanted = [part for part, need in zip(sources, needed, strict=True) if need]
        found = iter(
            torch.autograd.grad(values, wanted, sent, create_graph=create_graph, allow_unused=True)
        )
    to_x, *to_parameters = (next(found) if need else None for need in needed)
    return to_x, None, None, *to_parameters
