from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor

from snrl.runs.checkpoint.episode import RecordedEpisode


class Careless(gym.Wrapper[Any, Any, Any, Any]):
    """Draws from NumPy's global generator: when reset, and when asked to in each step too."""

    def __init__(self, env: gym.Env[Any, Any], in_steps: bool) -> None:
        super().__init__(env)
        self.in_steps = in_steps

    def reset(self, **kwargs: Any) -> Any:
        observation, info = self.env.reset(**kwargs)
        return observation + np.float32(np.random.normal()), info

    def step(self, action: Any) -> Any:
        observation, *rest = self.env.step(action)
        return observation + np.float32(self.in_steps * np.random.normal()), *rest


class Remembering(gym.Wrapper[Any, Any, Any, Any]):
    """Rewards what it has been through in all of its episodes."""

    steps = 0

    def step(self, action: Any) -> Any:
        self.steps += 1
        observation, reward, *rest = self.env.step(action)
        return observation, float(reward) + self.steps, *rest


def make(name: str = "Pendulum-v1", wrap: Any = lambda env: env) -> RecordedEpisode:
    return RecordedEpisode(Monitor(wrap(gym.make(name))))


def go(env: RecordedEpisode, steps: int) -> list[Any]:
    seen = []
    for _ in range(steps):
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        seen.append((observation.tolist(), float(reward), terminated, truncated))
        if terminated or truncated:
            seen.append((info["episode"]["r"], info["episode"]["l"]))
            seen.append(env.reset()[0].tolist())
    return seen


@pytest.mark.parametrize("steps", [0, 1, 150, 200, 399, 400])
def test_an_episode_is_rebuilt_at_any_step(steps: int) -> None:
    """With time limit, the monitor's sum, and everything the task draws from then on."""
    env = make()
    env.reset(seed=1)
    env.action_space.seed(1)
    go(env, steps)
    state = env.state()
    other = make()
    other.reset(seed=1)
    assert other.rebuild(state)
    assert go(other, 450) == go(env, 450)


@pytest.mark.parametrize("name", ["Hopper-v5", "MountainCarContinuous-v0", "InvertedPendulum-v5"])
def test_other_tasks_are_rebuilt(name: str) -> None:
    if name.endswith("v5"):
        pytest.importorskip("mujoco")
    env, other = make(name), make(name)
    for each in (env, other):
        each.reset(seed=1)
    env.action_space.seed(1)
    go(env, 130)
    assert other.rebuild(env.state())
    assert go(other, 200) == go(env, 200)


def test_global_generators_count_where_an_episode_begins() -> None:
    env, other = (make(wrap=lambda env: Careless(env, in_steps=False)) for _ in range(2))
    for each in (env, other):
        each.reset(seed=1)
    go(env, 230)
    before = np.random.get_state()[1]
    assert other.rebuild(env.state())
    # Nor does rebuilding draw from them.
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("wrap", [lambda env: Careless(env, in_steps=True), Remembering])
def test_what_cannot_be_rebuilt_is_noticed(wrap: Any) -> None:
    env, other = make(wrap=wrap), make(wrap=wrap)
    for each in (env, other):
        each.reset(seed=1)
    go(env, 215)
    np.random.normal()  # as training draws between steps
    go(env, 15)
    assert not other.rebuild(env.state())


def test_an_endless_episode_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snrl.runs.checkpoint.episode.MAX_STEPS", 20)
    env = make()
    env.reset(seed=1)
    go(env, 20)
    assert env.state() is not None
    go(env, 1)
    assert env.state() is None
    assert not env.rebuild(None)
    go(env, 180)  # the next one is
    assert env.state() is not None


def test_an_action_that_the_task_changes_is_kept_as_it_was() -> None:
    class Scaling(gym.Wrapper[Any, Any, Any, Any]):
        def step(self, action: Any) -> Any:
            action *= 0.5
            return self.env.step(action)

    env, other = make(wrap=Scaling), make(wrap=Scaling)
    for each in (env, other):
        each.reset(seed=1)
    go(env, 30)
    assert other.rebuild(env.state())


def test_tasks_that_keep_their_past_are_known() -> None:
    class BipedalWalker(gym.Env[Any, Any]):
        """Only its name is looked at."""

    assert make().forgets
    assert not RecordedEpisode(BipedalWalker()).forgets
