"""Spectral normalisation as one stabiliser among others."""

from dataclasses import dataclass
from typing import ClassVar

from snrl.critics.stabilizers.base import Place, Stabilizer


@dataclass(frozen=True)
class SpectralNormalization(Stabilizer):
    """Holds layers to a spectral norm; a policy's options ``sn_…`` say which, and how.

    One normalizer serves online critic and target together, so it is the policy that installs it.
    """

    name: ClassVar[str] = "sn"
    summary: ClassVar[str] = (
        "hold the largest singular value of layers to a coefficient: bounds the critic's slope"
    )
    source: ClassVar[str] = "Miyato et al. 2018; in critics Gogianu et al. 2021"
    place: ClassVar[Place] = Place.SPECTRAL
