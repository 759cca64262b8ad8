"""SB3 critics built from normalised, stacked layers."""

from snrl.critics.critic import SpectralCritic, sigma_max
from snrl.critics.policy import SpectralPolicy

__all__ = ["SpectralCritic", "SpectralPolicy", "sigma_max"]
