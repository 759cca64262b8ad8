"""Names of policies in the tables of SB3's algorithms."""

from stable_baselines3.common.base_class import BaseAlgorithm

from snrl.critics.policy import SpectralPolicy


def register(algorithm: type[BaseAlgorithm], **policies: type[SpectralPolicy]) -> None:
    """Let an algorithm know policies by the name of its own one with ``SN`` before it.

    Args:
        algorithm: Its table, which its subclasses share, is mutated.
        **policies: By the name of the plain policy.
    """
    algorithm.policy_aliases.update({f"SN{name}": policy for name, policy in policies.items()})
