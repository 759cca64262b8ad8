"""SAC with spectrally-normalised critics, and with a faster update."""

from snrl.sac.policies import CnnPolicy, MlpPolicy, MultiInputPolicy, SNSACPolicy
from snrl.sac.sac import SAC

__all__ = ["SAC", "CnnPolicy", "MlpPolicy", "MultiInputPolicy", "SNSACPolicy"]
