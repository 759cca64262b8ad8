"""Whether modules are still what they were when something was prepared for them."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn
from torch.nn.modules import module as torch_module


class Watch:
    """Notices what would make prepared memory wrong: any change of structure, place or watchers."""

    def __init__(self, roots: Sequence[nn.Module]) -> None:
        """Look at modules, and at all that they contain."""
        self._roots = roots
        self._seen = [*_look(roots)]

    def is_unchanged(self) -> bool:
        """Tell whether everything is as it was.

        That is, the same modules and parameters, these at the same addresses, all as trainable as
        before, and nobody hooked one.
        """
        return [*_look(self._roots)] == self._seen


def is_hooked(root: nn.Module) -> bool:
    """Tell whether somebody has hooked a module, one inside it, or a parameter of these."""
    return (
        bool(torch_module._has_any_global_hook())  # type: ignore[no-untyped-call]
        or any(_has_hooks(module) for module in root.modules())
        or any(_is_watched(param) for param in root.parameters())
    )


def _look(roots: Sequence[nn.Module]) -> Iterator[Any]:
    yield torch_module._has_any_global_hook()  # type: ignore[no-untyped-call]
    waiting: list[Any] = [*roots]
    while waiting:
        module = waiting.pop()
        yield id(module)
        if module is None:
            continue
        yield _has_hooks(module)
        for param in module._parameters.values():
            yield id(param)
            if param is not None:
                yield param.data_ptr(), param.requires_grad, param.dtype, _is_watched(param)
        waiting += module._modules.values()


def _has_hooks(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _is_watched(param: Any) -> bool:
    return bool(param._backward_hooks or param._post_accumulate_grad_hooks)
