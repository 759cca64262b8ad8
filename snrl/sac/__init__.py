"""SAC with spectrally-normalised critics."""

from snrl.sac.policies import CnnPolicy, MlpPolicy, MultiInputPolicy, SNSACPolicy

__all__ = ["CnnPolicy", "MlpPolicy", "MultiInputPolicy", "SNSACPolicy"]
