"""What every stabiliser of a critic has in common."""

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from stable_baselines3.common.policies import BasePolicy
from torch import nn

from snrl.critics.head import Head


class Place(IntEnum):
    """Where a stabiliser stands: they are composed in this order, however they are named.

    A hidden layer is then ``layer -> DROPOUT -> NORM -> activation``.
    """

    BLOCKS = 0
    """Replaces hidden layers by an embedding and blocks of several, with norms of their own."""
    DROPOUT = 1
    """Between a hidden layer and its norm."""
    NORM = 2
    """Between a hidden layer, or its dropout, and its activation; of a batch, before each layer."""
    FEATURES = 3
    """Between the last activation and the output layer."""
    WEIGHTS = 4
    """In how the layers that SN leaves alone hold their weights."""
    SPECTRAL = 5
    """Spectral normalisation."""
    LOSS = 6
    """A term of the critic's loss."""
    ENSEMBLE = 7
    """In which heads are asked."""


@dataclass(frozen=True)
class Stabilizer:
    """One way to steady a critic, to be composed with others.

    It keeps no state; its fields are its options. Whatever has state is in modules that it adds.

    Attributes:
        name: How it is asked for.
        summary: What it does and when to choose it, one line.
        source: Where it is from.
        place: Where it stands.
        through_critic: Whether it acts in the critic's forward as a whole. An update that calls
            the heads by itself would miss it.
        modal: Types of modules it adds that behave otherwise in training than in evaluation, and
            that do in the target critic what they do in the online one. SB3 keeps the target in
            evaluation mode for ever.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    place: ClassVar[Place]
    through_critic: ClassVar[bool] = False
    modal: ClassVar[tuple[type[nn.Module], ...]] = ()

    def build(self, head: Head) -> None:
        """Change a head before anything knows its parameters; nothing unless overridden.

        Args:
            head: Mutated. What earlier places have done to it is there.

        Raises:
            ValueError: If the head cannot be changed like that; the message says why.
        """

    def take_released(self, network: nn.Module) -> None:
        """Take layers of a head that SN held and that it was folded out of; none unless overridden.

        Args:
            network: Mutated. What it computes stays.
        """

    def why_not(self, policy: BasePolicy) -> str | None:  # noqa: ARG002
        """Tell why a policy cannot have it, as the end of a sentence; None if it can.

        Args:
            policy: Its options are there, its networks are not.
        """
        return None

    def install(self, policy: BasePolicy) -> None:
        """Do what needs the whole policy, with its critic, target and optimisers.

        Args:
            policy: Mutated.
        """
