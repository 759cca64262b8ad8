from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import TimeAwareObservation
from stable_baselines3 import SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize, VecTransposeImage

from snrl.values.environment import N_ENVS, TimeLimit, own_env

TINY = {"buffer_size": 10, "device": "cpu"}


def length(env: Any) -> int:
    """Steps of an episode."""
    env.reset()
    for t in range(1, 1000):
        *_, dones, _ = env.step(np.array([env.action_space.sample() for _ in range(env.num_envs)]))
        if dones.any():
            return t
    return 1000


def test_from_a_name() -> None:
    model = SAC("MlpPolicy", "Pendulum-v1", **TINY)
    assert own_env("Pendulum-v1", model).num_envs == N_ENVS


def test_the_training_environment_is_refused() -> None:
    env = VecNormalize(make_vec_env("Pendulum-v1"))
    model = SAC("MlpPolicy", env, **TINY)
    for same in (env, env.venv, VecNormalize(env.venv)):
        with pytest.raises(ValueError, match="an environment of their own"):
            own_env(same, model)


def test_one_of_the_training_environments_is_refused() -> None:
    env = gym.make("Pendulum-v1")
    model = SAC("MlpPolicy", env, **TINY)
    with pytest.raises(ValueError, match="an environment of their own"):
        own_env(env, model)


def test_normalisation_is_left_to_training() -> None:
    model = SAC("MlpPolicy", "Pendulum-v1", **TINY)
    inner = make_vec_env("Pendulum-v1")
    assert own_env(VecNormalize(inner), model) is inner


def test_other_spaces_are_refused() -> None:
    model = SAC("MlpPolicy", "Pendulum-v1", **TINY)
    with pytest.raises(ValueError, match=r"observation_space Box.*the model has Box"):
        own_env("MountainCarContinuous-v0", model)


def test_pictures_are_turned_as_training_turns_them() -> None:
    model = SAC("CnnPolicy", "Pictures-v0", **TINY)
    assert isinstance(own_env("Pictures-v0", model), VecTransposeImage)


@pytest.mark.parametrize("n", [1, 3])
def test_the_limit_is_moved(n: int) -> None:
    env = DummyVecEnv([lambda: gym.make("Pendulum-v1")] * n)
    limit = TimeLimit(env)
    assert limit.nominal == 200
    with limit.moved(50):
        assert length(env) == 250
    assert length(env) == TimeLimit(env).nominal == 200


def test_no_limit() -> None:
    env = DummyVecEnv([lambda: gym.make("Pendulum-v1", max_episode_steps=-1)])
    limit = TimeLimit(env)
    assert limit.nominal is None
    with limit.moved(50):
        assert length(env) == 1000


def test_a_limit_that_observations_tell_stays() -> None:
    env = DummyVecEnv([lambda: TimeAwareObservation(gym.make("Pendulum-v1"))])
    limit = TimeLimit(env)
    assert limit.nominal is None
    with limit.moved(50):
        assert length(env) == 200
