"""Weights and features on the unit sphere, as SimbaV2 has them, in a critic of any depth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from snrl.critics.head import Head
from snrl.critics.stabilizers.base import Place
from snrl.critics.stabilizers.rows import RowScaled, RowScaling, row_lengths
from snrl.critics.stabilizers.unit_norm import UnitLength
from snrl.spectral import steps
from snrl.spectral.modes.base import check_bool


class SphericalLinear(RowScaled):
    """``nn.Linear`` whose rows have length 1 after every step, times a learned ``scaler``.

    It follows whichever optimiser holds its weight, by itself: see :mod:`snrl.spectral.steps`.
    """

    scale_name: ClassVar[str] = "scaler"
    # Before whoever reads the weights that a step has left.
    turn = -10

    @classmethod
    def take(cls, layer: nn.Linear) -> "SphericalLinear":
        """Turn a plain layer into one of these: see :meth:`RowScaled.take`."""
        taken = super().take(layer)
        steps.live.add(taken)
        return taken

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copied or unpickled layer; it follows optimisers like any other."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        steps.live.add(self)

    @classmethod
    def _split(cls, weight: Tensor) -> tuple[Tensor, Tensor]:
        lengths = row_lengths(weight)
        return weight / lengths.unsqueeze(1), lengths

    def effective_weight(self) -> Tensor:
        """Compute ``scaler · W`` row by row: see :meth:`RowScaled.effective_weight`."""
        return self.weight * self.scales.unsqueeze(1)

    @property
    def layers(self) -> Sequence["SphericalLinear"]:
        """What it follows: itself."""
        return (self,)

    def before_step(self, layers: Sequence["SphericalLinear"], optimizer: Optimizer) -> None:
        """Leave the gradient as it is, not made tangential, as the authors do."""

    @torch.no_grad()
    def after_step(self, layers: Sequence["SphericalLinear"]) -> None:  # noqa: ARG002
        """Put the rows back on the sphere."""
        self.weight.div_(row_lengths(self.weight).unsqueeze(1))


@dataclass(frozen=True)
class Hyperspherical(RowScaling):
    """Hidden layers with weights on the unit sphere, and hidden features on it as well.

    Of SimbaV2 this is what makes sense in any critic: every unit's incoming weights, a row of
    ``weight`` (a column of the kernel in the authors' framework), are brought to length 1 after
    each step of the optimiser; a learned ``scaler`` for each unit gives back what length is needed;
    and the features behind each hidden layer, or block, are divided by their length. What is not
    here is their distributional critic, the scaling of rewards, the statistics of observations and
    the shift of the input. Because that shift is missing, biases stay, without which features of
    unit length could not tell the length of the input; and as the output layer has to reach values
    of any size in place of probabilities, it is left alone. Their linear interpolation between a
    block and its input is not here either; ``simba+hyperspherical`` has the sum of ``simba``.
    Scalers start as the lengths of the plain layer's rows, so that a hidden layer by itself
    computes at first what the plain one does; theirs start at ``√(2/width)``.

    State: none but parameters, and no mode. The target is averaged and not projected, as by the
    authors' code: its rows are a little shorter than 1, the more the faster the online ones turn,
    and it applies them as they are. A plain critic's state loads, split into directions and
    scalers. Layers that SN takes are neither projected nor scaled.

    Args:
        unit_features: Whether features are divided by their length, too.
    """

    name: ClassVar[str] = "hyperspherical"
    summary: ClassVar[str] = (
        "keep hidden weights and features at unit length, with learned scales: a steady step size"
    )
    source: ClassVar[str] = "Lee et al. 2025 (SimbaV2)"
    place: ClassVar[Place] = Place.WEIGHTS
    layer_class: ClassVar[type[RowScaled]] = SphericalLinear
    unit_features: bool = True

    def __post_init__(self) -> None:
        """Check the options."""
        check_bool("unit_features", self.unit_features)

    def choose(self, layers: list[nn.Linear]) -> list[nn.Linear]:
        """Choose all but the output layer."""
        return layers[:-1]

    def build(self, head: Head) -> None:
        """Take the layers, and put divisions behind the hidden ones."""
        head.need_hidden(self.name)
        super().build(head)
        if not self.unit_features:
            return
        for hidden in head.hidden[1:]:
            hidden.before.append(UnitLength())
        head.features.append(UnitLength())
