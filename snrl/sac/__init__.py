"""SAC with spectrally-normalised critics, and with a faster update."""

import stable_baselines3

from snrl.critics.names import register
from snrl.sac.policies import CnnPolicy, MlpPolicy, MultiInputPolicy, SNSACPolicy
from snrl.sac.sac import SAC

__all__ = ["SAC", "CnnPolicy", "MlpPolicy", "MultiInputPolicy", "SNSACPolicy"]

register(
    stable_baselines3.SAC,
    MlpPolicy=MlpPolicy,
    CnnPolicy=CnnPolicy,
    MultiInputPolicy=MultiInputPolicy,
)
