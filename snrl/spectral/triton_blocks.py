"""What the kernel of the refresh is made of: products, Gram matrices, factors, eigenvectors."""

# Triton's language has no types that mypy knows.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations  # tl.constexpr, without triton

from importlib.util import find_spec
from typing import Any

__all__ = ["AVAILABLE", "jit"]

if find_spec("triton") is not None:
    import triton.language as tl  # type: ignore[import-untyped,import-not-found,unused-ignore]
    from triton import __version__, jit

    # Before 3.5 a product needs 16 rows.
    AVAILABLE = tuple(int(x) for x in __version__.split(".")[:2]) >= (3, 5)
else:
    AVAILABLE = False

    def jit(*_: Any, **__: Any) -> Any:
        """Stand in for Triton's decorator; nothing calls what it returns."""
        return lambda function: function


@jit
def _magnitude(x):
    """|x|, and infinity for what is no number: the largest then tells."""
    return tl.where(x == x, tl.abs(x), float("inf"))


@jit
def _inner(
    matrix, stride, rows, m, n, vectors, length,
    COUNT: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """<matrix[rows[i]], vectors[j]> as a [ROWS, WIDTH] tile, zero for j ≥ COUNT.

    Sums run over the columns a thread holds until the end, so that few pass between threads.
    tl.dot would read its operands from shared memory with conflicts: rows as long as all banks.
    """
    dtype: tl.constexpr = matrix.dtype.element_ty
    sums = ()
    for _ in tl.static_range(COUNT):
        sums += (tl.zeros([ROWS, COLUMNS], dtype),)  # type: ignore[assignment]
    for left in tl.range(0, n, COLUMNS, num_stages=3):
        columns = left + tl.arange(0, COLUMNS)
        inside = (rows[:, None] < m) & (columns[None, :] < n)
        tile = tl.load(matrix + rows[:, None] * stride + columns[None, :], mask=inside, other=0.0)
        added = ()
        for j in tl.static_range(COUNT):
            vector = tl.load(vectors + j * length + columns)
            added += (sums[j] + tile * vector[None, :],)  # type: ignore[assignment]
        sums = added
    k = tl.arange(0, WIDTH)[None, :]
    products = tl.zeros([ROWS, WIDTH], dtype)
    for j in tl.static_range(COUNT):
        products = tl.where(k == j, tl.sum(sums[j], 1, keep_dims=True), products)
    return products


@jit
def _images(
    weight, m, n, factor, basis, width, image, height, COUNT: tl.constexpr, WIDTH: tl.constexpr
):  # fmt: skip
    """image[j] = factor · W basis[j] for j < COUNT ≤ WIDTH; the largest magnitude of them."""
    ROWS: tl.constexpr = 128 if COUNT <= 8 else 64
    j = tl.arange(0, WIDTH)[None, :]
    peak = tl.zeros([ROWS, WIDTH], weight.dtype.element_ty)
    for top in range(0, m, ROWS):
        rows = top + tl.arange(0, ROWS)
        tile = factor * _inner(weight, n, rows, m, n, basis, width, COUNT, WIDTH, ROWS, 32)
        tl.store(image + j * height + rows[:, None], tile, mask=j < COUNT)
        peak = tl.maximum(peak, _magnitude(tile))
    return tl.max(peak)


@jit
def _pull(
    weight, m, n, factor, image, height, basis, width, COUNT: tl.constexpr, WIDTH: tl.constexpr
):  # fmt: skip
    """basis[j] = factor · Wᵀ image[j] for j < COUNT ≤ WIDTH; the largest magnitude of them."""
    ROWS: tl.constexpr = 32
    COLUMNS: tl.constexpr = 128
    dtype: tl.constexpr = weight.dtype.element_ty
    j = tl.arange(0, WIDTH)[:, None]
    peak = tl.zeros([WIDTH, COLUMNS], dtype)
    for left in range(0, n, COLUMNS):
        columns = left + tl.arange(0, COLUMNS)[None, :]
        tile = tl.zeros([WIDTH, COLUMNS], dtype)
        for top in tl.range(0, m, ROWS, num_stages=3):
            rows = top + tl.arange(0, ROWS)
            inside = (rows[:, None] < m) & (columns < n)
            part = tl.load(weight + rows[:, None] * n + columns, mask=inside, other=0.0)
            shares = tl.load(image + j * height + rows[None, :])
            tile = tl.dot(shares, part, tile, input_precision="ieee", out_dtype=dtype)
        tile = factor * tile
        tl.store(basis + j * width + columns, tile, mask=j < COUNT)
        peak = tl.maximum(peak, tl.where(j < COUNT, _magnitude(tile), 0.0))
    return tl.max(peak)


@jit
def _gram(rows, length, COUNT: tl.constexpr, SIZE: tl.constexpr):
    """Products of SIZE rows of the scratch with the first COUNT of them, [SIZE, SIZE]."""
    i = tl.arange(0, SIZE)
    COLUMNS: tl.constexpr = 128 if SIZE == 16 else 32
    return _inner(rows, length, i, SIZE, length, rows, length, COUNT, SIZE, SIZE, COLUMNS)


@jit
def _scale(rows, length, factor, COUNT: tl.constexpr):
    """Rows = factor · rows, for the first COUNT."""
    for start in range(0, COUNT * length, 1024):
        at = start + tl.arange(0, 1024)
        entries = tl.load(rows + at, mask=at < COUNT * length)
        tl.store(rows + at, factor * entries, mask=at < COUNT * length)


@jit
def _combine(mix, rows, length, KEPT: tl.constexpr, SIZE: tl.constexpr):
    """Rows = mix · rows, of which the first KEPT are written."""
    CHUNK: tl.constexpr = 128
    i = tl.arange(0, SIZE)[:, None]
    for left in range(0, length, CHUNK):
        at = rows + i * length + left + tl.arange(0, CHUNK)[None, :]
        tile = tl.dot(mix, tl.load(at), input_precision="ieee", out_dtype=mix.dtype)
        tl.store(at, tile, mask=i < KEPT)


@jit
def _diagonal(matrix, SIZE: tl.constexpr):
    """The diagonal as a column, [SIZE, 1]."""
    i = tl.arange(0, SIZE)[:, None]
    return tl.sum(tl.where(i == tl.arange(0, SIZE)[None, :], matrix, 0.0), 1, keep_dims=True)


# The two functions below work on rows of a small matrix, one after the other. Each warp holds all
# of the matrix on which the next decision rests, [SIZE, WARPS, SIZE] with equal slices, and its
# share of the columns of the matrix that only follows, [SIZE, WARPS, SIZE / WARPS]: no step then
# waits for another warp. tl.gather along the first axis keeps that axis within a warp.


@jit
def _triangular(
    gram, least, RANK: tl.constexpr, SIZE: tl.constexpr, WARPS: tl.constexpr, EPSILON: tl.constexpr
):  # fmt: skip
    """A matrix that makes rows orthonormal to the first RANK, which are so, and to each other.

    The inverse of the Cholesky factor of the Gram matrix of the rows from RANK on, scaled to unit
    length, after projection. Rows whose square is at most ``least``, or that depend on those
    before them, become zero.
    """
    i = tl.arange(0, SIZE)[:, None]
    k = tl.arange(0, SIZE)[None, :]
    squares = _diagonal(gram, SIZE)
    live = (i >= RANK) & (i < 3 * RANK) & (squares > least)
    inverse = tl.where(live, 1.0 / tl.sqrt(tl.where(live, squares, 1.0)), 0.0)
    kept = tl.where(i < RANK, 1.0, inverse)
    follows = tl.where(i == k, kept, tl.where(k < RANK, -gram * inverse, 0.0))
    follows = tl.broadcast_to(follows.to(gram.dtype)[:, None, :], [SIZE, WARPS, SIZE])
    cosines = gram * inverse * tl.trans(inverse)
    cosines = tl.broadcast_to(cosines[:, None, :], [SIZE, WARPS, SIZE])
    row = tl.arange(0, SIZE)[:, None, None]
    column = tl.arange(0, SIZE)[None, None, :]
    for j in range(RANK, 3 * RANK):
        pivot_row = tl.gather(cosines, tl.full([SIZE, WARPS, SIZE], j, tl.int32), 0)
        beside = tl.gather(follows, tl.full([SIZE, WARPS, SIZE], j, tl.int32), 0)
        share = tl.sum(tl.where(column == j, cosines, 0.0), 2, keep_dims=True)
        pivot = tl.sum(tl.where(column == j, pivot_row, 0.0), 2, keep_dims=True)
        # Below this the Gram matrix holds nothing but rounding.
        stays = pivot > 64 * EPSILON
        pivot = tl.where(stays, pivot, 1.0)
        share = tl.where((row > j) & stays, share / pivot, 0.0)
        unit = tl.where(stays, 1.0 / tl.sqrt(pivot), 0.0)
        cosines -= share * pivot_row
        follows = tl.where(row == j, unit * follows, follows - share * beside)
    return tl.max(follows, 1)


@jit
def _eigen(
    a, rank, rounds, SIZE: tl.constexpr, WARPS: tl.constexpr, EPSILON: tl.constexpr,
    STOP: tl.constexpr,
):  # fmt: skip
    """Eigenvectors as rows and eigenvalues as a column of a symmetric a ≥ 0; the first by size.

    One-sided Jacobi (Hestenes 1958): pairs of rows of a are turned until all are orthogonal, and
    are then eigenvalues times eigenvectors; the same turns of the unit matrix give the vectors
    where an eigenvalue is zero. All pairs meet once in ``rounds`` rounds, as in a tournament, and
    the longer row of a pair goes first. Only what concerns the first ``rank`` rows decides when
    to end; an angle left behind enters the eigenvalue squared.
    """
    dtype: tl.constexpr = a.dtype
    i = tl.arange(0, SIZE)
    vectors = tl.where(i[:, None] == i[None, :], 1.0, 0.0).to(dtype)
    vectors = tl.reshape(vectors, [SIZE, WARPS, SIZE // WARPS])
    rows = tl.broadcast_to(a[:, None, :], [SIZE, WARPS, SIZE])
    i = i[:, None, None]
    worst = tl.full([], 1.0, dtype)
    sweep = tl.full([], 0, tl.int32)
    while (worst > STOP) & (sweep < 12):
        seen = tl.zeros([SIZE, WARPS, 1], dtype)
        for t in range(rounds):
            # i meets t - i modulo the rounds; who would meet himself meets the last one.
            partner = tl.where(t < i, t - i + rounds, t - i)
            partner = tl.where(partner == i, rounds, partner)
            partner = tl.where(i == rounds, tl.where(t % 2 == 0, t, t + rounds) // 2, partner)
            partner = tl.where(i > rounds, i, partner)
            partner = tl.broadcast_to(partner, [SIZE, WARPS, 1])
            other = tl.gather(rows, tl.broadcast_to(partner, [SIZE, WARPS, SIZE]), 0)
            beside = tl.gather(vectors, tl.broadcast_to(partner, [SIZE, WARPS, SIZE // WARPS]), 0)
            square = tl.sum(rows * rows, 2, keep_dims=True)
            other_square = tl.sum(other * other, 2, keep_dims=True)
            product = tl.sum(rows * other, 2, keep_dims=True)
            first = i < partner
            gap = tl.where(first, square - other_square, other_square - square)
            larger = tl.maximum(square, other_square)
            # The angle is half that of the plane vector (gap, 2 · product), in (-π/2, π/2].
            length = gap * gap + 4.0 * product * product
            turns = (i != partner) & (length > 1e-36)
            inverse = tl.math.rsqrt(tl.where(turns, length, 1.0))
            near = 0.5 + 0.5 * tl.abs(gap) * inverse
            root = tl.math.rsqrt(near)
            near = near * root
            far = tl.abs(product) * inverse * root
            cosine = tl.where(turns, tl.where(gap >= 0.0, near, far), 1.0)
            sine = tl.where(turns, tl.where(gap >= 0.0, far, near), 0.0)
            sine = tl.where((product < 0.0) == first, -sine, sine)
            rows = cosine * rows + sine * other
            vectors = cosine * vectors + sine * beside
            off = tl.where(gap < -16.0 * EPSILON * larger, larger, tl.abs(product))
            counts = (i != partner) & (tl.minimum(i, partner) < rank)
            counts = counts & (larger > EPSILON * EPSILON)
            off = tl.where(counts, off / tl.where(counts, larger, 1.0), 0.0)
            seen = tl.maximum(seen, off)
        worst = tl.max(seen)
        sweep += 1
    values = tl.max(tl.sqrt(tl.sum(rows * rows, 2, keep_dims=True)), 1)
    vectors = tl.reshape(vectors, [SIZE, SIZE])
    # The turns are orthogonal up to a common factor of both rows, which rounding moves.
    lengths = tl.sqrt(tl.sum(vectors * vectors, 1, keep_dims=True))
    return vectors / lengths, values / lengths
