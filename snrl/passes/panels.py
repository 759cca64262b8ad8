"""Matrices of a batch as the C functions keep them."""

import torch
from torch import Tensor

from snrl.spectral import native


class Panels:
    """Memory for a matrix of a batch: panels of its rows, each a matrix of features by rows.

    A panel has as many rows as fit into two vector registers, so that products with it need no
    preparation; the last one is filled up with what does not count.

    Attributes:
        batch_size: Rows of the matrix.
        features: Its columns.
        dtype: float32 or float64.
    """

    def __init__(self, batch_size: int, features: int, dtype: torch.dtype) -> None:
        """Take memory, zero.

        Args:
            batch_size: Rows of the matrix.
            features: Its columns.
            dtype: float32 or float64.
        """
        self.batch_size, self.features, self.dtype = batch_size, features, dtype
        panels, rows = count(batch_size, dtype)
        self._memory = torch.zeros(panels, features, rows, dtype=dtype, device="cpu")

    def address(self, feature: int = 0) -> int:
        """Where a feature of the first panel is."""
        return self._memory[:, feature:].data_ptr()

    def matrix(self) -> Tensor:
        """The matrix as it is, shape ``(batch_size, features)``: a copy."""
        return self._memory.transpose(1, 2).flatten(0, 1)[: self.batch_size].clone()

    def fill(self, matrix: Tensor) -> None:
        """Overwrite the matrix, shape ``(batch_size, features)``."""
        rows = self._memory.transpose(1, 2)
        padded = rows.new_zeros(len(rows) * rows.shape[1], self.features)
        padded[: self.batch_size] = matrix
        rows.copy_(padded.view_as(rows))


def parts(batch_size: int, dtype: torch.dtype) -> Tensor:
    """Memory for a number of each panel, float64, zero."""
    return torch.zeros(count(batch_size, dtype)[0], dtype=torch.float64, device="cpu")


def count(batch_size: int, dtype: torch.dtype) -> tuple[int, int]:
    """How many panels a batch has, and how many rows a panel."""
    rows: int = native.library(dtype).panel()
    return -(-batch_size // rows), rows
