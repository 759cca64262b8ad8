"""Networks as C reads them, with memory for what passes through them forward and backward."""

import ctypes
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from snrl.passes.panels import Panels
from snrl.spectral import native
from snrl.spectral.layers import Quotient, SpectralLinear
from snrl.spectral.native import structures as c
from snrl.spectral.precision import rounds_products
from snrl.spectral.products import is_batched

_NORMS = (nn.LayerNorm, nn.RMSNorm)
# Shorter side of a weight from which rounding what products read takes less time than it saves.
_WORTH = 32


def why_not(network: nn.Module, device: torch.device, *, trained: bool = True) -> str | None:
    """Tell what keeps a network from being one of :class:`Networks`.

    Args:
        network: Any module. Not modified.
        device: Where it has to be.
        trained: Whether all of its parameters have to ask for a gradient.

    Returns:
        None if it is linear layers, each followed by a norm of its output (LayerNorm or RMSNorm), a
        rectifier, both in this order, or neither, of one dtype; otherwise what it is that is not.
    """
    if isinstance(network, nn.Linear):
        network = nn.Sequential(network)
    if type(network) is not nn.Sequential:
        return f"a {type(network).__name__} in place of a chain of layers"
    before: Any = None
    width: int | None = None
    module: Any
    for module in network:
        if not all(_is_usual(x, device) for x in module.parameters(False)):
            return f"a weight that is not on {device}, contiguous, and float32 or float64"
        if trained and not all(x.requires_grad for x in module.parameters(False)):
            return "a weight that is not trained"
        if type(module) is nn.ReLU:
            if not isinstance(before, (nn.Linear, *_NORMS)):
                return "a ReLU that follows no linear layer"
        elif type(module) in _NORMS:
            if not isinstance(before, nn.Linear):
                return f"a {type(module).__name__} that follows no linear layer"
            parts = [part for part in (module.weight, _bias(module)) if part is not None]
            shape = (before.out_features,)
            if any(tuple(x) != shape for x in (module.normalized_shape, *(y.shape for y in parts))):
                return f"a {type(module).__name__} of another width than the layer before it"
        elif type(module) not in (nn.Linear, SpectralLinear):
            return f"a layer of type {type(module).__name__}"
        elif not _is_whole(module, width):
            return "a layer of another width than its weight, its bias or the layer before it"
        elif "gain" in module._parameters:
            return "a layer with a learned gain"
        elif type(module) is SpectralLinear and not _fits(module):
            return "singular vectors of another dtype, or elsewhere, than the weight"
        before, width = module, getattr(module, "out_features", width)
    return None


def _is_usual(param: Tensor, device: torch.device) -> bool:
    return (
        is_ordinary(param)
        and param.device == device
        and param.dtype in (torch.float32, torch.float64)
        and param.is_contiguous()
    )


def is_ordinary(x: Tensor) -> bool:
    """Tell whether the memory of a tensor holds its numbers: not of subclasses, nor lazy ones."""
    return (
        type(x) in (Tensor, nn.Parameter)
        and x.layout is torch.strided
        and not x.is_neg()
        and not x._is_zerotensor()
        and not is_batched(x)
    )


def _is_whole(layer: nn.Linear, width: int | None) -> bool:
    return (
        width in (None, layer.in_features)
        and layer.weight.shape == (layer.out_features, layer.in_features)
        and (layer.bias is None or layer.bias.shape == (layer.out_features,))
    )


def _fits(layer: SpectralLinear) -> bool:
    u, weight = layer.slot.normalizer.vectors(layer)[0], layer.weight
    return u.dtype is weight.dtype and u.device == weight.device


def form(module: nn.Module) -> tuple[object, ...]:
    """Give what modules of equal shape have in common."""
    return type(module).__name__, *(param.shape for param in module.parameters())


class Joint:
    """Linear layers of one input whose outputs stand side by side: one layer, if of equal dtype.

    Attributes:
        weight: Memory for their weights below each other.
        bias: Memory for their biases behind each other; None if they have none.
        copies: How what they are now comes there: see :func:`~snrl.passes.tape.copies`.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        """Take layers that all have a bias, or none of them, and stay where they are."""
        self.layers = layers
        self.weight = torch.cat([layer.weight for layer in layers]).detach()
        biased = all(layer.bias is not None for layer in layers)
        self.bias = torch.cat([layer.bias for layer in layers]).detach() if biased else None
        self.copies = _copies(self.weight, [layer.weight for layer in layers])
        if self.bias is not None:
            self.copies += _copies(self.bias, [layer.bias for layer in layers])


class Networks:
    """Networks of equal shape, with memory for what passes through them, as C reads them.

    They stand in groups, each with an input of its own; the first group is trained.

    Attributes:
        groups: The networks, for the operations of a tape.
        outputs: What they give, in the same order.
        output_grads: What is sent back through the first group's, to be filled and overwritten.
        input_grads: Gradients of the input from its column ``from_column`` on, one for each
            network of the first group.
        copies: What has to be copied before a forward.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[Sequence[nn.Module | Joint]]],
        batch_size: int,
        inputs: Sequence[Panels],
        *,
        from_column: int = 0,
        trained: bool = True,
    ) -> None:
        """Take memory for a batch.

        Args:
            groups: As many networks in each, all of equal shape, each by its modules;
                :func:`why_not` has nothing to say of them. Their parameters must stay where they
                are.
            batch_size: Rows of the input.
            inputs: The input of each group: its first features.
            from_column: First column of the input whose gradient is wanted.
            trained: Whether the first group is.
        """
        chains = [[_stages(network) for network in group] for group in groups]
        self._batch_size, self._trained = batch_size, trained
        self._like = chains[0][0][0].layer.weight.detach()
        self._rounds = _rounds(self._like.dtype)
        self._kept: list[object] = [*inputs]
        self._gradients: list[_Gradient] = []
        self._scaled: list[tuple[c.Layer, SpectralLinear]] = []
        self._norms: list[_Norm] = []
        self._joints: list[Joint] = []
        self.output_grads: list[Panels] = []
        self.input_grads: list[Panels] = []
        self.outputs: list[list[Panels]] = [[] for _ in groups]
        passing: dict[tuple[int, int], Panels] = {}
        self.groups = [(c.Network * len(group))() for group in groups]
        for i, (group, x) in enumerate(zip(chains, inputs, strict=True)):
            for network, chain in zip(self.groups[i], group, strict=True):
                rows = self._describe(i, chain, x, passing)
                network.layers, network.depth = ctypes.addressof(rows), len(rows)
                if trained and i == 0:
                    grads = self._panels(chain[0].layer.weight.shape[1] - from_column)
                    network.gx, network.from_column = grads.address(), from_column
                    self.input_grads.append(grads)
        self.copies = [triple for joint in self._joints for triple in joint.copies]
        self._grads = [grad.zero_() for grad in self.new_gradients()]
        self._eps = [_eps(norm, self._like.dtype) for norm in self._norms]

    def first(self, count: int) -> "ctypes.Array[c.Network]":
        """So many networks of the first group, in memory that they share with it."""
        return (c.Network * count)(*self.groups[0][:count])

    @property
    def has_norms(self) -> bool:
        """Whether a layer is followed by a norm."""
        return bool(self._norms)

    def is_current(self) -> bool:
        """Tell whether what is no parameter is as it was when the memory was taken.

        That is, what norms add to the variance, and the precision of products.
        """
        return self._rounds == _rounds(self._like.dtype) and self._eps == [
            _eps(norm, self._like.dtype) for norm in self._norms
        ]

    def new_gradients(self) -> list[Tensor]:
        """Let a backward write to new memory.

        Returns:
            What will be the gradients of the first group's parameters, in the order of its modules.
            Nobody else holds them: autograd takes what is held once for a ``.grad``, and copies
            what is held twice.
        """
        grads: list[Tensor] = []
        for row, name, of, parts in self._gradients:
            memory = torch.empty_like(of)
            setattr(row, name, memory.data_ptr())
            sizes = [len(x) for x in parts]
            grads += [memory] if len(sizes) == 1 else torch.split(memory, sizes)
        return grads

    def give_gradients(self) -> None:
        """Make the memory that a backward writes to the ``.grad`` of the parameters."""
        parameters = [part for gradient in self._gradients for part in gradient.parts]
        for part, grad in zip(parameters, self._grads, strict=True):
            part.grad = grad

    def keep_vectors(self) -> None:
        """Let a backward read the singular vectors as ``copies`` has left them, not as they are."""
        for row, layer in self._scaled:
            for name, vector in zip("uv", layer.slot.normalizer.vectors(layer), strict=True):
                own = torch.empty_like(vector)
                self._kept.append(own)
                setattr(row, name, own.data_ptr())
                self.copies += _copies(own, [vector])

    def rescale(self) -> None:
        """Write down the factors of the normalised layers as they are now, for a forward."""
        for row, layer in self._scaled:
            row.scale, row.slope = layer.slot.normalizer.scale_and_slope(layer)

    def quotients(self) -> list[Quotient | None]:
        """How these factors follow from norms, where it is as a quotient."""
        return [layer.slot.normalizer.quotient(layer) for _, layer in self._scaled]

    def scaled(self, quotients: Sequence[Quotient]) -> list[c.Scaled]:
        """How C is to find these factors after a refresh."""
        rows = [ctypes.addressof(row) for row, _ in self._scaled]
        return [c.Scaled(row, *x) for row, x in zip(rows, quotients, strict=True)]

    def _panels(self, features: int) -> Panels:
        panels = Panels(self._batch_size, features, self._like.dtype)
        self._kept.append(panels)
        return panels

    def _describe(
        self,
        group: int,
        chain: Sequence["_Stage"],
        x: Panels,
        passing: dict[tuple[int, int], Panels],
    ) -> "ctypes.Array[Any]":
        """Write down the layers of a network as the C functions read them."""
        rows = (c.Layer * len(chain))()
        self._kept.append(rows)
        is_trained = self._trained and group == 0
        for i, (row, (layer, norm, relu)) in enumerate(zip(rows, chain, strict=True)):
            row.w, row.b = layer.weight.data_ptr(), _address(layer.bias)
            row.m, row.n = layer.weight.shape
            is_last = i == len(chain) - 1
            if is_trained or is_last:
                y = self._panels(row.m)
            else:
                # Nobody asks for it later: the next network may overwrite it.
                place = row.m, i % 2
                y = passing[place] = passing.get(place) or self._panels(row.m)
            row.x, row.x_rows, row.y = x.address(), x.features, y.address()
            row.relu, row.scale, row.slope = relu, 1.0, 0.0
            row.bfloat16 = self._rounds and min(row.m, row.n) >= _WORTH
            if isinstance(layer, SpectralLinear) and layer.slot.normalizer.is_factor:
                row.u, row.v = layer.slot.normalizer.addresses(layer)
                self._scaled.append((row, layer))
                overlap = torch.empty(row.m, dtype=torch.float64, device="cpu")
                self._kept.append(overlap)
                row.overlap = overlap.data_ptr()
            if isinstance(layer, Joint) and layer not in self._joints:
                self._joints.append(layer)
            if is_trained:
                grads = self._panels(row.m)
                row.gy = row.ga = grads.address()
                self._wants_gradients(row, ("gw", "gb"), layer)
                if is_last:
                    self.output_grads.append(grads)
            if norm is not None:
                self._describe_norm(row, norm, is_trained=is_trained)
            x = y
        self.outputs[group].append(x)
        return rows

    def _describe_norm(self, row: c.Layer, norm: "_Norm", *, is_trained: bool) -> None:
        described = c.Norm(_address(norm.weight), _address(_bias(norm)))
        # Without a backward what it keeps may be overwritten.
        described.z = self._panels(row.m).address() if is_trained else row.y
        described.rates = self._panels(1).address()
        described.centred = isinstance(norm, nn.LayerNorm)
        described.eps = _eps(norm, self._like.dtype)
        if is_trained:
            row.ga = self._panels(row.m).address()
            self._wants_gradients(described, ("ggamma", "gbeta"), norm)
        row.norm = ctypes.pointer(described)
        self._norms.append(norm)

    def _wants_gradients(
        self, row: ctypes.Structure, names: Sequence[str], module: "nn.Linear | Joint | _Norm"
    ) -> None:
        """Have a structure point to gradients of a weight and a bias, where there are some."""
        parts: Any = module.layers if isinstance(module, Joint) else [module]
        weights, biases = [x.weight for x in parts], [_bias(x) for x in parts]
        for name, of, own in zip(
            names, (module.weight, _bias(module)), (weights, biases), strict=True
        ):
            if of is not None:
                # An alias: a backward may come when the parameter has been put elsewhere.
                self._gradients.append(_Gradient(row, name, of.detach(), own))


_Norm = nn.LayerNorm | nn.RMSNorm


class _Gradient(NamedTuple):
    """Which field of a structure points to the gradient of parameters that stand side by side."""

    row: ctypes.Structure
    name: str
    of: Tensor
    parts: Sequence[Any]


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


def _rounds(dtype: torch.dtype) -> bool:
    return dtype is torch.float32 and rounds_products() and native.has_bfloat16()


def _eps(norm: _Norm, dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps if norm.eps is None else norm.eps


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _copies(to: Tensor, parts: Sequence[Tensor]) -> list[tuple[int, int, int]]:
    """One part behind the other: where to, where from, how many numbers."""
    places = torch.split(to, [len(x) for x in parts])
    pairs = zip(places, parts, strict=True)
    return [(place.data_ptr(), part.data_ptr(), part.numel()) for place, part in pairs]
