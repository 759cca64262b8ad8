"""Policies for DQN, with spectrally-normalised Q-networks."""

from stable_baselines3 import DQN

from snrl.critics.names import register
from snrl.dqn.policies import CnnPolicy, MlpPolicy, MultiInputPolicy, SNDQNPolicy

__all__ = ["CnnPolicy", "MlpPolicy", "MultiInputPolicy", "SNDQNPolicy"]

register(DQN, MlpPolicy=MlpPolicy, CnnPolicy=CnnPolicy, MultiInputPolicy=MultiInputPolicy)
