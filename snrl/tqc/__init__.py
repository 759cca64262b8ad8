"""Policies for sb3-contrib's TQC, with spectrally-normalised critics.

Importing this registers their names with it; ``import snrl`` does so if ``sb3_contrib`` is loaded.
"""

from sb3_contrib import TQC

from snrl.critics.names import register
from snrl.tqc.policies import CnnPolicy, MlpPolicy, MultiInputPolicy, SNTQCPolicy

__all__ = ["CnnPolicy", "MlpPolicy", "MultiInputPolicy", "SNTQCPolicy"]

register(TQC, MlpPolicy=MlpPolicy, CnnPolicy=CnnPolicy, MultiInputPolicy=MultiInputPolicy)
