"""The two verbs: normalise any torch module in place, and bake the result into a plain copy."""

import copy
from collections.abc import Mapping
from functools import singledispatch
from typing import Any, TypeVar, cast

import torch
from torch import nn

from snrl.spectral.coefficient import CoefOption
from snrl.spectral.layers import PLAIN_TYPES, SpectralLayer, normalizable_layers
from snrl.spectral.modes import Mode
from snrl.spectral.networks import bake_output
from snrl.spectral.normalizer import SpectralNormalizer
from snrl.spectral.selection import LayerSelection, select_layers

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def spectral_normalize(
    module: ModuleT,
    layers: LayerSelection = "hidden",
    coef: CoefOption = 1.0,
    n_power_iterations: int = 1,
    block_size: int = 4,
    mode: str | Mode = "normalize",
    mode_options: Mapping[str, Any] | None = None,
) -> ModuleT:
    """Hold the chosen layers of a network to a spectral norm, in place.

    Nothing else is to be done: the vectors are refreshed after each ``step()`` of whichever
    optimiser holds the weights, and after ``load_state_dict``. Where weights are changed by hand,
    call ``module.spectral.reset()``. Convolutions are held by the norm of the reshaped kernel
    ``(out, in·k…)``, as torch does, which is not the norm of the convolution.

    Args:
        module: Network with ``Linear`` or ``Conv1d`` to ``Conv3d`` layers, registered from input
            to output. Layers of other types, subclasses of these and parametrised layers are left
            alone and do not count. Mutated: its layers apply their effective weights, and it
            gains the submodule ``spectral``, a :class:`SpectralNormalizer`. Keys of its parameters
            stay. Make the optimiser afterwards: a mode may add parameters.
        layers: Negative indices from the output, ``"hidden"`` or ``"all"``: see
            :func:`select_layers`.
        coef: The norm each layer is held to; or ``(start, end, steps)``, to go linearly from one
            to another over a number of steps of the optimiser.
        n_power_iterations: Steps at each change of the weights; more are taken where needed.
        block_size: Number of vectors iterated together.
        mode: How layers are held: a name of ``snrl.spectral.modes.MODES``, or a mode.
        mode_options: Options of the mode that is named.

    Returns:
        The same module.

    Raises:
        ValueError: If the selection does not fit the network or an option is out of range.
        TypeError: If the module has no such layers.
    """
    found = normalizable_layers(module)
    if not found:
        raise TypeError(f"found no Linear or Conv layer in {type(module).__name__}")
    if module in found or "spectral" in dict(module.named_children()):
        raise ValueError(
            f"expected a network that holds layers and is not normalised yet, got {module}"
        )
    normalizer = SpectralNormalizer(coef, n_power_iterations, block_size, mode, mode_options)
    normalizer.add((found[position] for position in select_layers(layers, len(found))), [module])
    module.add_module("spectral", normalizer)
    return module


@singledispatch
def fold_spectral_norm(module: Any) -> Any:
    """Make a plain copy with the effective weights baked in.

    Args:
        module: A torch module with normalised layers; with ``snrl.critics``, also an SB3 policy,
            or an SB3 off-policy algorithm. Not modified.

    Returns:
        A copy that computes the same values (outputs, actions, Q-values) with torch's own layers
        and without vectors. A policy becomes one of SB3's own class; an algorithm saves to a zip
        that SB3 loads where ``snrl`` is not installed. The copy of an algorithm shares
        environment, replay buffer and logger with the original; its critic optimiser starts
        afresh, because moments of the raw weights mean nothing for the baked ones. Training it
        further trains a plain critic.

    Raises:
        TypeError: If it is something else.
    """
    raise TypeError(
        f"expected a torch module or an SB3 off-policy algorithm, got {type(module).__name__}"
    )


@fold_spectral_norm.register
def _fold_module(module: nn.Module) -> nn.Module:
    plain = copy.deepcopy(module)
    fold_in_place(plain)
    return plain


@torch.no_grad()
def fold_in_place(module: nn.Module) -> None:
    """Bake the effective weights into a network: see :func:`fold_spectral_norm`.

    Args:
        module: Mutated: weights replaced, layers turned back into torch's own, normalizers
            removed.
    """
    for layer in module.modules():
        bake_output(layer)
    for layer in [x for x in module.modules() if isinstance(x, SpectralLayer)]:
        layer.weight.copy_(layer.effective_weight())
        del layer.slot
        layer._parameters.pop("gain", None)
        layer.__class__ = cast("type[SpectralLayer]", PLAIN_TYPES[type(layer)])
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, SpectralNormalizer):
                delattr(parent, name)
