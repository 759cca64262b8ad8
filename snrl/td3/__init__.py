"""TD3 and DDPG with spectrally-normalised critics."""

from snrl.td3.policies import CnnPolicy, MlpPolicy, MultiInputPolicy, SNTD3Policy
from snrl.td3.td3 import TD3

__all__ = ["TD3", "CnnPolicy", "MlpPolicy", "MultiInputPolicy", "SNTD3Policy"]
