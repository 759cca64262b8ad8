"""What the tests of the callback share."""

import json
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.logger import configure
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm


class Pictures(gym.Env[Any, Any]):
    """A dot in a picture, to be moved to the left; noise from NumPy's global generator."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}
    observation_space = spaces.Box(0, 255, (36, 36, 1), np.uint8)
    action_space = spaces.Box(-2, 2, (2,))

    def reset(self, **kwargs: Any) -> Any:
        super().reset(**kwargs)
        self.x = int(self.np_random.integers(36))
        return self._see(), {}

    def step(self, action: Any) -> Any:
        self.x = int(np.clip(self.x + np.round(3 * action[0]), 0, 35))
        return self._see(), -self.x / 35, False, False, {}

    def _see(self) -> Any:
        picture = np.random.randint(0, 50, (36, 36, 1)).astype(np.uint8)
        picture[:, self.x] = 255
        return picture


class Goals(gym.Env[Any, Any]):
    """A point to be moved to a goal, as hindsight replay wants it."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}
    _box = spaces.Box(-3, 3, (2,), np.float64)
    observation_space = spaces.Dict(observation=_box, achieved_goal=_box, desired_goal=_box)
    action_space = spaces.Box(-1, 1, (2,))

    def reset(self, **kwargs: Any) -> Any:
        super().reset(**kwargs)
        self.x, self.goal = self.np_random.uniform(-1, 1, (2, 2))
        return self._see(), {}

    def step(self, action: Any) -> Any:
        self.x = np.clip(self.x + 0.2 * action, -3, 3)
        reward = float(self.compute_reward(self.x, self.goal, {}))
        return self._see(), reward, reward == 0, False, {}

    def compute_reward(self, achieved: Any, desired: Any, _: Any) -> Any:
        return -(np.linalg.norm(achieved - desired, axis=-1) > 0.3).astype(float)

    def _see(self) -> Any:
        return {
            "observation": self.x.copy(),
            "achieved_goal": self.x.copy(),
            "desired_goal": self.goal,
        }


gym.register("Pictures-v0", Pictures, max_episode_steps=15, disable_env_checker=True)
gym.register("Goals-v0", Goals, max_episode_steps=15, disable_env_checker=True)


class Log:
    """Trains a model with a callback and reads SB3's log of it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(
        self, model: OffPolicyAlgorithm, steps: int, callback: Any
    ) -> list[dict[str, Any]]:
        model.set_logger(configure(str(self._path), ["json"]))
        model.learn(steps, callback)
        model.logger.close()
        text = (self._path / "progress.json").read_text()
        return [json.loads(line) for line in text.splitlines() if line != "{}"]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log")
