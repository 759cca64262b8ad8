"""Whether somebody watches the modules of a network, so that each must be called."""

from torch import nn
from torch.nn.modules import module as torch_module


def is_hooked(network: nn.Sequential) -> bool:
    """Tell whether a forward or backward hook expects to see the network or a layer of it.

    Args:
        network: Not modified.

    Returns:
        True if the network, one of its layers, or all modules of the process have a hook.
    """
    if torch_module._has_any_global_hook():  # type: ignore[no-untyped-call]
        return True
    return any(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        for module in (network, *network)
    )
