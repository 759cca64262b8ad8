"""Dropout in the critic, as in DroQ."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from snrl.critics.head import Head
from snrl.critics.randomness import Drawing
from snrl.critics.stabilizers.base import Place, Stabilizer
from snrl.spectral.modes.base import check_number


class PrivateDropout(Drawing):
    """``nn.Dropout`` that draws its masks from a generator of its own."""

    def __init__(self, p: float) -> None:
        """Take the probability of a unit to be zeroed."""
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Zero units and scale the others up while training; else return the input."""
        if not self.training:
            return x
        kept = torch.empty_like(x).bernoulli_(1 - self.p, generator=self.generator(x.device))
        return x * kept.div_(1 - self.p)

    def extra_repr(self) -> str:
        """Name the probability."""
        return f"p={self.p}"


@dataclass(frozen=True)
class Dropout(Stabilizer):
    """Dropout directly behind each hidden layer, before its norm; DroQ is ``dropout+layer_norm``.

    The target drops units too while the critic trains, as the paper's does and as SB3 by itself
    would not have it. The actor's loss sees the online critic's dropout, as in the authors' code.

    Args:
        p: Probability of a unit to be zeroed; the authors use 0.01 for most tasks.
    """

    name: ClassVar[str] = "dropout"
    summary: ClassVar[str] = (
        "drop hidden units, in the target too: with layer_norm for many updates per step (DroQ)"
    )
    source: ClassVar[str] = "Hiraoka et al. 2022, algorithm 2"
    place: ClassVar[Place] = Place.DROPOUT
    modal: ClassVar[tuple[type[nn.Module], ...]] = (PrivateDropout,)
    p: float = 0.01

    def __post_init__(self) -> None:
        """Check the options."""
        check_number("p", self.p, above=0)
        if self.p >= 1:
            raise ValueError(f"p must be a number less than 1, got {self.p!r}")

    def build(self, head: Head) -> None:
        """Put dropout behind each hidden layer."""
        head.need_hidden(self.name)
        for hidden in head.hidden:
            hidden.after.append(PrivateDropout(self.p))
