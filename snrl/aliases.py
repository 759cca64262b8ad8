"""Importing this module registers the policies' names with SB3's algorithms."""

from stable_baselines3 import SAC, TD3

from snrl import sac, td3

for algorithm, policies in ((SAC, sac), (TD3, td3)):
    # DDPG inherits TD3's table.
    algorithm.policy_aliases.update(
        SNMlpPolicy=policies.MlpPolicy,
        SNCnnPolicy=policies.CnnPolicy,
        SNMultiInputPolicy=policies.MultiInputPolicy,
    )
