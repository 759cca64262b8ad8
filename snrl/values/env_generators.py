"""Random numbers of environments: the generators that tasks, wrappers and spaces keep."""

import random
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from snrl.values.generators import generators_kept

Generator = np.random.Generator | np.random.RandomState | random.Random | torch.Generator


def capture_env(env: gym.Env[Any, Any]) -> dict[str, Any]:
    """Read the states of all generators that are attributes of an environment or its wrappers.

    Args:
        env: The environment. Not modified.

    Returns:
        A state for each generator that exists by now, by where it was found.
    """
    return {name: _read(generator) for name, generator in _generators(env)}


def install_env(env: gym.Env[Any, Any], states: dict[str, Any]) -> None:
    """Set generators to the states of :func:`capture_env`; those without one stay as they are."""
    for name, generator in _generators(env, make=True):
        if name in states:
            _write(generator, states[name])


def capture_envs(env: VecEnv) -> dict[str, Any]:
    """Read the generators of environments in this process, and the seeds of their next reset."""
    inner: Any = env.unwrapped
    return {"seeds": list(inner._seeds), "envs": [capture_env(part) for part in inner.envs]}


def install_envs(env: VecEnv, states: dict[str, Any]) -> None:
    """Set generators and seeds to what :func:`capture_envs` has read.

    Args:
        env: Made anew. It is reset if that had happened by then, as a task may have no generator
            before.
        states: What was read.
    """
    inner: Any = env.unwrapped
    if not any(seed is not None for seed in states["seeds"]):
        with generators_kept():
            inner.reset()
    inner._seeds = list(states["seeds"])
    for part, state in zip(inner.envs, states["envs"], strict=True):
        install_env(part, state)


def capture_space(space: spaces.Space[Any]) -> dict[str, Any]:
    """Read the generators that a space samples with."""
    return {name: _read(generator) for name, generator in _inside("", space)}


def install_space(space: spaces.Space[Any], states: dict[str, Any]) -> None:
    """Set a space's generators to the states of :func:`capture_space`."""
    for name, generator in _inside("", space, make=True):
        if name in states:
            _write(generator, states[name])


def _generators(env: gym.Env[Any, Any], make: bool = False) -> Iterator[tuple[str, Generator]]:
    depth, level = 0, env
    while True:
        for name, value in vars(level).items():
            yield from _inside(f"{depth}.{name}", value, make)
        if not isinstance(level, gym.Wrapper):
            return
        depth, level = depth + 1, level.env


def _inside(name: str, value: Any, make: bool = False) -> Iterator[tuple[str, Generator]]:
    if isinstance(value, Generator):
        yield name, value
    elif isinstance(value, spaces.Space):
        # It has none before the first sample, unless it is seeded.
        yield from _inside(f"{name}._np_random", value.np_random if make else value._np_random)
        parts: Any = getattr(value, "spaces", ())
        for key, part in parts.items() if isinstance(parts, dict) else enumerate(parts):
            yield from _inside(f"{name}.{key}", part, make)


def _read(generator: Generator) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, random.Random):
        return generator.getstate()
    return generator.get_state()


def _write(generator: Generator, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)
