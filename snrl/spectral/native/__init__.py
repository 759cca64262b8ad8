"""What is many small operations in torch, as one call of C each; for the CPU.

The system's compiler builds it once, at the first use, and the result is cached. torch takes some
thirty operations for a step of :func:`~snrl.spectral.tracking.track`, each of which costs more in
dispatch than in arithmetic for the matrices of a critic. Nothing depends on this module but time:
without a compiler torch computes the same.
"""

import ctypes
from array import array
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snrl.spectral.native.build import build, warn

if TYPE_CHECKING:
    from snrl.spectral.refresh import Batch

MAX_BLOCK_SIZE = 16

_long, _pointer, _double = ctypes.c_long, ctypes.c_void_p, ctypes.c_double
_SIGNATURES = {
    "refresh": (ctypes.c_int, (_pointer, _long, ctypes.c_int, _long, _double, _long)),
    "sigma": (_double, (ctypes.c_int, _pointer, _long, _long, _pointer, _pointer, _pointer)),
    "fingerprint": (ctypes.c_uint64, (_pointer, _long)),
    "through_sigma": (None, (ctypes.c_int, _pointer, _pointer, _long, _long, _pointer, _double)),
}


@cache
def _load() -> ctypes.CDLL | None:
    path = build()
    if path is None:
        return None
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        warn(f"{path} cannot be loaded, remove it to have it built anew: {error}")
        return None
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


def is_available() -> bool:
    """Tell whether the functions could be built; the first call builds them."""
    return _load() is not None


def library() -> ctypes.CDLL:
    """Give the functions of ``kernel.c``; :func:`is_available` holds."""
    loaded = _load()
    assert loaded is not None
    return loaded


def takes(weight: Tensor) -> bool:
    """Tell whether the functions take a matrix: contiguous, on the CPU, float32 or float64."""
    return (
        weight.is_cpu
        and (weight.dtype is torch.float32 or weight.dtype is torch.float64)
        and weight.is_contiguous()
        and is_available()
    )


def fingerprint(weight: Tensor) -> int:
    """Compute a number that is equal for equal matrices, and for others as good as never.

    Args:
        weight: Such that it :func:`takes` it.
    """
    found: int = library().fingerprint(weight.data_ptr(), weight.numel() * weight.itemsize // 4)
    return found


def can_refresh(batch: "Batch") -> bool:
    """Tell whether a :class:`Plan` can hold these matrices."""
    block = batch.vectors.block
    return block.shape[1] <= MAX_BLOCK_SIZE and all(
        takes(weight) and weight.dtype == block.dtype for weight in batch.weights
    )


class Plan:
    """A call of ``refresh`` in ``kernel.c``: the addresses and sizes that it reads."""

    def __init__(self, batches: Sequence["Batch"]) -> None:
        """Write the table.

        Args:
            batches: Matrices of any shapes and one dtype, such that :func:`can_refresh`.
        """
        self._is_double = batches[0].weights[0].dtype is torch.float64
        self._table = array("q")
        for weights, (u, block, direction), rows in batches:
            (m, n), r = weights[0].shape, block.shape[1]
            for weight, row in zip(weights, rows, strict=True):
                parts = (weight, u[row], block[row], direction[row])
                self._table.extend((*(part.data_ptr() for part in parts), m, n, r))

    def __call__(self, n_power_iterations: int, rtol: float, max_steps: int) -> None:
        """Carry the vectors, in place; the arguments are those of ``tracking.track``.

        Raises:
            MemoryError: If there is none for the scratch space.
        """
        address, length = self._table.buffer_info()
        if library().refresh(
            address, length // 7, self._is_double, n_power_iterations, rtol, max_steps
        ):
            raise MemoryError("no memory for the scratch space of the refresh")
