"""Optimiser steps and target averaging, a call of C each."""

import ctypes
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.optim import Adam, AdamW, Optimizer
from torch.optim import optimizer as torch_optimizer

from snrl.spectral import native, steps

_OWN_HOOKS = {steps.before_step, steps.after_step}
_RARE = ("amsgrad", "differentiable", "capturable")


class _Held(NamedTuple):
    """A parameter, with what its step reads and writes."""

    param: Tensor
    grad: Tensor
    state: dict[str, Tensor]

    def is_in(self, optimizer: Optimizer) -> bool:
        """Tell whether an optimiser still holds just these."""
        return self.param.grad is self.grad and optimizer.state.get(self.param) is self.state


class Stepper:
    """Does what ``optimizer.step()`` does, for Adam and AdamW in one call for all parameters.

    State, hooks of this library and, to rounding, values are those of ``optimizer.step()``. Adam
    with options that are rarely set, with hooks of somebody else, or at its first step is left to
    torch, as is any other optimiser.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        """Keep the optimiser, whose parameters are on the CPU."""
        self._optimizer = optimizer
        self._held: list[_Held] = []
        self._table = array("q")

    def step(self) -> None:
        """Step. Parameters and the optimiser's state are mutated."""
        optimizer = self._optimizer
        if not self._is_current() and not self._prepare():
            optimizer.step()
            return
        steps.before_step(optimizer)
        first = 0
        for group in optimizer.param_groups:
            count = len(group["params"])
            self._step(group, first, count)
            first += count
        increment_version([held.param for held in self._held])
        steps.after_step(optimizer)

    def _step(self, group: dict[str, Any], first: int, count: int) -> None:
        options = native.AdamOptions(
            group["lr"],
            *group["betas"],
            group["eps"],
            group["weight_decay"],
            group["decoupled_weight_decay"],
            group["maximize"],
        )
        native.library().adam(
            self._table.buffer_info()[0] + 6 * first * self._table.itemsize,
            count,
            ctypes.byref(options),
            self._held[0].param.dtype is torch.float64,
            torch.get_num_threads(),
        )

    def _is_current(self) -> bool:
        optimizer = self._optimizer
        return (
            bool(self._held)
            and all(held.is_in(optimizer) for held in self._held)
            and all(hook in _OWN_HOOKS for hook in _hooks(optimizer))
        )

    def _prepare(self) -> bool:
        optimizer = self._optimizer
        params = [param for group in optimizer.param_groups for param in group["params"]]
        self._held = []
        self._table = array("q")
        if (
            type(optimizer) not in (Adam, AdamW)
            or "step" in vars(optimizer)  # as a learning rate scheduler wraps it
            or not all(hook in _OWN_HOOKS for hook in _hooks(optimizer))
            or any(group[name] for group in optimizer.param_groups for name in _RARE)
            or not all(isinstance(group["lr"], float) for group in optimizer.param_groups)
            or len({param.dtype for param in params}) > 1
        ):
            return False
        for param in params:
            state = optimizer.state.get(param)
            if not state or param.grad is None:
                return False
            tensors = (param, param.grad, state["exp_avg"], state["exp_avg_sq"])
            if not all(native.takes(x) and x.dtype is param.dtype for x in tensors):
                return False
            addresses = (x.data_ptr() for x in (*tensors, state["step"]))
            self._table.extend((*addresses, param.numel()))
            self._held.append(_Held(param, param.grad, state))
        return True


class Average:
    """Moves target parameters towards others: SB3's ``polyak_update`` in one call."""

    def __init__(self, params: Sequence[Tensor], target_params: Sequence[Tensor]) -> None:
        """Take parameters on the CPU, which stay where they are.

        Args:
            params: Where to.
            target_params: What moves, in the same order.
        """
        self._kept = (params, target_params)
        self._table = array("q")
        for param, target in zip(params, target_params, strict=True):
            self._table.extend((target.data_ptr(), param.data_ptr(), param.numel()))

    def move(self, tau: float) -> None:
        """Move the target parameters, mutated, by the share ``tau``."""
        _, targets = self._kept
        native.library().average(
            self._table.buffer_info()[0],
            len(targets),
            tau,
            targets[0].dtype is torch.float64,
            torch.get_num_threads(),
        )
        increment_version(targets)


def _hooks(optimizer: Optimizer) -> Iterator[Any]:
    return chain(
        optimizer._optimizer_step_pre_hooks.values(),
        optimizer._optimizer_step_post_hooks.values(),
        torch_optimizer._global_optimizer_pre_hooks.values(),
        torch_optimizer._global_optimizer_post_hooks.values(),
    )
