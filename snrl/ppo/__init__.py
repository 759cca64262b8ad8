"""Policies for PPO, with a spectrally-normalised value network."""

from stable_baselines3 import PPO

from snrl.ppo.policies import CnnPolicy, MlpPolicy, MultiInputPolicy, SNPPOPolicy

__all__ = ["CnnPolicy", "MlpPolicy", "MultiInputPolicy", "SNPPOPolicy"]

PPO.policy_aliases.update(
    SNMlpPolicy=MlpPolicy, SNCnnPolicy=CnnPolicy, SNMultiInputPolicy=MultiInputPolicy
)
