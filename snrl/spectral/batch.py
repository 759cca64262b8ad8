"""What a refresh carries, for one shape of matrices."""

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from snrl.spectral.tracking import Vectors


class Batch(NamedTuple):
    """Matrices of one shape and where their vectors are kept.

    Attributes:
        weights: ``k`` matrices, shape ``(m, n)`` each.
        vectors: The buffers of all layers of that shape. Mutated.
        rows: The ``k`` rows of the buffers that belong to the weights.
        sigmas: The norms of all matrices of that shape as the refresh found them, float64; NaN
            where it did not. Mutated.
    """

    weights: Sequence[Tensor]
    vectors: Vectors
    rows: Sequence[int]
    sigmas: "array[float]"
