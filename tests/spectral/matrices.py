"""Matrices with a prescribed spectrum, easy and hard: ``(name, singular values, m, n)``."""

from fractions import Fraction

import torch

SPECTRA = {
    "separated": ([3.0, 2.0, 1.0, 0.5, 0.1], 12, 9),
    "clustered": ([1.0, 0.999, 0.998, 0.997, 0.99, 0.98], 15, 20),
    "repeated": ([2.0, 2.0, 2.0, 1.0], 10, 10),
    "rank_one": ([5.0], 8, 11),
    "ill_conditioned": ([1.0, 1e-3, 1e-6, 1e-9], 9, 9),
    "wide": ([1.0, 0.7, 0.4], 3, 200),
    "tall": ([1.0, 0.7, 0.4], 200, 3),
    "row": ([1.7], 1, 30),
    "column": ([1.7], 30, 1),
    "zero": ([0.0], 6, 7),
}


def matrix(name, dtype=torch.float64, seed=0):
    values, m, n = SPECTRA[name]
    generator = torch.Generator().manual_seed(seed)
    k = len(values)
    left, _ = torch.linalg.qr(torch.randn(m, k, dtype=torch.float64, generator=generator))
    right, _ = torch.linalg.qr(torch.randn(n, k, dtype=torch.float64, generator=generator))
    return (left @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ right.T).to(dtype)


def start(weight, block_size=4, seed=1):
    """Random right vectors for a matrix or a batch of them."""
    rank = min(block_size, *weight.shape[-2:])
    generator = torch.Generator().manual_seed(seed)
    shape = (*weight.shape[:-2], weight.shape[-1], rank)
    return torch.randn(shape, dtype=torch.float64, generator=generator).to(weight)


def exceeds_norm(value, weight):
    """Whether value > ‖weight‖₂, decided in exact rational arithmetic, for small matrices.

    It does if and only if value²·I - WᵀW is positive definite: if elimination meets none but
    positive pivots.
    """
    rows = [[Fraction(x) for x in row] for row in weight.double().tolist()]
    columns = list(zip(*rows, strict=True))
    if len(columns) > len(rows):
        rows, columns = columns, rows
    square = Fraction(value) ** 2
    left = [
        [(i == j) * square - sum(map(Fraction.__mul__, a, b)) for j, b in enumerate(columns)]
        for i, a in enumerate(columns)
    ]
    for i, pivot in enumerate(left):
        if pivot[i] <= 0:
            return False
        for row in left[i + 1 :]:
            factor = row[i] / pivot[i]
            for j in range(i, len(row)):
                row[j] -= factor * pivot[j]
    return True
