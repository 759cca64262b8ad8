"""What a CUDA graph does, on the CPU: the operations are recorded with their memory, and replayed.

A graph is a list of kernels and addresses. Nothing that Python decides, and no tensor that would be
made anew, has a place in it, and nothing that the host has to know may be asked of the device. This
is the same, with the operations that PyTorch dispatches in the place of kernels.
"""

from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from snrl.spectral.refresh import Refresh

# What would have to wait for the device: numbers, truths and shapes that depend on values; and what
# makes a tensor of Python's numbers.
_WAITS = {
    *("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "unique"),
    *("_unique2", "item", "allclose", "_assert_async", "linalg_eigh", "linalg_qr"),
    *("_linalg_svd", "lift_fresh", "_pin_memory"),
}


class _Recording(TorchDispatchMode):
    """Writes down operations, in their order, and what was in memory before they wrote to it."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[Callable[[], None]] = []
        self._made: set[int] = set()
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.name().split("::")[1].split(".")[0]
        assert name not in _WAITS, f"{name} waits for the device"
        for value, argument in zip(args, func._schema.arguments, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                self._keep(value)
        assert not any(x.alias_info is not None for x in func._schema.arguments[len(args) :])
        given = func(*args, **kwargs)
        held = {_place(x) for x in _tensors((args, kwargs))}
        own = _tensors(given)
        # A view, and what is written in place, is where it was.
        made = [_place(x) not in held for x in own]
        self._made |= {_place(x) for x, is_made in zip(own, made, strict=True) if is_made}

        def again() -> None:
            found = _tensors(func(*args, **kwargs))
            for mine, new, is_made in zip(own, found, made, strict=True):
                if is_made:
                    mine.copy_(new)

        self.done.append(again)
        return given

    def put_back(self) -> None:
        """Put back what was in memory that is not of the recording itself."""
        for storage, before in self._before.values():
            storage.copy_(before)

    def _keep(self, written: Any) -> None:
        for x in _tensors(written):
            if _place(x) not in self._made:
                storage = x.untyped_storage()
                self._before.setdefault(_place(x), (storage, storage.clone()))


def record(work: Callable[[], None], _: torch.device) -> Callable[[], None]:
    """Record work, in the way of ``snrl.fast.gpu.graph.RECORDERS``: what it has done is undone."""
    recording = _Recording()
    refresh = Refresh.__call__

    def launch(plan: Refresh, *args: Any, **kwargs: Any) -> None:
        # One launch on a GPU, one call of C here: no operation of PyTorch.
        recording.done.append(lambda: refresh(plan, *args, **kwargs))

    drawn = torch.get_rng_state()
    with mock.patch.object(Refresh, "__call__", launch), recording:
        work()
    recording.put_back()
    torch.set_rng_state(drawn)

    def replay() -> None:
        for again in recording.done:
            again()

    return replay


def _tensors(tree: Any) -> list[Tensor]:
    return [x for x in tree_leaves(tree) if isinstance(x, Tensor)]


def _place(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()
