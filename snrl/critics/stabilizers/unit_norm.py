"""Features of unit length."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from snrl.critics.head import Head
from snrl.critics.stabilizers.base import Place, Stabilizer
from snrl.spectral.modes.base import check_number


class UnitLength(nn.Module):
    """Divides each row by its Euclidean length."""

    def __init__(self, eps: float = 1e-6) -> None:
        """Take the length below which a row counts as that long."""
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Divide ``(..., width)`` by its length along the last dimension.

        A row shorter than ``eps`` is divided by ``eps``: zeros give zeros, and no gradient is
        multiplied by more than ``1 / eps``.
        """
        lengths: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return x / lengths.clamp_min(self.eps)

    def extra_repr(self) -> str:
        """Name the option."""
        return f"eps={self.eps}"


@dataclass(frozen=True)
class UnitNorm(Stabilizer):
    """Divides the features that the output layer reads by their length: ``Q = w·φ/‖φ‖ + b``.

    The features then tell the direction alone, and all of a value's size is in the output layer. As
    the paper has it, nothing is learned here, and other layers stay as they are. No state, no mode:
    the target does the same.

    Args:
        eps: Features shorter than this are divided by it. Where all units are at rest the features,
            and their gradients, are zero.
    """

    name: ClassVar[str] = "unit_norm"
    summary: ClassVar[str] = (
        "divide the features before the output by their length: against early overestimation"
    )
    source: ClassVar[str] = "Hussing et al. 2024"
    place: ClassVar[Place] = Place.FEATURES
    eps: float = 1e-6

    def __post_init__(self) -> None:
        """Check the options."""
        check_number("eps", self.eps, above=0)

    def build(self, head: Head) -> None:
        """Put the division before the output layer."""
        head.features.append(UnitLength(self.eps))
