"""The running episode of a task: what it can be rebuilt from, and how."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch

from snrl.values.env_generators import capture_env, install_env
from snrl.values.generators import GeneratorStates, capture, generators_kept, install

# Of an episode that is longer, nothing is kept: a task that never ends must not fill the memory.
MAX_STEPS = 20_000
# Tasks that keep something of the episodes before, which may show long after a replay seemed right:
# this one keeps its Box2D world.
_REMEMBERING = ("BipedalWalker",)
_CPU = torch.device("cpu")


class RecordedEpisode(gym.Wrapper[Any, Any, Any, Any]):
    """Remembers how its episode began, and the actions since.

    Few tasks can tell their state or take it back, but the same generators, reset and actions lead
    to it again. That holds for tasks that draw from generators of their own and keep nothing from
    one episode to the next, and at the start of an episode for those that draw from the global
    generators too.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        """Wrap a task, outermost, so that all other wrappers are rebuilt with it."""
        super().__init__(env)
        self._begin: dict[str, Any] | None = None
        self._actions: list[np.ndarray] = []
        self._rewards: list[float] = []
        self._observation: Any = None

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Reset the task, and remember from what."""
        self._begin = {
            "arguments": dict(kwargs),
            "global": capture(_CPU)._asdict(),
            "own": capture_env(self.env),
        }
        self._actions, self._rewards = [], []
        self._observation, info = self.env.reset(**kwargs)
        return self._observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the task, and remember the action."""
        kept = np.array(action)  # the task may change its own
        self._observation, reward, *rest = self.env.step(action)
        if self._begin is not None:
            self._actions.append(kept)
            self._rewards.append(float(reward))
            if len(self._actions) > MAX_STEPS:
                self._begin = None
        return self._observation, reward, *rest

    @property
    def forgets(self) -> bool:
        """Whether the task is not known to keep something from one episode to the next."""
        return type(self.unwrapped).__name__ not in _REMEMBERING

    def state(self) -> dict[str, Any] | None:
        """What the episode can be rebuilt from; None if it has become too long for that."""
        if self._begin is None:
            return None
        return {
            **self._begin,
            "actions": list(self._actions),
            "rewards": list(self._rewards),
            "observation": self._observation,
            "now": capture_env(self.env),
        }

    def rebuild(self, state: dict[str, Any] | None) -> bool:
        """Bring the task, made anew, to where :meth:`state` was called.

        Returns:
            Whether all rewards and the last observation are those of then, to the bit. If not, the
            task has to be reset.
        """
        if state is None:
            return False
        with generators_kept():
            install(GeneratorStates(**state["global"]), _CPU)
            install_env(self.env, state["own"])
            self.reset(**state["arguments"])
            for action in state["actions"]:
                _, _, terminated, truncated, _ = self.step(action)
                if terminated or truncated:
                    return False
        # Space samplers have moved with training too.
        install_env(self.env, state["now"])
        return self._rewards == state["rewards"] and _equal(self._observation, state["observation"])


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    return np.array_equal(np.asarray(one), np.asarray(other))
