"""Names of tasks: which are known, and what is missing where one cannot be made.

Nothing here loads torch or SB3, so that a command can refuse an unknown task at once.
"""

import importlib
from typing import Any

import gymnasium as gym
from gymnasium import spaces

from snrl.runs.errors import ConfigError, suggestion

# Modules that tasks import, and the extra of this package that installs each.
_EXTRAS = {"mujoco": "mujoco", "Box2D": "box2d"}


def check_known(env: str) -> None:
    """Refuse a task that is not registered, after importing the module that would register it.

    Raises:
        ConfigError: If the task, or its module, is unknown.
    """
    module, colon, name = env.rpartition(":")
    if colon:
        try:
            importlib.import_module(module)
        except (ImportError, TypeError, ValueError) as error:
            raise ConfigError(f"environment {env}: {error}") from error
    if name not in gym.registry:
        raise ConfigError(f"unknown environment {name}{suggestion(name, gym.registry)}")


def check_continuous(algo: str, env: str, actions: spaces.Space[Any]) -> None:
    """Refuse a task whose actions the algorithm cannot take.

    Raises:
        ConfigError: If they are not continuous.
    """
    if not isinstance(actions, spaces.Box):
        raise ConfigError(f"{algo} needs continuous actions (a Box space); {env} has {actions}")


def why_not(env: str, error: BaseException) -> str:
    """Say in one line why a task cannot be made, and what to install if that is it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ModuleNotFoundError) and cause.name is not None:
            extra = _EXTRAS.get(cause.name)
            install = f'pip install "snrl[{extra}]"' if extra else f"pip install {cause.name}"
            return f"{env} needs {cause.name}: {install}"
        cause = cause.__cause__ or cause.__context__
    return f"cannot make {env}: {error}"
