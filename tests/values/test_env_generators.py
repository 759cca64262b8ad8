import random
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from snrl.values.env_generators import (
    capture_env,
    capture_envs,
    capture_space,
    install_env,
    install_envs,
    install_space,
)


class OfAllKinds(gym.Wrapper[Any, Any, Any, Any]):
    """A task whose wrapper keeps a generator of each kind."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.kept = [random.Random(1), np.random.RandomState(1), np.random.default_rng(1)]
        self.python, self.old, self.new = self.kept
        self.of_torch = torch.Generator().manual_seed(1)

    def draw(self) -> list[float]:
        return [
            self.python.random(),
            self.old.random(),
            self.new.random(),
            torch.rand((), generator=self.of_torch).item(),
            self.unwrapped.np_random.random(),
            self.unwrapped.action_space.sample().item(),
        ]


def test_generators_of_every_kind_go_on() -> None:
    env = OfAllKinds(gym.make("Pendulum-v1"))
    env.reset(seed=1)
    env.draw()
    states = capture_env(env)
    other = OfAllKinds(gym.make("Pendulum-v1"))
    other.reset(seed=2)
    install_env(other, states)
    assert other.draw() == env.draw()
    assert other.draw() == env.draw()


def test_parts_of_spaces_sample_on() -> None:
    def make() -> spaces.Dict:
        parts = (spaces.Discrete(5), spaces.Box(-1, 1, (2,)))
        return spaces.Dict({"a": spaces.Box(-1, 1, (2,)), "b": spaces.Tuple(parts)})

    space, other = make(), make()
    space.sample()
    install_space(other, capture_space(space))
    for _ in range(2):
        np.testing.assert_equal(other.sample(), space.sample())


def test_environments_go_on_before_and_after_their_first_reset() -> None:
    def make() -> DummyVecEnv:
        made = DummyVecEnv([lambda: gym.make("Pendulum-v1")] * 2)
        made.seed(5)
        return made

    env = make()
    for _ in range(3):
        other = make()
        install_envs(other, capture_envs(env))
        # A new one after each reset: what a reset gives is where the generators are.
        np.testing.assert_array_equal(other.reset(), env.reset())
        np.testing.assert_array_equal(other.reset(), env.reset())
