"""The mathematics of the spectral norm; knows torch and nothing else."""

from snrl.spectral.iteration import exact_sigma, power_iteration, subspace_iteration
from snrl.spectral.layers import SpectralLayer
from snrl.spectral.normalize import fold_spectral_norm, spectral_normalize
from snrl.spectral.normalizer import SpectralNormalizer

__all__ = [
    "SpectralLayer",
    "SpectralNormalizer",
    "exact_sigma",
    "fold_spectral_norm",
    "power_iteration",
    "spectral_normalize",
    "subspace_iteration",
]
