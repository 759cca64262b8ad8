"""SB3 critics built from normalised, stacked layers."""

import snrl.critics.fold  # noqa: F401  (teaches fold_spectral_norm policies and algorithms)
from snrl.critics.certificate import critic_lipschitz
from snrl.critics.critic import ComposedCritic, SpectralCritic, sigma_max
from snrl.critics.policy import SpectralPolicy

__all__ = ["ComposedCritic", "SpectralCritic", "SpectralPolicy", "critic_lipschitz", "sigma_max"]
