"""The tasks of a run: one set of environments to train in, another one to evaluate in."""

import importlib
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from snrl.runs.config import RunConfig, suggestion
from snrl.runs.errors import ConfigError
from snrl.runs.options.option import ACTOR_CRITICS, ALGORITHMS

# Modules that tasks import, and the extra of this package that installs each.
_EXTRAS = {"mujoco": "mujoco", "Box2D": "box2d"}

# Keep the start states of evaluation and measures apart from those of training, for any number of
# envs.
_EVAL_SEED_OFFSET = 1_000_000
_VALUES_SEED_OFFSET = 2_000_000


def eval_seed(config: RunConfig) -> int:
    """Return the seed that every evaluation of the run starts from."""
    return config.seed + _EVAL_SEED_OFFSET


def values_seed(config: RunConfig) -> int:
    """Return the seed of the measures' environment, and of what they draw."""
    return config.seed + _VALUES_SEED_OFFSET


def make_envs(config: RunConfig) -> tuple[VecEnv, VecEnv]:
    """Make the environments to train in and the one to evaluate in.

    Args:
        config: Names the task, the seed, and the number of training environments.

    Returns:
        The training environments and the evaluation environment.

    Raises:
        ConfigError: If the task is unknown, needs something that is not installed, or has actions
            of a kind that the algorithm does not have.
    """
    _check_known(config.env)
    try:
        env = make_vec_env(config.env, config.n_envs, config.seed)
        eval_env = make_vec_env(config.env, 1, eval_seed(config))
    except (gym.error.Error, ImportError) as error:
        raise ConfigError(_why_not(config.env, error)) from error
    _check_actions(config, env.action_space)
    return env, eval_env


def _check_known(env: str) -> None:
    module, colon, name = env.rpartition(":")
    if colon:
        try:
            importlib.import_module(module)
        except (ImportError, TypeError, ValueError) as error:
            raise ConfigError(f"environment {env}: {error}") from error
    if name not in gym.registry:
        raise ConfigError(f"unknown environment {name}{suggestion(name, gym.registry)}")


def _check_actions(config: RunConfig, space: spaces.Space[Any]) -> None:
    is_discrete = config.algo not in ACTOR_CRITICS
    if isinstance(space, spaces.Discrete if is_discrete else spaces.Box):
        return
    kind = (
        "discrete actions (a Discrete space)" if is_discrete else "continuous actions (a Box space)"
    )
    others = [algo for algo in ALGORITHMS if (algo in ACTOR_CRITICS) == is_discrete]
    serves = isinstance(space, spaces.Box if is_discrete else spaces.Discrete)
    hint = f", which {', '.join(others)} {'take' if is_discrete else 'takes'}" if serves else ""
    raise ConfigError(f"{config.algo} needs {kind}; {config.env} has {space}{hint}")


def _why_not(env: str, error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ModuleNotFoundError) and cause.name is not None:
            extra = _EXTRAS.get(cause.name)
            install = f'pip install "snrl[{extra}]"' if extra else f"pip install {cause.name}"
            return f"{env} needs {cause.name}: {install}"
        cause = cause.__cause__ or cause.__context__
    return f"cannot make {env}: {error}"
