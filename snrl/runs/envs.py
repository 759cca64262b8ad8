"""The tasks of a run: one set of environments to train in, another one to evaluate in."""

import gymnasium as gym
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from snrl.runs.checkpoint.episode import RecordedEpisode
from snrl.runs.config import RunConfig
from snrl.runs.errors import ConfigError
from snrl.runs.tasks import check_actions, check_known, why_not

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
    check_known(config.env)
    try:
        env = make_vec_env(config.env, config.n_envs, config.seed, wrapper_class=RecordedEpisode)
        eval_env = make_vec_env(config.env, 1, eval_seed(config))
    except (gym.error.Error, ImportError) as error:
        raise ConfigError(why_not(config.env, error)) from error
    check_actions(config.algo, config.env, env.action_space)
    return env, eval_env
