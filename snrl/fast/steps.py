"""Optimiser steps and target averaging, a call of C each."""

import ctypes
from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from operator import is_
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.optim import Adam, AdamW, Optimizer
from torch.optim import optimizer as torch_optimizer

from snrl.spectral import native, steps
from snrl.spectral.native import structures

_OWN_HOOKS = {steps.before_step, steps.after_step}
_PLACE = Tensor.data_ptr
_RARE = ("amsgrad", "differentiable", "capturable")


class _Row(NamedTuple):
    """What a step reads of a parameter: itself, its gradient, its moments and its count."""

    parts: tuple[Tensor, ...]
    addresses: tuple[int, ...]


# Rows that have been found to be as the C function reads them, by the id of the parameter.
_known: WeakKeyDictionary[Optimizer, dict[int, _Row]] = WeakKeyDictionary()


def parameters_of(module: nn.Module) -> list[Tensor]:
    """List a module's parameters, not by a critic's own method, which watches who asks for them."""
    return list(nn.Module.parameters(module))


def step(optimizer: Optimizer) -> None:
    """Do what ``optimizer.step()`` does, for Adam and AdamW in one call for all parameters.

    State, hooks of this library and, to rounding, values are those of ``optimizer.step()``. Adam
    with options that are rarely set, with hooks of somebody else, or at its first step is left to
    torch, as is any other optimiser.

    Args:
        optimizer: Mutated, with its parameters, which are on the CPU.
    """
    if not is_ready(optimizer):
        optimizer.step()
        return
    known = _known[optimizer]
    following = steps.followers(optimizer)
    steps.begin(optimizer, following)
    # What is held now may stand in other groups than before.
    for group in optimizer.param_groups:
        _step(optimizer, group, known)
    steps.end(optimizer, following)


class Table:
    """What C reads of parameters that some optimisers are about to step, in one call for all.

    Attributes:
        rows: A row for each parameter.
        params: The parameters.
    """

    def __init__(self, optimizers: Sequence[Optimizer], targets: Mapping[int, Tensor]) -> None:
        """Write it down.

        Args:
            optimizers: Such that :func:`is_ready`.
            targets: What is averaged towards a parameter, by its ``id``; these stay where they are.
        """
        self._optimizers = optimizers
        self._options = [(*pair, structures.AdamOptions()) for pair in self._groups()]
        self.params: list[Tensor] = []
        self._averaged = {*targets}
        rows = []
        for optimizer, group, options in self._options:
            known = _known[optimizer]
            self.params += group["params"]
            rows += [_describe(known[id(x)], options, targets.get(id(x))) for x in group["params"]]
        self.rows = (structures.Parameter * len(rows))(*rows)
        # Kept, so that no other object gets their ids.
        self._parts = self._found()
        self._addresses = [*map(_PLACE, self._parts)]

    def is_whole(self, dtype: torch.dtype) -> bool:
        """Tell whether all is of one dtype, and everything averaged is averaged here."""
        held = {*map(id, self.params)}
        return self._averaged <= held and all(param.dtype is dtype for param in self.params)

    def is_for(self, optimizers: Sequence[Optimizer]) -> bool:
        """Tell whether all that it has addresses of is where it was; options may have changed."""
        if len(optimizers) != len(self._optimizers) or not all(
            map(is_, optimizers, self._optimizers)
        ):
            return False
        found, groups = self._found(), self._groups()
        return (
            len(groups) == len(self._options)
            and all(x is own[1] for (_, x), own in zip(groups, self._options, strict=True))
            and len(found) == len(self._parts)
            and all(map(is_, found, self._parts))
            and [*map(_PLACE, found)] == self._addresses
        )

    def read_options(self) -> None:
        """Write down the optimisers' options as they are now."""
        for optimizer, group, options in self._options:
            _read_options(optimizer, group, options)

    def _groups(self) -> list[tuple[Optimizer, dict[str, Any]]]:
        return [(x, group) for x in self._optimizers for group in x.param_groups]

    def _found(self) -> list[Tensor]:
        """The parameters, gradients, moments and counts that there are."""
        found = [*chain.from_iterable(group["params"] for _, group in self._groups())]
        found += [param.grad for param in found]
        for optimizer in self._optimizers:
            kept = chain.from_iterable(map(dict.values, optimizer.state.values()))
            found += [part for part in kept if isinstance(part, Tensor)]
        return found


def is_ready(optimizer: Optimizer) -> bool:
    """Tell whether an optimiser's step is one of :class:`Table`, but for who follows it.

    That is, :func:`is_plain_adam`, past its first step and with a gradient for each parameter.
    """
    known = _known.setdefault(optimizer, {})
    params = (param for group in optimizer.param_groups for param in group["params"])
    return is_plain_adam(optimizer) and all(_is_ready(optimizer, x, known) for x in params)


def _step(optimizer: Optimizer, group: dict[str, Any], known: dict[int, _Row]) -> None:
    params: list[Tensor] = group["params"]
    if not params:
        return
    options = structures.AdamOptions()
    _read_options(optimizer, group, options)
    rows = (structures.Parameter * len(params))()
    for i, param in enumerate(params):
        rows[i] = _describe(known[id(param)], options)
        # A mode may have replaced the gradient.
        assert param.grad is not None
        rows[i].g = param.grad.data_ptr()
    native.library(params[0].dtype).adam(
        ctypes.addressof(rows), len(params), torch.get_num_threads()
    )
    increment_version(params)


def is_plain_adam(optimizer: Optimizer) -> bool:
    """Tell whether an optimiser is Adam or AdamW with no rare options and no hooks of others."""
    return (
        type(optimizer) in (Adam, AdamW)
        and "step" not in vars(optimizer)  # as a learning rate scheduler wraps it
        and all(hook in _OWN_HOOKS for hook in _hooks(optimizer))
        and not any(group[name] for group in optimizer.param_groups for name in _RARE)
        and all(isinstance(group["lr"], float) for group in optimizer.param_groups)
        and all(len({x.dtype for x in group["params"]}) < 2 for group in optimizer.param_groups)
    )


def _is_ready(optimizer: Optimizer, param: Tensor, known: dict[int, _Row]) -> bool:
    """Tell whether a parameter has a gradient and moments, all as the C function reads them."""
    state, grad = optimizer.state.get(param), param.grad
    if grad is None or not state:
        return False
    parts = (param, grad, state["exp_avg"], state["exp_avg_sq"], state["step"])
    addresses = tuple([x.data_ptr() for x in parts])
    row = known.get(id(param))
    if row is not None and row.addresses == addresses and all(map(is_, row.parts, parts)):
        return True
    *dense, count = parts
    if not all(
        native.takes(x) and x.dtype is param.dtype and x.shape == param.shape for x in dense
    ):
        return False
    if not count.is_cpu or count.dtype is not torch.float32:
        return False
    known[id(param)] = _Row(parts, addresses)
    return True


def _describe(
    row: _Row, options: structures.AdamOptions, target: Tensor | None = None
) -> structures.Parameter:
    """Write down a parameter as C reads it, with what is averaged towards it if something is."""
    param, *_ = row.parts
    return structures.Parameter(
        *row.addresses,
        None if target is None else target.data_ptr(),
        ctypes.addressof(options),
        *(param.numel(), len(param) if param.dim() else 1),
    )


def _read_options(
    optimizer: Optimizer, group: dict[str, Any], options: structures.AdamOptions
) -> None:
    options.lr, options.eps, options.weight_decay = group["lr"], group["eps"], group["weight_decay"]
    options.beta1, options.beta2 = group["betas"]
    options.decoupled, options.maximize = is_decoupled(optimizer, group), group["maximize"]


def is_decoupled(optimizer: Optimizer, group: dict[str, Any]) -> bool:
    """Tell whether Adam or AdamW applies a group's weight decay to the weights themselves."""
    # Before 2.7 torch has no such option: AdamW's decay is, Adam's is not.
    return bool(group.get("decoupled_weight_decay", type(optimizer) is AdamW))


class Average:
    """Moves target parameters towards others: SB3's ``polyak_update`` in one call.

    Attributes:
        targets: What moves, by the ``id`` of where to.
    """

    def __init__(self, params: Sequence[Tensor], target_params: Sequence[Tensor]) -> None:
        """Take parameters on the CPU, which stay where they are.

        Args:
            params: Where to.
            target_params: What moves, in the same order.
        """
        self._params = params
        self.targets = {id(x): y for x, y in zip(params, target_params, strict=True)}
        self._table = array("q")
        for param, target in zip(params, target_params, strict=True):
            self._table.extend((target.data_ptr(), param.data_ptr(), param.numel()))

    def move(self, tau: float) -> None:
        """Move the target parameters, mutated, by the share ``tau``."""
        targets = [*self.targets.values()]
        native.library(targets[0].dtype).average(
            self._table.buffer_info()[0], len(targets), tau, torch.get_num_threads()
        )
        increment_version(targets)


def _hooks(optimizer: Optimizer) -> Iterator[Any]:
    return chain(
        optimizer._optimizer_step_pre_hooks.values(),
        optimizer._optimizer_step_post_hooks.values(),
        torch_optimizer._global_optimizer_pre_hooks.values(),
        torch_optimizer._global_optimizer_post_hooks.values(),
    )
