"""TD3 and DDPG with spectrally-normalised critics."""

from snrl.td3.policies import CnnPolicy, MlpPolicy, MultiInputPolicy, SNTD3Policy

__all__ = ["CnnPolicy", "MlpPolicy", "MultiInputPolicy", "SNTD3Policy"]
