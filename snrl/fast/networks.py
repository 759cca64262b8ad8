"""Networks forward and backward without autograd: a call of C each, into memory that stays."""

import ctypes
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from snrl.spectral import native
from snrl.spectral.layers import SpectralLinear

_ROWS_OF_A_THREAD = 32
_NORMS = (nn.LayerNorm, nn.RMSNorm)


def why_not(network: nn.Module) -> str | None:
    """Tell what keeps a network from being evaluated by :class:`Networks`.

    Args:
        network: Any module. Not modified.

    Returns:
        None if it is linear layers, each followed by a norm of its output (LayerNorm or RMSNorm), a
        rectifier, both in this order, or neither, on the CPU, of one dtype; otherwise what it is
        that is not.
    """
    if isinstance(network, nn.Linear):
        network = nn.Sequential(network)
    if type(network) is not nn.Sequential:
        return f"a {type(network).__name__} in place of a chain of layers"
    before: Any = None
    module: Any
    for module in network:
        if not all(native.takes(x) and x.requires_grad for x in module.parameters(False)):
            return "a weight that is not on the CPU, contiguous, float32 or float64, and trained"
        if type(module) is nn.ReLU:
            if not isinstance(before, (nn.Linear, *_NORMS)):
                return "a ReLU that follows no linear layer"
        elif type(module) in _NORMS:
            if not isinstance(before, nn.Linear):
                return f"a {type(module).__name__} that follows no linear layer"
            if tuple(module.normalized_shape) != (before.out_features,):
                return f"a {type(module).__name__} of another width than the layer before it"
        elif type(module) not in (nn.Linear, SpectralLinear):
            return f"a layer of type {type(module).__name__}"
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
        chains = [_stages(network) for group in groups for network in group]
        first, last = chains[0][0].layer, chains[0][-1].layer
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
        self._norms: list[_Norm] = []
        self._table = (native.Network * len(chains))()
        for k, (network, chain) in enumerate(zip(self._table, chains, strict=True)):
            rows = self._describe(k, chain)
            network.layers, network.depth = ctypes.addressof(rows), len(rows)
            if k < self._group_size:
                network.gx, network.from_column = self.input_grads[k].data_ptr(), from_column
        self._addresses = self._where()

    def is_current(self) -> bool:
        """Tell whether what is no parameter is as it was when the memory was taken.

        That is, where the singular vectors are, and what the norms add to the variance.
        """
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

    def _describe(self, k: int, chain: Sequence["_Stage"]) -> ctypes.Array[native.Layer]:
        """Write down the layers of a network as the C functions read them."""
        rows = (native.Layer * len(chain))()
        self._kept.append(rows)
        group = k // self._group_size
        for i, (row, (layer, norm, relu)) in enumerate(zip(rows, chain, strict=True)):
            is_last = i == len(chain) - 1
            shape = self._batch_size, len(layer.weight)
            row.w, row.b = layer.weight.data_ptr(), _address(layer.bias)
            row.y = _address(self.outputs[k] if is_last else self._kept_memory(*shape))
            row.m, row.n = layer.weight.shape
            row.relu, row.scale, row.slope = relu, 1.0, 0.0
            if isinstance(layer, SpectralLinear) and layer.slot.normalizer.is_factor:
                row.u, row.v = layer.slot.normalizer.addresses(layer)
                self._scaled[group].append((row, layer))
            if isinstance(layer, Joint) and layer not in self._joints:
                self._joints.append(layer)
            if group == 0:
                grads = self.output_grads[k] if is_last else self._kept_memory(*shape)
                row.gy = row.ga = _address(grads)
                row.gw, row.gb = self._gradients(layer)
            if norm is not None:
                self._describe_norm(row, norm, is_trained=group == 0)
        return rows

    def _describe_norm(self, row: native.Layer, norm: "_Norm", *, is_trained: bool) -> None:
        described = native.Norm(_address(norm.weight), _address(_bias(norm)))
        shape = self._batch_size, row.m
        # Without a backward what it keeps may be overwritten.
        described.z = _address(self._kept_memory(*shape)) if is_trained else row.y
        described.rates = _address(self._kept_memory(self._batch_size))
        described.centred = isinstance(norm, nn.LayerNorm)
        described.eps = _eps(norm, self._like.dtype)
        if is_trained:
            row.ga = _address(self._kept_memory(*shape))
            described.ggamma, described.gbeta = self._gradients(norm)
        row.norm = ctypes.pointer(described)
        self._norms.append(norm)

    def _kept_memory(self, *shape: int) -> Tensor:
        memory = self._memory(*shape)
        self._kept.append(memory)
        return memory

    def _gradients(self, module: "nn.Linear | Joint | _Norm") -> tuple[int | None, int | None]:
        """Take memory for gradients of a weight and a bias, where there are some."""
        parts: Any = module.layers if isinstance(module, Joint) else [module]
        weights, biases = [x.weight for x in parts], [_bias(x) for x in parts]
        return self._gradient(module.weight, weights), self._gradient(_bias(module), biases)

    def _gradient(self, of: Tensor | None, parts: Sequence[Any]) -> int | None:
        """Take memory for the gradient of parameters that stand behind each other in a tensor."""
        if of is None:
            return None
        memory = self._kept_memory(*of.shape)
        self._parameters += parts
        self._grads += torch.split(memory, [len(x) for x in parts])
        return memory.data_ptr()

    def _where(self) -> list[float]:
        layers = [layer for scaled in self._scaled for _, layer in scaled]
        vectors = [x for layer in layers for x in layer.slot.normalizer.addresses(layer)]
        return vectors + [_eps(norm, self._like.dtype) for norm in self._norms]


_Norm = nn.LayerNorm | nn.RMSNorm


class _Stage(NamedTuple):
    """A linear layer, the norm that follows it, and whether a rectifier does."""

    layer: nn.Linear | Joint
    norm: _Norm | None
    relu: bool


def _stages(network: Iterable[nn.Module | Joint]) -> list[_Stage]:
    stages: list[_Stage] = []
    for module in network:
        if isinstance(module, nn.Linear | Joint):
            stages.append(_Stage(module, None, relu=False))
        elif isinstance(module, _Norm):
            stages[-1] = stages[-1]._replace(norm=module)
        else:
            stages[-1] = stages[-1]._replace(relu=True)
    return stages


def _bias(module: nn.Linear | Joint | _Norm) -> Tensor | None:
    return None if isinstance(module, nn.RMSNorm) else module.bias


def _eps(norm: _Norm, dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps if norm.eps is None else norm.eps


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
