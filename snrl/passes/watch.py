"""Whether modules are still what they were when something was prepared for them."""

from collections.abc import Sequence
from itertools import chain
from operator import attrgetter, is_
from typing import Any

from torch import Tensor, nn

from snrl.passes import hooks
from snrl.spectral.layers import SpectralLayer

_FORM = "dtype", "shape"
_WATCHERS = "_backward_hooks", "_post_accumulate_grad_hooks"


class Watch:
    """Notices what would make prepared memory wrong: any change of structure, place or watchers."""

    def __init__(self, roots: Sequence[nn.Module], *, gradients: bool = True) -> None:
        """Look at modules, at all that they contain, and at where their singular vectors are.

        Args:
            roots: The modules.
            gradients: Whether also at who asks for gradients of parameters: not where autograd
                sends them.
        """
        names = (*_FORM, "requires_grad", *_WATCHERS) if gradients else _FORM
        self._look_at = attrgetter(*names)
        found = [x for root in roots for x in root.modules()]
        layers = [x for x in found if isinstance(x, SpectralLayer)]
        normalizers: Any = dict.fromkeys(x.slot.normalizer for x in layers)
        # Kept, so that no other object gets their ids.
        self._modules = [*dict.fromkeys([*found, *(x for y in normalizers for x in y.modules())])]
        self._children: list[dict[str, Any]] = [x._modules for x in self._modules]
        self._owned: list[dict[str, Any]] = [
            y for x in self._modules for y in (x._parameters, x._buffers)
        ]
        self._named = [x.__dict__ for x in self._modules]
        self._hooks: list[Any] = [y for x in self._modules for y in hooks.of(x)]
        self._parts = self._found()
        self._params = [
            x for x in chain.from_iterable(map(dict.values, self._owned)) if x is not None
        ]
        self._seen = self._look()

    def is_unchanged(self) -> bool:
        """Tell whether everything is as it was.

        That is, the same modules, parameters and buffers, these at the same addresses and of the
        same form, nobody hooked a module, and if gradients matter, all are as trainable as before.
        """
        found = self._found()
        return (
            len(found) == len(self._parts)
            and all(map(is_, found, self._parts))
            and self._look() == self._seen
        )

    def _found(self) -> list[Any]:
        """The modules inside, the parameters and the buffers."""
        return [*chain.from_iterable(map(dict.values, chain(self._children, self._owned)))]

    def _look(self) -> list[Any]:
        params = self._params
        return [
            hooks.all_are_hooked() or any(self._hooks),
            *["forward" in names for names in self._named],
            *map(type, self._modules),
            *map(Tensor.data_ptr, params),
            *map(Tensor.is_contiguous, params),
            *map(self._look_at, params),
        ]


def is_hooked(root: nn.Module) -> bool:
    """Tell whether somebody has hooked a module, one inside it, or a parameter of these."""
    return hooks.is_hooked(root.modules()) or any(map(_is_watched, root.parameters()))


def _is_watched(param: Any) -> bool:
    return any(getattr(param, name) for name in _WATCHERS)
