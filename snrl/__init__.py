"""Spectrally-normalised critics for Stable-Baselines3.

``import snrl`` registers ``SNMlpPolicy``, ``SNCnnPolicy`` and ``SNMultiInputPolicy`` with SB3's
``SAC``, ``TD3`` and ``DDPG``.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snrl.critics.fold import fold_spectral_norm
    from snrl.sac import SNSACPolicy
    from snrl.spectral import SpectralNormalizer, spectral_normalize
    from snrl.td3 import SNTD3Policy

__all__ = [
    "SNSACPolicy",
    "SNTD3Policy",
    "SpectralNormalizer",
    "fold_spectral_norm",
    "spectral_normalize",
]

_HOMES = {
    "SNSACPolicy": "snrl.sac",
    "SNTD3Policy": "snrl.td3",
    "SpectralNormalizer": "snrl.spectral",
    "fold_spectral_norm": "snrl.critics.fold",
    "spectral_normalize": "snrl.spectral",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'snrl' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def _is_own_command() -> bool:
    """Tell whether the interpreter is looking for ``python -m snrl.<command>``.

    A command parses its arguments before it loads torch, so that ``--help`` answers at once. While
    a module is being located, ``sys.argv[0]`` is ``-m`` (documented for ``sys.argv``).
    """
    if sys.argv[:1] != ["-m"] or "-m" not in sys.orig_argv:
        return False
    name = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    return name.startswith("snrl.")


if not _is_own_command():
    import_module("snrl.aliases")
