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

import torch
from torch import Tensor

from snrl.spectral.batch import Batch
from snrl.spectral.native.build import build, warn

MAX_BLOCK_SIZE = 16

_long, _pointer, _double = ctypes.c_long, ctypes.c_void_p, ctypes.c_double
_int = ctypes.c_int
_SIGNATURES = {
    "refresh": (_int, (_pointer, _long, _long, _double, _long, _int)),
    "sigma_of": (_double, (_pointer, _long, _long, _pointer, _pointer)),
    "fingerprint": (ctypes.c_uint64, (_pointer, _long)),
    "through_sigma": (
        None,
        (_pointer, _pointer, _long, _long, _pointer, _pointer, _double, _int),
    ),
    "panel": (_long, ()),
    "choose_bfloat16": (_int, (_int,)),
    "run": (_int, (_pointer, _long, _pointer, _long, _long, _pointer, _long, _long, _int)),
    "adam": (None, (_pointer, _long, _int)),
    "average": (None, (_pointer, _long, _double, _int)),
    "gather": (
        None,
        (
            *(_pointer, _long, _long, *(3 * (_pointer,)), _double),
            *(*(3 * (_pointer,)), _long, _int),
        ),
    ),
}


@cache
def _load(dtype: torch.dtype) -> ctypes.CDLL | None:
    path = build(is_double=dtype is torch.float64)
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


def is_available(dtype: torch.dtype = torch.float32) -> bool:
    """Tell whether there are functions for a dtype, float32 or float64; the first call builds them.

    Each dtype has a library of its own, as hardly anybody needs both.
    """
    return dtype in (torch.float32, torch.float64) and _load(dtype) is not None


def library(dtype: torch.dtype) -> ctypes.CDLL:
    """Give the functions of ``kernel.c`` for a dtype; :func:`is_available` holds."""
    loaded = _load(dtype)
    assert loaded is not None
    return loaded


@cache
def has_bfloat16() -> bool:
    """Tell whether the processor has products of bfloat16, by AMX or AVX512-BF16."""
    return is_available() and library(torch.float32).choose_bfloat16(True) > 0


def takes(weight: Tensor) -> bool:
    """Tell whether the functions take a matrix: contiguous, on the CPU, float32 or float64."""
    return weight.is_cpu and weight.is_contiguous() and is_available(weight.dtype)


def sigma(weight: Tensor, u: Tensor, v: Tensor) -> float:
    """Compute ``uᵀ W v`` as a number; all such that it :func:`takes` them, of one dtype."""
    parts = (weight.data_ptr(), *weight.shape, u.data_ptr(), v.data_ptr())
    found: float = library(weight.dtype).sigma_of(*parts)
    return found


def through_sigma(grad: Tensor, weight: Tensor, vectors: Tensor, slope: float) -> None:
    """Add ``slope · ⟨grad, W⟩ · u vᵀ`` to a gradient, in place.

    Args:
        grad: Shape ``(m, n)``, such that it :func:`takes` it, like the others. Mutated.
        weight: ``W``, shape ``(m, n)``.
        vectors: ``u`` and ``v`` behind each other, shape ``(m + n,)``.
        slope: The factor.
    """
    library(grad.dtype).through_sigma(
        *(grad.data_ptr(), weight.data_ptr(), *weight.shape),
        *(vectors.data_ptr(), vectors[len(weight) :].data_ptr()),
        *(slope, torch.get_num_threads()),
    )


def fingerprint(weight: Tensor) -> int:
    """Compute a number that is equal for equal matrices, and for others as good as never.

    Args:
        weight: Such that it :func:`takes` it.
    """
    found: int = library(weight.dtype).fingerprint(
        weight.data_ptr(), weight.numel() * weight.itemsize // 4
    )
    return found


def can_refresh(batch: Batch) -> bool:
    """Tell whether a :class:`Plan` can hold these matrices."""
    block = batch.vectors.block
    return block.shape[1] <= MAX_BLOCK_SIZE and all(
        takes(weight) and weight.dtype == block.dtype for weight in batch.weights
    )


class Plan:
    """A call of ``refresh`` in ``kernel.c``: the addresses and sizes that it reads."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        """Write the table.

        Args:
            batches: Matrices of any shapes and one dtype, such that :func:`can_refresh`.
        """
        self._library = library(batches[0].weights[0].dtype)
        self._table: array[int] = array("q")
        for weights, (u, block, direction), rows, sigmas in batches:
            (m, n), r = weights[0].shape, block.shape[1]
            for weight, row in zip(weights, rows, strict=True):
                parts = (weight, u[row], block[row], direction[row])
                sigma = sigmas.buffer_info()[0] + row * sigmas.itemsize
                self._table.extend((*(part.data_ptr() for part in parts), m, n, r, sigma))

    @property
    def table(self) -> "array[int]":
        """What the C function reads, eight numbers for a matrix; valid as long as this lives."""
        return self._table

    def __call__(self, n_power_iterations: int, rtol: float, max_steps: int) -> None:
        """Carry the vectors, in place; the arguments are those of ``tracking.track``.

        Raises:
            MemoryError: If there is none for the scratch space.
        """
        address, length = self._table.buffer_info()
        count, threads = length // 8, torch.get_num_threads()
        if self._library.refresh(address, count, n_power_iterations, rtol, max_steps, threads):
            raise MemoryError("no memory for the scratch space of the refresh")
