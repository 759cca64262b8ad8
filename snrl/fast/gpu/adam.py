"""Adam and AdamW whose step nothing on the host is needed for."""

from collections.abc import Iterable, Sequence
from itertools import chain
from operator import is_
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.optim import Optimizer

from snrl.fast.steps import is_decoupled, is_plain_adam

_BAKED = ("betas", "eps", "weight_decay", "maximize")


class _Group(NamedTuple):
    """A group of an optimiser: what its step reads and writes."""

    options: dict[str, Any]
    params: list[Tensor]
    first: list[Tensor]
    second: list[Tensor]
    counts: list[Tensor]
    lr: Tensor


class Adam:
    """An optimiser's step, to be recorded: see :class:`~snrl.fast.gpu.graph.Graph`.

    The optimiser's own moments are stepped by ``torch._fused_adam_``, a launch for each group. Its
    counts of steps, which torch keeps on the host, and its learning rate have a copy on the device,
    so that a recorded step reads those of its time; all else is what it was at the recording. What
    a state dict holds is what ``optimizer.step()`` would have left there.

    Attributes:
        params: The parameters, in the order of the groups.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        """Take an optimiser's groups.

        Args:
            optimizer: Such that :func:`why_not` has nothing to say. Mutated once a step is
                :meth:`done`: parameters that have no moments yet are given some.
        """
        self._optimizer = optimizer
        self._fresh = {
            x: _state(x, on_device=bool(group.get("fused")))
            for group in optimizer.param_groups
            for x in group["params"]
            if not optimizer.state.get(x)
        }
        self._groups = [self._prepared(x) for x in optimizer.param_groups if x["params"]]
        self.params = [x for group in self._groups for x in group.params]
        self._options = self._found_options()
        self._parts = self._found()
        self._addresses = _addresses(self._parts)
        # What the device has of the host's: learning rates, and counts of steps.
        self._rates: list[float] = []
        self._counts: list[float] = []

    def is_current(self) -> bool:
        """Tell whether all that a recorded step has taken for given is as it was."""
        found = self._found()
        return (
            is_plain_adam(self._optimizer)
            and len(found) == len(self._parts)
            and all(map(is_, found, self._parts))
            and _addresses(found) == self._addresses
            and self._found_options() == self._options
        )

    def begin(self) -> None:
        """Bring the learning rates and the counts of this moment to the device."""
        rates = [group.options["lr"] for group in self._groups]
        if rates != self._rates:
            for group, rate in zip(self._groups, rates, strict=True):
                group.lr.fill_(rate)
            self._rates = rates
        counts = [x.item() for x, _ in self._apart]
        if counts != self._counts:
            for host, own in self._apart:
                own.copy_(host)
        # Until it is known that what is launched has been done.
        self._counts = []

    def step(self, grads: Sequence[Tensor]) -> None:
        """Step all parameters; to be recorded.

        Args:
            grads: Their gradients, in the order of ``params``.
        """
        # The kernels go through memory, whatever the strides.
        left = iter([x.contiguous() for x in grads])
        for (options, *parts, lr), decoupled in zip(self._groups, self._decoupled(), strict=True):
            params, first, second, counts = parts
            torch._foreach_add_(counts, 1)
            fused = torch._fused_adamw_ if decoupled else torch._fused_adam_
            beta1, beta2 = options["betas"]
            fused(
                *(params, [next(left) for _ in params], first, second, [], counts),
                lr=lr,
                beta1=beta1,
                beta2=beta2,
                weight_decay=options["weight_decay"],
                eps=options["eps"],
                amsgrad=False,
                maximize=options["maximize"],
            )

    def done(self, count: int) -> None:
        """Count as many recorded steps on the host."""
        if count:
            self._optimizer.state.update(self._fresh)
            self._fresh = {}
            increment_version(self.params)
            for host, _ in self._apart:
                host += count
        self._counts = [x.item() for x, _ in self._apart]

    @property
    def _apart(self) -> list[tuple[Tensor, Tensor]]:
        """The counts that are kept on the host, each with its copy."""
        own = chain.from_iterable(group.counts for group in self._groups)
        kept = (self._kept(x)["step"] for x in self.params)
        return [(x, y) for x, y in zip(kept, own, strict=True) if x is not y]

    def _kept(self, param: Tensor) -> dict[str, Tensor]:
        """What the optimiser keeps of a parameter, or will."""
        return self._optimizer.state.get(param) or self._fresh.get(param, {})

    def _prepared(self, options: dict[str, Any]) -> _Group:
        params: list[Tensor] = options["params"]
        device = params[0].device
        states = [self._kept(x) for x in params]
        first, second, counts = ([x[k] for x in states] for k in ("exp_avg", "exp_avg_sq", "step"))
        # A copy also where the host is the device.
        counts = [x.to(device, copy=True) if x.is_cpu else x for x in counts]
        lr = torch.zeros((), dtype=torch.float32, device=device)
        return _Group(options, params, first, second, counts, lr)

    def _decoupled(self) -> list[bool]:
        return [is_decoupled(self._optimizer, group.options) for group in self._groups]

    def _found_options(self) -> list[object]:
        baked = [group[name] for group in self._optimizer.param_groups for name in _BAKED]
        return [*baked, *self._decoupled()]

    def _found(self) -> list[object]:
        """The groups, their parameters and what the optimiser keeps of these."""
        groups = self._optimizer.param_groups
        params = [*chain.from_iterable(group["params"] for group in groups)]
        kept = map(self._kept, params)
        return [*groups, *params, *chain.from_iterable(map(dict.values, kept))]


def _addresses(parts: Iterable[object]) -> list[int]:
    return [x.data_ptr() for x in parts if isinstance(x, Tensor)]


def why_not(optimizer: Optimizer, params: Iterable[Tensor]) -> str | None:
    """Tell what keeps an optimiser from being an :class:`Adam`.

    Args:
        optimizer: Not modified.
        params: What it has to step, and nothing else.

    Returns:
        What it is, as the end of a sentence; None if it can be one.
    """
    if not is_plain_adam(optimizer):
        return f"{type(optimizer).__name__} with hooks, or options, that are not Adam's usual ones"
    held = [id(x) for group in optimizer.param_groups for x in group["params"]]
    if sorted(held) != sorted(map(id, params)):
        return f"{type(optimizer).__name__} of other parameters than its network's"
    return None


def _state(param: Tensor, *, on_device: bool) -> dict[str, Tensor]:
    """What Adam makes for a parameter at its first step."""
    return {
        "step": torch.zeros((), dtype=torch.float32, device=param.device if on_device else None),
        "exp_avg": torch.zeros_like(param, memory_format=torch.preserve_format),
        "exp_avg_sq": torch.zeros_like(param, memory_format=torch.preserve_format),
    }
