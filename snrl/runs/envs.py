"""The tasks of a run: one set of environments to train in, another one to evaluate in."""

import importlib

import gymnasium as gym
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from snrl.runs.checkpoint.episode import RecordedEpisode
from snrl.runs.config import RunConfig, suggestion
from snrl.runs.errors import ConfigError

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
            that are not continuous.
    """
    _check_known(config.env)
    try:
        env = make_vec_env(config.env, config.n_envs, config.seed, wrapper_class=RecordedEpisode)
        eval_env = make_vec_env(config.env, 1, eval_seed(config))
    except (gym.error.Error, ImportError) as error:
        raise ConfigError(_why_not(config.env, error)) from error
    if not isinstance(env.action_space, spaces.Box):
        raise ConfigError(
            f"{config.algo} needs continuous actions (a Box space); "
            f"{config.env} has {env.action_space}"
        )
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


def _why_not(env: str, error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ModuleNotFoundError) and cause.name is not None:
            extra = _EXTRAS.get(cause.name)
            install = f'pip install "snrl[{extra}]"' if extra else f"pip install {cause.name}"
            return f"{env} needs {cause.name}: {install}"
        cause = cause.__cause__ or cause.__context__
    return f"cannot make {env}: {error}"
