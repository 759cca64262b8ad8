"""Norms of a layer's units over one sample: they need no batch and know no mode."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from snrl.critics.head import Head
from snrl.critics.stabilizers.base import Place, Stabilizer
from snrl.spectral.modes.base import check_bool, check_number


@dataclass(frozen=True)
class _Norm(Stabilizer):
    place: ClassVar[Place] = Place.NORM
    module: ClassVar[type[nn.LayerNorm] | type[nn.RMSNorm]]
    affine: bool = True
    eps: float = 1e-5

    def __post_init__(self) -> None:
        """Check the options."""
        check_bool("affine", self.affine)
        check_number("eps", self.eps, above=0)

    def build(self, head: Head) -> None:
        """Put a norm behind each hidden layer."""
        head.need_hidden(self.name)
        for hidden, width in zip(head.hidden, head.widths, strict=True):
            hidden.after.append(self.module(width, self.eps, self.affine))


@dataclass(frozen=True)
class LayerNorm(_Norm):
    """``LayerNorm`` between each hidden layer and its activation.

    Args:
        affine: Whether scale and shift are learned.
        eps: Added to the variance.
    """

    name: ClassVar[str] = "layer_norm"
    summary: ClassVar[str] = (
        "centre and scale each hidden layer's units: the first thing to try against divergence"
    )
    source: ClassVar[str] = "Ba, Kiros & Hinton 2016, eq. 3; in critics Lyle et al. 2023"
    module: ClassVar[type[nn.LayerNorm]] = nn.LayerNorm


@dataclass(frozen=True)
class RMSNorm(_Norm):
    """``RMSNorm`` between each hidden layer and its activation.

    Args:
        affine: Whether a scale is learned.
        eps: Added to the mean square.
    """

    name: ClassVar[str] = "rms_norm"
    summary: ClassVar[str] = (
        "scale each hidden layer's units to mean square 1, not centred: layer_norm, cheaper"
    )
    source: ClassVar[str] = "Zhang & Sennrich 2019, eq. 4"
    module: ClassVar[type[nn.RMSNorm]] = nn.RMSNorm
    eps: float = 1e-6
