"""TD3 and DDPG policies with spectrally-normalised critics, drop-in for SB3's."""

from stable_baselines3.td3 import policies as sb3

from snrl.critics.policy import SpectralPolicy


class SNTD3Policy(SpectralPolicy, sb3.TD3Policy):
    """SB3's ``TD3Policy`` with the options of :class:`SpectralPolicy`."""


class CnnPolicy(SpectralPolicy, sb3.CnnPolicy):
    """SB3's TD3 ``CnnPolicy`` with the options of :class:`SpectralPolicy`."""


class MultiInputPolicy(SpectralPolicy, sb3.MultiInputPolicy):
    """SB3's TD3 ``MultiInputPolicy`` with the options of :class:`SpectralPolicy`."""


MlpPolicy = SNTD3Policy
