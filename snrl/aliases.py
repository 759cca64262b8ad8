"""Importing this module registers the policies' names with SB3's algorithms.

With those of sb3-contrib where it is loaded already; else ``import snrl.tqc`` and
``import snrl.crossq`` do, as everything that loads an algorithm by its name does.
"""

import sys
from importlib import import_module

import snrl.dqn
import snrl.ppo
import snrl.sac
import snrl.td3  # noqa: F401

if sys.modules.get("sb3_contrib") is not None:
    for room in ("tqc", "crossq"):
        import_module(f"snrl.{room}")
