"""Modes that act in the forward: the layer applies its weight times a factor of ``sigma``."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from snrl.spectral.modes.base import Coef, Mode, Scaled, check_bool


@dataclass(frozen=True)
class Normalize(Mode):
    """``W · coef / sigma``: every layer has exactly the norm ``coef``.

    Args:
        detach: Whether the gradient leaves ``sigma`` out, which drops the term that takes the
            gradient's component along ``W`` away (Miyato et al. 2018, eq. 12).
    """

    name: ClassVar[str] = "normalize"
    summary: ClassVar[str] = "divide by sigma: the norm is exactly coef; the default"
    source: ClassVar[str] = "Miyato et al. 2018, eq. 8 to 12"
    scaled: ClassVar[Scaled] = "weight"
    detach: bool = False

    def __post_init__(self) -> None:
        """Check the options."""
        check_bool("detach", self.detach)

    def scale(self, sigma: Tensor, coef: Coef) -> Tensor:
        """Compute ``coef / sigma``; a zero matrix stays zero."""
        return coef / torch.where(sigma != 0, sigma.detach() if self.detach else sigma, 1.0)

    def factors(self, sigma: float, coef: float) -> tuple[float, float]:
        """Compute ``coef / sigma`` and ``-coef / sigma²``, or 0 if detached."""
        scale = coef / (sigma or 1.0)
        return scale, 0.0 if self.detach or not sigma else -scale / sigma


@dataclass(frozen=True)
class Cap(Mode):
    """``W / max(1, sigma / coef)``: layers below the norm ``coef`` are left alone."""

    name: ClassVar[str] = "cap"
    summary: ClassVar[str] = "divide by sigma only above coef: where a layer may also be smaller"
    source: ClassVar[str] = "Gouk et al. 2021, eq. 12"
    scaled: ClassVar[Scaled] = "weight"

    def scale(self, sigma: Tensor, coef: Coef) -> Tensor:
        """Compute ``min(1, coef / sigma)``."""
        return torch.where(sigma > coef, coef / torch.where(sigma > coef, sigma, 1.0), 1.0)

    def factors(self, sigma: float, coef: float) -> tuple[float, float]:
        """Compute ``min(1, coef / sigma)`` and its derivative."""
        return (coef / sigma, -coef / sigma / sigma) if sigma > coef else (1.0, 0.0)


@dataclass(frozen=True)
class Bidirectional(Normalize):
    """``W · coef / sigma`` with the mean of two norms for ``sigma``, where W is a kernel.

    The norms are those of the kernel as ``(out, in·k)``, which bounds what goes forward, and as
    ``(in, out·k)``, which bounds what comes back. For a matrix both are one, and this is
    :class:`Normalize`. The coefficient is the scale of "bidirectional *scaled* spectral
    normalisation"; the authors search it between 0.7 and 4.
    """

    name: ClassVar[str] = "bidirectional"
    summary: ClassVar[str] = "divide kernels by the mean norm of both unfoldings: for convolutions"
    source: ClassVar[str] = "Lin, Sekar & Fanti 2021, BSSN"
    both_unfoldings: ClassVar[bool] = True


@dataclass(frozen=True)
class Gain(Normalize):
    """``W · gain · coef / sigma`` with a learned gain: every layer has the norm ``|gain| · coef``.

    The gain, a parameter ``gain`` of the layer, is 1 at first. A state dict without it sets it to
    1. Zhai et al. have no coefficient, which is where theirs starts.
    """

    name: ClassVar[str] = "gain"
    summary: ClassVar[str] = (
        "divide by sigma, times a learned gain: where the right coef is not known"
    )
    source: ClassVar[str] = "Zhai et al. 2023, eq. 6 (sigma-reparametrisation)"
    learns_gain: ClassVar[bool] = True


QUOTIENTS: dict[type[Mode], bool] = {Normalize: False, Bidirectional: False, Cap: True}
"""Modes whose factor is ``coef / sigma``, and whether it is at most 1."""
