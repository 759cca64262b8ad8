"""Memory of the host from which a device takes what it needs, without anybody waiting."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Staging:
    """Page-locked memory that is not overwritten before it has arrived."""

    def __init__(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> None:
        """Take memory of a shape, whose first rows are sent to a device."""
        self._memory = torch.empty(shape, dtype=dtype, pin_memory=device.type == "cuda")
        self._arrived: torch.cuda.Event | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._memory)

    def take(self) -> Tensor:
        """Give the memory, to be filled: waits for what was sent before."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._memory

    def send(self, to: Tensor) -> None:
        """Send as many rows as another tensor has there."""
        to.copy_(self._memory[: len(to)], non_blocking=True)
        if to.is_cuda:
            self._arrived = torch.cuda.current_stream(to.device).record_event(self._arrived)
