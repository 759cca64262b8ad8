"""Names of tasks: which are known, and what is missing where one cannot be made.

Nothing here loads torch or SB3, so that a command can refuse an unknown task at once.
"""

import importlib
from typing import Any

import gymnasium as gym
from gymnasium import spaces

from snrl.runs.errors import ConfigError, suggestion
from snrl.runs.options.option import ACTOR_CRITICS, ALGORITHMS

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


def check_actions(algo: str, env: str, actions: spaces.Space[Any]) -> None:
    """Refuse a task whose actions the algorithm cannot take.

    Raises:
        ConfigError: If they are continuous where it needs discrete ones, or the other way round.
    """
    is_discrete = algo not in ACTOR_CRITICS
    if isinstance(actions, spaces.Discrete if is_discrete else spaces.Box):
        return
    kind = (
        "discrete actions (a Discrete space)" if is_discrete else "continuous actions (a Box space)"
    )
    others = [other for other in ALGORITHMS if (other in ACTOR_CRITICS) == is_discrete]
    serves = isinstance(actions, spaces.Box if is_discrete else spaces.Discrete)
    hint = f", which {', '.join(others)} {'take' if is_discrete else 'takes'}" if serves else ""
    raise ConfigError(f"{algo} needs {kind}; {env} has {actions}{hint}")


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
