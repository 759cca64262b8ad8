"""An ensemble of equal networks as one network with one more dimension."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from snrl.passes.hooks import is_hooked
from snrl.spectral import SpectralLayer
from snrl.spectral.layers import SpectralLinear

_LINEAR = (nn.Linear, SpectralLinear)
_NORMS = (nn.LayerNorm, nn.RMSNorm)
_AFFINE = ("weight", "bias")
_ELEMENTWISE = (nn.ReLU, nn.Tanh, nn.ELU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Identity)


def can_stack(networks: Sequence[nn.Sequential]) -> bool:
    """Tell whether :func:`stacked_forward` computes what the networks compute one by one.

    It does where each position holds linear layers, norms of the last dimension, or one of torch's
    activations without parameters, which is applied to all rows of all networks at once, and where
    nobody hooked a module: a hook expects to see its own network pass by.

    Args:
        networks: At least one network.

    Returns:
        True if all of them have the same types at each position and all are of those kinds.
    """
    if len({len(network) for network in networks}) != 1:
        return False
    if is_hooked(module for network in networks for module in (network, *network)):
        return False
    return all(
        len({type(module) for module in modules}) == 1
        and (
            type(modules[0]) in _LINEAR
            or _are_equal_norms(modules)
            or _is_plain_activation(modules[0])
        )
        for modules in zip(*networks, strict=True)
    )


def stacked_forward(networks: Sequence[nn.Sequential], x: Tensor) -> Tensor:
    """Evaluate ``k`` networks on the same input, each layer as one batched product.

    Args:
        networks: Networks for which :func:`can_stack` holds. Not modified.
        x: Input, shape ``(batch, features)``.

    Returns:
        Shape ``(k, batch, outputs)``. Gradients flow to every parameter and to ``x``.
    """
    hidden = x.expand(len(networks), *x.shape)
    for modules in zip(*networks, strict=True):
        first = modules[0]
        if type(first) in _LINEAR:
            weight = stacked_weight(modules)
            # With the weight in front, as its gradient is then contiguous: an optimiser reads it.
            if first.bias is None:
                hidden = (weight @ hidden.mT).mT
            else:
                bias = torch.stack([module.bias for module in modules])
                hidden = torch.baddbmm(bias.unsqueeze(2), weight, hidden.mT).mT
        elif type(first) in _NORMS:
            hidden = _normalized(modules, hidden)
        elif type(first) in _ELEMENTWISE:
            hidden = modules[0](hidden)
        else:
            # (k, batch, width) to (k·batch, width): an activation along dim=1 still means width.
            rows: Tensor = first(hidden.flatten(0, 1))
            hidden = rows.view(*hidden.shape[:2], rows.shape[-1])
    return hidden


def stacked_weight(layers: Sequence[nn.Linear]) -> Tensor:
    """Stack the weights that the layers apply: effective where normalised, else as stored.

    Args:
        layers: ``k`` linear layers of shape ``(m, n)``.

    Returns:
        Shape ``(k, m, n)``. The gradient flows to the layers' weights.
    """
    first = layers[0]
    if isinstance(first, SpectralLayer):
        return first.slot.normalizer.effective_weights(layers)  # type: ignore[arg-type]
    return torch.stack([layer.weight for layer in layers])


def _are_equal_norms(modules: Sequence[nn.Module]) -> bool:
    """Tell whether modules are norms of one dimension that differ in no more than parameters."""
    first = modules[0]
    return (
        isinstance(first, _NORMS)
        and type(first) in _NORMS
        and len(first.normalized_shape) == 1
        # What a norm prints are its options.
        and len({(x.extra_repr(), *(_is_there(x, name) for name in _AFFINE)) for x in modules}) == 1
    )


def _is_there(norm: nn.Module, name: str) -> bool:
    return getattr(norm, name, None) is not None


def _normalized(norms: Sequence[nn.LayerNorm | nn.RMSNorm], x: Tensor) -> Tensor:
    first = norms[0]
    shape = list(first.normalized_shape)
    if isinstance(first, nn.RMSNorm):
        x = functional.rms_norm(x, shape, eps=first.eps)
    else:
        x = functional.layer_norm(x, shape, eps=first.eps)
    for name in _AFFINE:
        if _is_there(first, name):
            # (k, width) to (k, 1, width)
            own = torch.stack([getattr(norm, name) for norm in norms]).unsqueeze(1)
            x = x * own if name == "weight" else x + own
    return x


def _is_plain_activation(module: nn.Module) -> bool:
    known = type(module) is nn.Identity or type(module).__module__ == nn.ReLU.__module__
    return known and not module._parameters and not module._buffers
