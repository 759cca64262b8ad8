"""TD3 and DDPG with spectrally-normalised critics."""

import stable_baselines3

from snrl.critics.names import register
from snrl.td3.policies import CnnPolicy, MlpPolicy, MultiInputPolicy, SNTD3Policy
from snrl.td3.td3 import TD3

__all__ = ["TD3", "CnnPolicy", "MlpPolicy", "MultiInputPolicy", "SNTD3Policy"]

# DDPG inherits TD3's table.
register(
    stable_baselines3.TD3,
    MlpPolicy=MlpPolicy,
    CnnPolicy=CnnPolicy,
    MultiInputPolicy=MultiInputPolicy,
)
