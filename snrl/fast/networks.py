"""Networks forward and backward without autograd: a call of C each, into memory that stays."""

import ctypes
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from snrl.spectral import native
from snrl.spectral.layers import SpectralLinear

_ROWS_OF_A_THREAD = 32


def why_not(network: nn.Module) -> str | None:
    """Tell what keeps a network from being evaluated by :class:`Networks`.

    Args:
        network: Any module. Not modified.

    Returns:
        None if it is linear layers and rectifiers that follow one, on the CPU, of one dtype;
        otherwise what it is that is not.
    """
    if isinstance(network, nn.Linear):
        network = nn.Sequential(network)
    if type(network) is not nn.Sequential:
        return f"a {type(network).__name__} in place of a chain of layers"
    before = None
    for module in network:
        if type(module) is nn.ReLU:
            if not isinstance(before, nn.Linear):
                return "a ReLU that follows no linear layer"
        elif type(module) not in (nn.Linear, SpectralLinear):
            return f"a layer of type {type(module).__name__}"
        elif not all(native.takes(x) and x.requires_grad for x in module.parameters(False)):
            return "a weight that is not on the CPU, contiguous, float32 or float64, and trained"
        elif "gain" in module._parameters:
            return "a layer with a learned gain"
        before = module
    return None


class Joint:
    """Linear layers of one input whose outputs stand side by side: one layer, if of equal dtype.

    Attributes:
        weight: Their weights below each other. A copy, made anew before each forward.
        bias: Their biases behind each other, likewise.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        """Take layers that all have a bias, or none of them."""
        self.layers = layers
        self.weight = torch.cat([layer.weight for layer in layers]).detach()
        biased = all(layer.bias is not None for layer in layers)
        self.bias = torch.cat([layer.bias for layer in layers]).detach() if biased else None

    def copy(self) -> None:
        """Copy the weights and biases as they are now."""
        torch.cat([layer.weight for layer in self.layers], out=self.weight)
        if self.bias is not None:
            torch.cat([layer.bias for layer in self.layers], out=self.bias)


class Networks:
    """Networks of equal shape, with memory for what passes through them.

    They stand in groups, each with an input of its own; the first group is trained. Values and
    gradients are those of the modules to rounding. Nothing is recorded for autograd.

    Attributes:
        outputs: What the last forward gave, shape ``(k, batch, m)``: group after group.
        output_grads: To be filled before a backward; overwritten by it. Shape ``(k, batch, m)`` for
            the first group's ``k``.
        input_grads: Gradients of the input from its column ``from_column`` on, one for each
            network of the first group, shape ``(k, batch, n - from_column)``.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[Sequence[nn.Module | Joint]]],
        batch_size: int,
        *,
        from_column: int = 0,
    ) -> None:
        """Take memory for a batch.

        Args:
            groups: As many networks in each, all of equal shape, each by its modules;
                :func:`why_not` has nothing to say of them. Their parameters must stay where they
                are.
            batch_size: Rows of the input.
            from_column: First column of the input whose gradient is wanted.
        """
        self._group_size = len(groups[0])
        chains = [_layers(network) for group in groups for network in group]
        (first, _), (last, _) = chains[0][0], chains[0][-1]
        self._like = first.weight.detach()
        self._batch_size = batch_size
        self.outputs = self._memory(len(chains), batch_size, len(last.weight))
        self.output_grads = torch.zeros_like(self.outputs[: self._group_size])
        columns = first.weight.shape[1] - from_column
        self.input_grads = self._memory(self._group_size, batch_size, columns)
        self._kept: list[object] = []
        self._parameters: list[Tensor] = []
        self._grads: list[Tensor] = []
        self._joints: list[Joint] = []
        # Group by group, so that those of a forward are the first ones.
        self._scaled: list[list[tuple[native.Layer, SpectralLinear]]] = [[] for _ in groups]
        self._table = (native.Network * len(chains))()
        for k, (network, chain) in enumerate(zip(self._table, chains, strict=True)):
            rows = self._describe(k, chain)
            network.layers, network.depth = ctypes.addressof(rows), len(rows)
            if k < self._group_size:
                network.gx, network.from_column = self.input_grads[k].data_ptr(), from_column
        self._addresses = self._where()

    def is_current(self) -> bool:
        """Tell whether the singular vectors are where they were when the memory was taken."""
        return self._addresses == self._where()

    def give_gradients(self) -> None:
        """Make the memory that a backward writes to the ``.grad`` of the parameters."""
        for part, grad in zip(self._parameters, self._grads, strict=True):
            part.grad = grad

    def forward(self, *inputs: Tensor) -> Tensor:
        """Evaluate all networks of as many groups as there are inputs.

        Args:
            inputs: Shape ``(batch, n)`` each, rows at any distance; the first must live until after
                the backward.

        Returns:
            ``outputs`` of these networks.
        """
        count = len(inputs) * self._group_size
        for k in range(count):
            x, network = inputs[k // self._group_size], self._table[k]
            network.x, network.stride = x.data_ptr(), x.stride(0)
        for scaled in self._scaled[: len(inputs)]:
            for row, layer in scaled:
                row.scale, row.slope = layer.slot.normalizer.scale_and_slope(layer)
        for joint in self._joints:
            joint.copy()
        native.library().forward(*self._arguments(count))
        return self.outputs[:count]

    def backward(self, *, to_weights: bool, to_input: bool) -> None:
        """Send ``output_grads`` back through the last forward of the first group.

        Args:
            to_weights: Whether the gradients of all parameters are wanted. Overwritten, not added
                to.
            to_input: Whether ``input_grads`` are.
        """
        native.library().backward(*self._arguments(self._group_size), to_weights, to_input)

    def _arguments(self, count: int) -> tuple[object, ...]:
        is_double = self.outputs.dtype is torch.float64
        # To wake a thread takes as long as some rows.
        threads = min(torch.get_num_threads(), 1 + self._batch_size // _ROWS_OF_A_THREAD)
        return self._table, count, self._batch_size, is_double, threads

    def _memory(self, *shape: int) -> Tensor:
        return self._like.new_zeros(shape)

    def _describe(
        self, k: int, chain: Sequence[tuple[nn.Linear | Joint, bool]]
    ) -> ctypes.Array[native.Layer]:
        """Write down the layers of a network as the C functions read them."""
        rows = (native.Layer * len(chain))()
        self._kept.append(rows)
        group = k // self._group_size
        for i, (row, (layer, relu)) in enumerate(zip(rows, chain, strict=True)):
            is_last = i == len(chain) - 1
            shape = self._batch_size, len(layer.weight)
            row.w, row.b = layer.weight.data_ptr(), _address(layer.bias)
            row.y = _address(self.outputs[k] if is_last else self._kept_memory(*shape))
            row.m, row.n = layer.weight.shape
            row.relu, row.scale, row.slope = relu, 1.0, 0.0
            if isinstance(layer, SpectralLinear) and layer.slot.normalizer.is_factor:
                row.u, row.v = _vectors(layer)
                self._scaled[group].append((row, layer))
            if isinstance(layer, Joint) and layer not in self._joints:
                self._joints.append(layer)
            if group == 0:
                row.gy = _address(self.output_grads[k] if is_last else self._kept_memory(*shape))
                gw = self._kept_memory(*layer.weight.shape)
                gb = None if layer.bias is None else self._kept_memory(*layer.bias.shape)
                row.gw, row.gb = _address(gw), _address(gb)
                self._give(layer, gw, gb)
        return rows

    def _kept_memory(self, *shape: int) -> Tensor:
        memory = self._memory(*shape)
        self._kept.append(memory)
        return memory

    def _give(self, layer: nn.Linear | Joint, gw: Tensor, gb: Tensor | None) -> None:
        """Note whose gradients these are."""
        if isinstance(layer, Joint):
            first = 0
            for part in layer.layers:
                end = first + len(part.weight)
                self._give(part, gw[first:end], None if gb is None else gb[first:end])
                first = end
            return
        self._parameters.append(layer.weight)
        self._grads.append(gw)
        if gb is not None:
            self._parameters.append(layer.bias)
            self._grads.append(gb)

    def _where(self) -> list[int]:
        return [x for scaled in self._scaled for _, layer in scaled for x in _vectors(layer)]


def _layers(network: Iterable[nn.Module | Joint]) -> list[tuple[nn.Linear | Joint, bool]]:
    """The linear layers, and whether a rectifier follows each."""
    modules = [*network]
    return [
        (layer, isinstance(after, nn.ReLU))
        for layer, after in zip(modules, [*modules[1:], None], strict=True)
        if isinstance(layer, nn.Linear | Joint)
    ]


def _vectors(layer: SpectralLinear) -> tuple[int, int]:
    u, v = layer.slot.normalizer.vectors(layer)
    return u.data_ptr(), v.data_ptr()


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
