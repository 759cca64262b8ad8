"""SAC policies with spectrally-normalised critics, drop-in for SB3's."""

from stable_baselines3.sac import policies as sb3

from snrl.critics.policy import SpectralPolicy


class SNSACPolicy(SpectralPolicy, sb3.SACPolicy):
    """SB3's ``SACPolicy`` with the options of :class:`SpectralPolicy`."""


class CnnPolicy(SpectralPolicy, sb3.CnnPolicy):
    """SB3's SAC ``CnnPolicy`` with the options of :class:`SpectralPolicy`."""


class MultiInputPolicy(SpectralPolicy, sb3.MultiInputPolicy):
    """SB3's SAC ``MultiInputPolicy`` with the options of :class:`SpectralPolicy`."""


MlpPolicy = SNSACPolicy
