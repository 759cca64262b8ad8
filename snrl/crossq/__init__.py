"""Policy for sb3-contrib's CrossQ, with spectrally-normalised critics.

Importing this registers its name with it; ``import snrl`` does so if ``sb3_contrib`` is loaded.
"""

from sb3_contrib import CrossQ

from snrl.critics.names import register
from snrl.crossq.policies import MlpPolicy, SNCrossQPolicy

__all__ = ["MlpPolicy", "SNCrossQPolicy"]

register(CrossQ, MlpPolicy=MlpPolicy)
