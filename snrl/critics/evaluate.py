"""All heads of a critic on the same input, whichever way is the fastest."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from snrl.critics.stacked import can_stack, stacked_forward
from snrl.passes.evaluator import Evaluator
from snrl.spectral.products import is_eager


def by_modules(networks: Sequence[nn.Sequential], x: Tensor) -> tuple[Tensor, ...]:
    """Evaluate networks by operations that autograd knows: see :class:`Evaluate`.

    For somebody who differentiates gradients, too: a single node would do everything again.
    """
    if not x.is_cpu and can_stack(networks):
        return stacked_forward(networks, x).unbind(0)
    return tuple(network(x) for network in networks)


class Evaluate:
    """Evaluates networks, and remembers what it has prepared for them.

    A copy, and one that was saved, begins anew.
    """

    def __init__(self) -> None:
        """Begin with nothing prepared."""
        self._evaluators: dict[tuple[int, ...], Evaluator] = {}

    def __reduce__(self) -> tuple[Callable[[], "Evaluate"], tuple[()]]:
        """Leave out what is prepared, which is for these very networks."""
        return type(self), ()

    def __call__(
        self, networks: Sequence[nn.Sequential], x: Tensor, *, drawn: bool = False
    ) -> tuple[Tensor, ...]:
        """Evaluate networks on the same input.

        Args:
            networks: In the order in which a normalizer knows them. Not modified.
            x: Shape ``(batch, features)``.
            drawn: Whether they are others at each call: there are too many subsets to prepare for.

        Returns:
            One tensor of shape ``(batch, outputs)`` for each. Gradients flow to all parameters and
            to ``x``, to any order.
        """
        if not x.is_cpu or not is_eager():
            return by_modules(networks, x)
        if drawn and len(networks) > 1:
            return tuple(y for network in networks for y in self([network], x))
        found = self._evaluator(networks)(x)
        return by_modules(networks, x) if found is None else found

    def _evaluator(self, networks: Sequence[nn.Sequential]) -> Evaluator:
        # It keeps them, so that no other object gets their ids.
        key = tuple(map(id, networks))
        if key not in self._evaluators:
            self._evaluators[key] = Evaluator(networks)
        return self._evaluators[key]
