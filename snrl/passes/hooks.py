"""Whether somebody watches the modules of a network, so that each must be called."""

from collections.abc import Iterable, Mapping

from torch import nn
from torch.nn.modules import module as torch_module


def is_hooked(modules: Iterable[nn.Module]) -> bool:
    """Tell whether a forward or backward hook, or another forward, expects one of the modules.

    Args:
        modules: Not modified.

    Returns:
        True if one of them, or all modules of the process, have a hook.
    """
    return all_are_hooked() or any(map(has_hooks, modules))


def all_are_hooked() -> bool:
    """Tell whether all modules of the process have a hook."""
    return bool(torch_module._has_any_global_hook())  # type: ignore[no-untyped-call]


def has_hooks(module: nn.Module) -> bool:
    """Tell whether a module has a hook of its own, or a forward that is not its class's."""
    return "forward" in module.__dict__ or any(of(module))


def of(module: nn.Module) -> tuple[Mapping[int, object], ...]:
    """Where a module keeps its forward and backward hooks."""
    return (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
