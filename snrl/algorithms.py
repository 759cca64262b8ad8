"""The algorithms by their short names, and which package each comes from.

Importing this module loads none of them, so that a command can name them in its help.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm


class Source(NamedTuple):
    """Where an algorithm is.

    Attributes:
        package: ``stable_baselines3`` or ``sb3_contrib``.
        name: Its class there.
        summary: What sets it apart, in a few words.
        has_fast: Whether ``snrl`` has it with a faster update, by the same name.
    """

    package: str
    name: str
    summary: str
    has_fast: bool = False

    @property
    def title(self) -> str:
        """The package as people call it."""
        return {"stable_baselines3": "SB3", "sb3_contrib": "sb3-contrib"}[self.package]


_SB3, _CONTRIB = "stable_baselines3", "sb3_contrib"
SOURCES: Mapping[str, Source] = {
    "sac": Source(_SB3, "SAC", "a stochastic policy, paid for its entropy; two critics", True),
    "td3": Source(_SB3, "TD3", "a deterministic policy, updated with delay; two critics", True),
    "ddpg": Source(_SB3, "DDPG", "a deterministic policy; one critic", True),
    "tqc": Source(
        _CONTRIB, "TQC", "SAC with critics of quantiles, of which the largest are left out"
    ),
    "crossq": Source(_CONTRIB, "CrossQ", "SAC with batch renormalisation and no target critic"),
    "dqn": Source(_SB3, "DQN", "discrete actions: one critic with a value for each"),
}


class NotInstalledError(Exception):
    """The algorithm's package is missing; the message is one line and names the extra."""


def load_algorithm(algo: str, fast: bool = False) -> "type[OffPolicyAlgorithm]":
    """Import an algorithm.

    Args:
        algo: A name in :data:`SOURCES`.
        fast: Whether it is ``snrl``'s, for one that ``snrl`` has.

    Returns:
        The class.

    Raises:
        NotInstalledError: If its package is not installed.
    """
    source = SOURCES[algo]
    try:
        module = import_module("snrl" if fast else source.package)
        # Registers its SN policies.
        import_module(f"snrl.{algo}")
    except ModuleNotFoundError as error:
        if error.name != _CONTRIB:
            raise
        raise NotInstalledError(f'{algo} needs sb3-contrib: pip install "snrl[contrib]"') from error
    algorithm: type[OffPolicyAlgorithm] = getattr(module, source.name)
    return algorithm
