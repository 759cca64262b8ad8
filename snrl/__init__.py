"""Spectrally-normalised critics for Stable-Baselines3.

``import snrl`` registers ``SNMlpPolicy``, ``SNCnnPolicy`` and ``SNMultiInputPolicy`` with SB3's
``SAC``, ``TD3``, ``DDPG`` and ``DQN``, and with sb3-contrib's ``TQC`` and ``CrossQ`` if that is
imported already; ``import snrl.tqc`` and ``import snrl.crossq`` do so in any case. ``snrl.SAC``,
``snrl.TD3`` and ``snrl.DDPG`` are SB3's with a faster update.
"""

import re
import sys
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snrl.crossq import SNCrossQPolicy
    from snrl.ddpg import DDPG
    from snrl.dqn import SNDQNPolicy
    from snrl.ppo import SNPPOPolicy
    from snrl.sac import SAC, SNSACPolicy
    from snrl.spectral import SpectralNormalizer, fold_spectral_norm, spectral_normalize
    from snrl.td3 import TD3, SNTD3Policy
    from snrl.tqc import SNTQCPolicy
    from snrl.values import ValueStabilityCallback

__all__ = [
    "DDPG",
    "SAC",
    "TD3",
    "SNCrossQPolicy",
    "SNDQNPolicy",
    "SNPPOPolicy",
    "SNSACPolicy",
    "SNTD3Policy",
    "SNTQCPolicy",
    "SpectralNormalizer",
    "ValueStabilityCallback",
    "fold_spectral_norm",
    "spectral_normalize",
]

_HOMES = {
    "DDPG": "snrl.ddpg",
    "SAC": "snrl.sac",
    "TD3": "snrl.td3",
    "SNCrossQPolicy": "snrl.crossq",
    "SNDQNPolicy": "snrl.dqn",
    "SNPPOPolicy": "snrl.ppo",
    "SNSACPolicy": "snrl.sac",
    "SNTD3Policy": "snrl.td3",
    "SNTQCPolicy": "snrl.tqc",
    "SpectralNormalizer": "snrl.spectral",
    "ValueStabilityCallback": "snrl.values",
    "fold_spectral_norm": "snrl.spectral",
    "spectral_normalize": "snrl.spectral",
}

# Rooms that need an optional library, which are imported when they are asked for.
_ROOMS = ("crossq", "tqc")


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"snrl.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'snrl' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def _is_own_command() -> bool:
    """Tell whether the interpreter is looking for ``python -m snrl.<command>``.

    A command parses its arguments before it loads torch, so that ``--help`` answers at once. While
    a module is being located, ``sys.argv[0]`` is ``-m`` (documented for ``sys.argv``).
    """
    if sys.argv[:1] != ["-m"]:
        return False
    for flag, following in pairwise([*sys.orig_argv[1:], ""]):
        # Also as the last of combined flags, and glued to its module: -um snrl.run, -msnrl.run.
        if module := re.fullmatch(r"-[bBdEiIOPqsSuvx]*m(.*)", flag):
            return (module[1] or following).startswith("snrl.")
    return False


if not _is_own_command():
    import_module("snrl.aliases")
