"""DDPG with the faster update; its policies are TD3's."""

from snrl.ddpg.ddpg import DDPG

__all__ = ["DDPG"]
