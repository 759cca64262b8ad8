"""The mathematics of the spectral norm; knows torch and nothing else."""

from snrl.spectral.bounds import gram_bound
from snrl.spectral.certificate import Certificate
from snrl.spectral.convolution import convolution_norm, reshaped_factor
from snrl.spectral.convolution_bounds import convolution_bound
from snrl.spectral.convolution_operator import Convolution
from snrl.spectral.iteration import exact_sigma, power_iteration, subspace_iteration
from snrl.spectral.layers import SpectralLayer
from snrl.spectral.normalize import fold_spectral_norm, spectral_normalize
from snrl.spectral.normalizer import SpectralNormalizer

__all__ = [
    "Certificate",
    "Convolution",
    "SpectralLayer",
    "SpectralNormalizer",
    "convolution_bound",
    "convolution_norm",
    "exact_sigma",
    "fold_spectral_norm",
    "gram_bound",
    "power_iteration",
    "reshaped_factor",
    "spectral_normalize",
    "subspace_iteration",
]
