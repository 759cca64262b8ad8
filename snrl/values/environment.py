"""The environment of the measures: a copy apart from training's, and its time limit."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
from gymnasium.wrappers import TimeAwareObservation
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

EnvOption = str | gym.Env[Any, Any] | VecEnv

# Side by side, episodes share the passes through the policy, which cost most.
N_ENVS = 8


def own_env(env: EnvOption, model: OffPolicyAlgorithm) -> VecEnv:
    """Make the environment that the measures step, as the model's policy sees it.

    Args:
        env: A task's name, of which :data:`N_ENVS` copies are made, or an environment that nobody
            else steps. A ``VecNormalize`` around it is left aside: observations and rewards are
            normalised by the training environment's current statistics.
        model: Whose policy will act.

    Returns:
        A vectorised environment without normalisation.

    Raises:
        ValueError: If it is the training environment, or its spaces are not the model's.
    """
    if isinstance(env, str):
        env = make_env(env)
    training = model.get_env()
    inner = [training.unwrapped] if training is not None else []
    inner += [part.unwrapped for part in getattr(inner[0], "envs", [])] if inner else []
    if any(env.unwrapped is part for part in inner):
        raise ValueError("the measures need an environment of their own, got the training one")
    if isinstance(env, VecEnv):
        while isinstance(env, VecNormalize):
            env = env.venv
    own = model._wrap_env(env, monitor_wrapper=False)
    for name in ("observation_space", "action_space"):
        got, wanted = getattr(own, name), getattr(model, name)
        if got != wanted:
            raise ValueError(f"the measures' environment has {name} {got}, the model has {wanted}")
    return own


def make_env(name: str) -> VecEnv:
    """Make a task for measures: :data:`N_ENVS` copies, without wrappers that only watch."""
    return DummyVecEnv([lambda: gym.make(name, disable_env_checker=True)] * N_ENVS)


class TimeLimit:
    """The nominal time limit of an environment, and how episodes may run beyond it.

    A state near the limit has a return that is cut; so that its tail can be seen, the limit of the
    measures' own environment is moved away meanwhile. States beyond the nominal limit are never
    judged.

    Args:
        env: The measures' own environment.

    Attributes:
        nominal: The limit that training has; None where there is none that can be moved.
    """

    _NAME = "_max_episode_steps"  # of Gymnasium's wrapper, which has no public one

    def __init__(self, env: VecEnv) -> None:
        """Find the limit."""
        self._env = env
        self.nominal: int | None = None
        # Where observations tell the time, a policy has no answer beyond the limit.
        timed = any(env.env_is_wrapped(TimeAwareObservation))
        if timed or not all(env.env_method("has_wrapper_attr", self._NAME)):
            return
        limits = env.env_method("get_wrapper_attr", self._NAME)
        if all(isinstance(limit, int) for limit in limits):
            self.nominal = min(limits)

    @contextmanager
    def moved(self, steps: int) -> Iterator[None]:
        """Move the limit so many steps away while the block runs."""
        if self.nominal is None:
            yield
            return
        self._env.env_method("set_wrapper_attr", self._NAME, self.nominal + steps)
        try:
            yield
        finally:
            self._env.env_method("set_wrapper_attr", self._NAME, self.nominal)
