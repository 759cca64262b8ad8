"""Whether modules are still what they were when something was prepared for them."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from snrl.critics import hooks


class Watch:
    """Notices what would make prepared memory wrong: any change of structure, place or watchers."""

    def __init__(self, roots: Sequence[nn.Module]) -> None:
        """Look at modules, and at all that they contain."""
        self._roots = roots
        self._seen = _look(roots)

    def is_unchanged(self) -> bool:
        """Tell whether everything is as it was.

        That is, the same modules and parameters, these at the same addresses, all as trainable as
        before, and nobody hooked one.
        """
        return _look(self._roots) == self._seen


def is_hooked(root: nn.Module) -> bool:
    """Tell whether somebody has hooked a module, one inside it, or a parameter of these."""
    return hooks.is_hooked(root.modules()) or any(map(_is_watched, root.parameters()))


def _look(roots: Sequence[nn.Module]) -> list[Any]:
    seen: list[Any] = [hooks.all_are_hooked()]
    waiting: list[Any] = [*roots]
    while waiting:
        module = waiting.pop()
        seen.append(id(module))
        if module is None:
            continue
        seen.append(hooks.has_hooks(module))
        for param in module._parameters.values():
            seen.append(id(param))
            if param is not None:
                seen += param.data_ptr(), param.requires_grad, param.dtype, _is_watched(param)
        waiting += module._modules.values()
    return seen


def _is_watched(param: Any) -> bool:
    return bool(param._backward_hooks or param._post_accumulate_grad_hooks)
