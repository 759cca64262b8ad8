"""Weight normalisation: the length of a unit's weights learned apart from their direction."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from snrl.critics.stabilizers.base import Place
from snrl.critics.stabilizers.rows import RowScaled, RowScaling, row_lengths


class WeightNormLinear(RowScaled):
    """``nn.Linear`` that applies ``g · v / ‖v‖`` for each row ``v`` of ``weight``.

    ``magnitude`` is ``g``. That is ``torch.nn.utils.parametrizations.weight_norm`` with ``dim=0``;
    the direction keeps the key ``weight``, at its own length, which changes nothing but how far a
    step turns it.
    """

    scale_name: ClassVar[str] = "magnitude"

    @classmethod
    def _split(cls, weight: Tensor) -> tuple[Tensor, Tensor]:
        return weight, row_lengths(weight)

    def effective_weight(self) -> Tensor:
        """Compute ``g · v / ‖v‖``: see :meth:`RowScaled.effective_weight`."""
        return self.weight * (self.scales / row_lengths(self.weight)).unsqueeze(1)


@dataclass(frozen=True)
class WeightNorm(RowScaling):
    """Each linear layer's rows have a learned magnitude and a direction, output layer included.

    It is not SN, and bounds nothing. It gives the length of every *row* a parameter of its own, and
    leaves the largest singular value free: rows of length 1 that all point the same way have one of
    ``√m``. SN divides the whole matrix by that singular value, so that no input is stretched by
    more than the coefficient, and learns no length. What weight normalisation changes is the path
    of the optimiser: the gradient in the direction is orthogonal to it, so ``‖v‖`` can only grow
    under plain gradient descent, which makes later steps turn it less.

    The first function is the plain layer's: magnitudes start as the rows' lengths, where the paper
    would set them from a batch of data (its section 3), which a critic does not have.

    State: none but parameters, and no mode. Under Polyak averaging magnitudes and directions are
    averaged apart: the target applies exactly the averaged magnitudes, in the direction of the
    averaged ``v``, which is not the average of the applied weights. A plain critic's state loads.
    """

    name: ClassVar[str] = "weight_norm"
    summary: ClassVar[str] = (
        "learn each unit's weight length apart from its direction: a control for sn; bounds nothing"
    )
    source: ClassVar[str] = "Salimans & Kingma 2016, eq. 2"
    place: ClassVar[Place] = Place.WEIGHTS
    layer_class: ClassVar[type[RowScaled]] = WeightNormLinear
