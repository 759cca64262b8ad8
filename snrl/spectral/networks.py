"""Paths from an input to an output, for modes that act on a network rather than on a layer."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from snrl.spectral.layers import SpectralLayer, normalizable_layers


class Scaler(Protocol):
    """What a network needs of the module that knows sigma: ``SpectralNormalizer``."""

    def layer_scale(self, layer: SpectralLayer) -> Tensor:
        """Compute the mode's factor for one layer."""


class Network:
    """One network, and the normalised layers an input passes on its way to the output.

    Attributes:
        module: Holds all its parameters, those that it shares with others included.
        layers: Its normalised layers.
        output: Its last linear or convolution layer.
        chain: The layers at its end that stand one after the other; empty if they do not.
        inputs: Parts of the chain's input, by name.
    """

    def __init__(
        self,
        module: nn.Module,
        normalised: Sequence[SpectralLayer],
        inputs: Mapping[str, slice],
    ) -> None:
        """Find the network's part of the normalised layers."""
        inside = normalizable_layers(module)
        self.module = module
        self.layers = [layer for layer in normalised if any(layer is other for other in inside)]
        self.output = inside[-1]
        last = module[-1] if isinstance(module, nn.ModuleList) else module
        self.chain = tuple(last) if isinstance(last, nn.Sequential) else ()
        self.inputs = inputs

    def scale(self, scaler: Scaler) -> Tensor:
        """Compute the product of the layers' factors, a scalar; the gradient flows to weights."""
        return torch.stack([scaler.layer_scale(layer) for layer in self.layers]).prod()


@torch.no_grad()
def parameter_scales(networks: Iterable[Network], scaler: Scaler) -> dict[int, float]:
    """Compute each network's scale, as numbers, for all its parameters.

    Args:
        networks: The networks.
        scaler: Knows the factors of their layers.

    Returns:
        By ``id`` of the parameter; the geometric mean for one that is in several networks.
    """
    logs: dict[int, list[float]] = defaultdict(list)
    for network in networks:
        log = network.scale(scaler).log().item()
        for parameter in network.module.parameters():
            logs[id(parameter)].append(log)
    return {key: math.exp(sum(values) / len(values)) for key, values in logs.items()}


class ScaledOutput:
    """Forward hook of a network's output layer, which multiplies what it gives."""

    def __init__(self, network: Network, scaler: Scaler) -> None:
        """Keep whose output it is."""
        self.network = network
        self.scaler = scaler

    def __call__(self, _layer: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        """Multiply the output."""
        return output * self.network.scale(self.scaler)

    def install(self) -> None:
        """Let the output layer call this."""
        self.network.output.register_forward_hook(self)


@torch.no_grad()
def bake_output(layer: nn.Module) -> None:
    """Bake what a :class:`ScaledOutput` does into the layer itself.

    Args:
        layer: A linear or convolution layer. Mutated if it has such a hook, which is removed.
    """
    for key, hook in list(layer._forward_hooks.items()):
        if isinstance(hook, ScaledOutput):
            scale = hook.network.scale(hook.scaler)
            for parameter in layer.parameters(recurse=False):
                parameter.mul_(scale)
            del layer._forward_hooks[key]
