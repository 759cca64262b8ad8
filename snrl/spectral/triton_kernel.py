"""The refresh on a GPU: one kernel launch for matrices of all shapes, a program for each matrix.

The algorithm is that of :func:`~snrl.spectral.tracking.track`, which is its oracle. What differs:
vectors that depend on others are dropped from the basis, where Householder QR would complete it
with arbitrary ones, noise takes the place of a direction that is zero, and a matrix that is not
finite leaves its vectors as they were.

The weight of a hidden layer fits neither the registers nor the shared memory of a multiprocessor,
so a program streams it: once for the images of the block, then twice a step. The vectors lie as
padded rows in a scratch that stays in the cache; what is small stays in registers.
"""

# Triton's language has no types that mypy knows.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations  # tl.constexpr, without triton

from itertools import accumulate
from typing import TYPE_CHECKING

import torch

from snrl.spectral.triton_blocks import (
    AVAILABLE,
    _combine,
    _diagonal,
    _eigen,
    _gram,
    _images,
    _magnitude,
    _pull,
    _scale,
    _triangular,
    jit,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snrl.spectral.batch import Batch

if AVAILABLE:
    import triton.language as tl  # type: ignore[import-untyped,import-not-found,unused-ignore]


@jit
def _orthonormalize(
    basis, width, RANK: tl.constexpr, SIZE: tl.constexpr, WARPS: tl.constexpr,
    EPSILON: tl.constexpr, STOP: tl.constexpr,
):  # fmt: skip
    """Makes the rows after the first RANK orthonormal to these and each other, or zero.

    Against the first ones by projection, twice, because once leaves what rounding left; among
    themselves by Cholesky factors, again where they depended on each other. Returns the matrix
    that corrects what is left, also among the first, to first order.
    """
    i = tl.arange(0, SIZE)[:, None]
    k = tl.arange(0, SIZE)[None, :]
    gram = _gram(basis, width, RANK, SIZE)
    shares = tl.where((i >= RANK) & (k < RANK), gram, 0.0)
    mix = tl.where(i == k, 1.0, -shares).to(gram.dtype)
    # What projection leaves of a row within the span is rounding.
    least = 256.0 * EPSILON * EPSILON * tl.sum(shares * shares, 1, keep_dims=True)
    lasting = i < 3 * RANK
    error = tl.full([], 1.0, gram.dtype)
    turn = tl.full([], 0, tl.int32)
    while (turn < 2) | ((turn < 4) & (error > STOP)):
        if turn > 0:
            mix = _triangular(gram, least, RANK, SIZE, WARPS, EPSILON)
            least = tl.full([SIZE, 1], 0.25, gram.dtype)
        tl.debug_barrier()
        _combine(mix, basis, width, SIZE, SIZE)
        tl.debug_barrier()
        gram = _gram(basis, width, 3 * RANK, SIZE)
        lasting = _diagonal(gram, SIZE) > 0.25
        off = tl.where((i == k) & lasting, gram - 1.0, gram)
        error = tl.max(tl.where(i >= RANK, tl.abs(off), 0.0))
        turn += 1
    polish = tl.where(i == k, 1.5, 0.0).to(gram.dtype) - 0.5 * gram
    return tl.where(lasting & tl.trans(lasting), polish, 0.0)


@jit
def _ritz(
    gram, polish, rank, rounds, RANK: tl.constexpr, SIZE: tl.constexpr, WARPS: tl.constexpr,
    EPSILON: tl.constexpr, STOP: tl.constexpr,
):  # fmt: skip
    """What turns the basis into block and direction, from the Gram matrix of its images.

    Returns a [SIZE, SIZE] matrix whose rows before RANK give the block, those from 2 · RANK on the
    direction, and all others zero; and the largest growth of a Ritz value, relative to the first.
    """
    dtype: tl.constexpr = gram.dtype
    i = tl.arange(0, SIZE)[:, None]
    k = tl.arange(0, SIZE)[None, :]
    before = tl.sqrt(_diagonal(gram, SIZE))
    gram = tl.dot(polish, gram, input_precision="ieee", out_dtype=dtype)
    gram = tl.dot(gram, polish, input_precision="ieee", out_dtype=dtype)
    # Of two values that are zero the one of a vector comes before the one of a dropped row.
    gram += tl.where((i == k) & (polish > 0.5), EPSILON * EPSILON, 0.0).to(dtype)
    vectors, values = _eigen(gram, rank, rounds, SIZE, WARPS, EPSILON, STOP)
    after = tl.sqrt(values)
    top = tl.max(tl.where(i == 0, after, 0.0))
    growth = tl.max(tl.where(i < rank, after - before, 0.0)) / tl.where(top > 0.0, top, 1.0)
    # What the step added to the block: its part outside the span of the old one.
    moved = (i >= 2 * RANK) & (i < 2 * RANK + rank)
    source = tl.where(moved, i - 2 * RANK, i)
    vectors = tl.gather(vectors, tl.broadcast_to(source, [SIZE, SIZE]), 0)
    vectors = tl.where(moved & (k < RANK), 0.0, vectors)
    length = tl.sqrt(tl.sum(vectors * vectors, 1, keep_dims=True))
    live = (moved | (i < rank)) & (length > 1e-12)
    vectors = tl.where(live, vectors / tl.where(live, length, 1.0), 0.0)
    mix = tl.dot(vectors, polish, input_precision="ieee", out_dtype=dtype)
    return mix, growth


@jit(do_not_specialize=["n_power_iterations", "max_steps", "rounds"])
def _track(
    table, n_power_iterations, rtol, max_steps, rounds,
    RANK: tl.constexpr, NARROW: tl.constexpr, WIDE: tl.constexpr, SIZE: tl.constexpr,
    WARPS: tl.constexpr, EPSILON: tl.constexpr, STOP: tl.constexpr, DTYPE: tl.constexpr,
    ALIGNED: tl.constexpr,
):  # fmt: skip
    """Carries the vectors of one matrix; the arguments are those of track, and of :class:`Plan`.

    At most RANK vectors are iterated; NARROW and WIDE are powers of two that hold one and two
    times RANK, SIZE one that holds three times and suits a product. The number of rounds is passed
    because a loop of known length would be unrolled, and all code is fetched anew at every launch.
    """
    entry = table + 8 * tl.program_id(0)
    weight = tl.load(entry).to(tl.pointer_type(DTYPE))
    u = tl.load(entry + 1).to(tl.pointer_type(DTYPE))
    block = tl.load(entry + 2).to(tl.pointer_type(DTYPE))
    direction = tl.load(entry + 3).to(tl.pointer_type(DTYPE))
    basis = tl.multiple_of(tl.load(entry + 4).to(tl.pointer_type(DTYPE)), 16)
    m = tl.load(entry + 5).to(tl.int32)
    n = tl.load(entry + 6).to(tl.int32)
    rank = tl.load(entry + 7).to(tl.int32)
    if ALIGNED:
        weight = tl.multiple_of(weight, 16)
        n = tl.multiple_of(n, 4)
    height = (m + 127) // 128 * 128
    width = (n + 127) // 128 * 128
    # Rows of the basis: the block, what the weight pulls it to, the direction.
    pulled = basis + RANK * width
    image = basis + SIZE * width
    i = tl.arange(0, SIZE)[:, None]
    j = i - 2 * RANK
    moving = tl.zeros([SIZE, 1], tl.int32)
    for left in range(0, width, 128):
        columns = left + tl.arange(0, 128)[None, :]
        inside = (columns < n) & (j >= 0) & (j < rank)
        rows = tl.load(direction + j * n + columns, mask=inside, other=0.0)
        moving = tl.maximum(moving, tl.max((rows != 0.0).to(tl.int32), 1, keep_dims=True))
    for left in range(0, width, 128):
        columns = left + tl.arange(0, 128)[None, :]
        inside = (columns < n) & (i < rank)
        rows = tl.load(block + i * n + columns, mask=inside, other=0.0)
        inside = (columns < n) & (j >= 0) & (j < rank)
        rows += tl.load(direction + j * n + columns, mask=inside, other=0.0)
        # Noise, the same each time, in place of a direction that is none: a block that spans an
        # invariant subspace would never see what overtakes outside of it.
        noise = tl.rand(0, j * n + columns) - 0.5
        rows += tl.where(inside & (moving == 0), noise, 0.0).to(DTYPE)
        tl.store(basis + i * width + columns, rows)
    tl.debug_barrier()
    # Squares of the weights' scale would leave float32, so none is ever formed.
    scale = _images(weight, m, n, 1.0, basis, width, image, height, RANK, NARROW)
    scale = tl.where(scale > 0.0, scale, 1.0)
    tl.debug_barrier()
    _scale(image, height, 1.0 / scale, RANK)
    tl.debug_barrier()
    step = tl.full([], 0, tl.int32)
    finite = m > 0
    going = m > 0
    while going:
        step += 1
        factor = 1.0 / scale
        peak = _pull(weight, m, n, factor, image, height, pulled, width, RANK, NARROW)
        tl.debug_barrier()
        if peak > 1e3:
            _scale(pulled, width, 1.0 / peak, RANK)
            tl.debug_barrier()
        polish = _orthonormalize(basis, width, RANK, SIZE, WARPS, EPSILON, STOP)
        rest = image + RANK * height
        peak = _images(weight, m, n, factor, pulled, width, rest, height, 2 * RANK, WIDE)
        tl.debug_barrier()
        if peak > 1e3:
            _scale(image, height, 1.0 / peak, 3 * RANK)
            scale *= peak
            tl.debug_barrier()
        gram = _gram(image, height, 3 * RANK, SIZE)
        peak = tl.max(_magnitude(gram))
        finite = peak < float("inf")
        gram = gram / tl.where(peak > 0.0, peak, 1.0)
        mix, growth = _ritz(gram, polish, rank, rounds, RANK, SIZE, WARPS, EPSILON, STOP)
        tl.debug_barrier()
        written = tl.where(finite, rank, 0)
        for left in range(0, width, 128):
            columns = left + tl.arange(0, 128)[None, :]
            at = basis + i * width + columns
            rows = tl.dot(mix, tl.load(at), input_precision="ieee", out_dtype=DTYPE)
            tl.store(at, rows)
            tl.store(block + i * n + columns, rows, mask=(columns < n) & (i < written))
            inside = (columns < n) & (j >= 0) & (j < written)
            tl.store(direction + j * n + columns, rows, mask=inside)
        # Only the block's images: what is not a number must not stay in rows that nobody writes.
        _combine(mix, image, height, RANK, SIZE)
        tl.debug_barrier()
        more = (step < n_power_iterations) | ((growth > rtol) & (step < max_steps))
        going = finite & more
    squares = tl.zeros([128], DTYPE)
    for top in range(0, height, 128):
        entries = tl.load(image + top + tl.arange(0, 128))
        squares += entries * entries
    norm = tl.sqrt(tl.sum(squares))
    written = tl.where(finite & (norm > 0.0), m, 0)
    for top in range(0, height, 128):
        rows = top + tl.arange(0, 128)
        tl.store(
            u + rows, tl.load(image + rows) / tl.where(norm > 0.0, norm, 1.0), mask=rows < written
        )


MAX_BLOCK_SIZE = 10
_ROW = 128  # the rows of the scratch are padded to a multiple of it
_WARPS = 8


def takes(batch: Batch) -> bool:
    """Tell whether a :class:`Plan` can hold these matrices.

    Args:
        batch: Weights of shape ``(m, n)``; ``u`` of shape ``(k, m)``, block and direction of shape
            ``(k, r, n)``; the rows of these.

    Returns:
        Whether Triton 3.5 or later is installed, the weights are on a GPU that it supports, they
        and the vectors are contiguous and of one dtype, float32 or float64, and ``r`` is at most
        ``MAX_BLOCK_SIZE``.
    """
    weights, vectors, *_ = batch
    first = weights[0]
    return (
        AVAILABLE
        and first.device.type == "cuda"
        and torch.cuda.get_device_capability(first.device) >= (8, 0)
        and first.dtype in (torch.float32, torch.float64)
        and first.numel() < 2**31
        and vectors[1].shape[1] <= MAX_BLOCK_SIZE
        and all(
            x.is_contiguous() and x.dtype == first.dtype and x.device == first.device
            for x in (*weights, *vectors)
        )
    )


class Plan:
    """A launch for a fixed set of matrices: where they and their vectors lie, and a scratch.

    A call allocates nothing and waits for nothing, so that a CUDA graph can capture it, after one
    call outside of the capture, which compiles; the plan must then live as long as the graph. It
    holds addresses, not tensors, and no state: what it computes rests on these tensors alone. Its
    calls share a scratch, so they must follow one another on a stream.
    """

    def __init__(self, batches: Sequence[Batch]) -> None:
        """Write the table of addresses to the device.

        Args:
            batches: Matrices of any shapes, of one dtype and on one device; see :func:`takes`.

        Raises:
            ImportError: If there is no Triton, or an old one.
        """
        if not AVAILABLE:
            raise ImportError("the kernel needs the package triton, version 3.5 or later")
        first = batches[0][0][0]
        self._entries = _entries(batches)
        rank = max(block.shape[1] for _, (_, block, _), *_ in batches)
        size = 16 if 3 * rank <= 16 else 32
        lengths = [
            size * sum(-(-x // _ROW) * _ROW for x in (m, n)) for *_, m, n, _ in self._entries
        ]
        # Zeros: what pads the rows is read and never written.
        self._scratch = torch.zeros(sum(lengths), dtype=first.dtype, device=first.device)
        start, itemsize = self._scratch.data_ptr(), first.itemsize
        starts = [start + itemsize * x for x in accumulate(lengths, initial=0)]
        self._table = torch.tensor(
            [
                (*pointers, start, m, n, r)
                for (*pointers, m, n, r), start in zip(self._entries, starts, strict=False)
            ],
            dtype=torch.int64,
        ).to(first.device)
        epsilon = torch.finfo(first.dtype).eps
        self._constants = {
            "RANK": rank,
            "NARROW": _power_of_two(rank),
            "WIDE": _power_of_two(2 * rank),
            "SIZE": size,
            "WARPS": _WARPS,
            "EPSILON": epsilon,
            "STOP": epsilon**0.5,
            "DTYPE": tl.float32 if first.dtype == torch.float32 else tl.float64,
            # Whether 16 bytes can be read at a time.
            "ALIGNED": all(w % 16 == 0 and n % 4 == 0 for w, *_, n, _ in self._entries),
            "num_warps": _WARPS,
            "enable_fp_fusion": True,
        }
        self._rounds = 3 * rank - (3 * rank + 1) % 2

    def __call__(self, n_power_iterations: int, rtol: float, max_steps: int) -> None:
        """Carry all vectors over a change of the weights, in place.

        Args:
            n_power_iterations: Steps that are always taken, at least 1.
            rtol: Relative growth of a Ritz value in one step that asks for another.
            max_steps: Bound on the number of steps.
        """
        with torch.cuda.device_of(self._table):
            _track[(len(self._entries),)](
                self._table,
                n_power_iterations,
                rtol,
                max_steps,
                self._rounds,
                **self._constants,
            )


def _entries(batches: Sequence[Batch]) -> list[tuple[int, ...]]:
    """Addresses of weight, u, block and direction, then m, n and r, of each matrix."""
    entries = []
    for weights, (u, block, direction), rows, *_ in batches:
        _, r, n = block.shape
        m = u.shape[1]
        starts = (u.data_ptr(), block.data_ptr(), direction.data_ptr())
        steps = [x * block.itemsize for x in (m, r * n, r * n)]
        for weight, row in zip(weights, rows, strict=True):
            moved = (start + row * step for start, step in zip(starts, steps, strict=True))
            entries.append((weight.data_ptr(), *moved, m, n, r))
    return entries


def _power_of_two(x: int) -> int:
    """The least power of two that holds x."""
    return 1 << (x - 1).bit_length()
