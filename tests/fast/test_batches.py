"""Batches drawn at once, against as many calls of the buffer's ``sample``."""

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.testing import assert_array_equal
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from snrl.fast.batches import Batches, draw
from snrl.spectral import native

pytestmark = pytest.mark.skipif(not native.is_available(), reason="no compiler")
ACTIONS = spaces.Box(-1, 1, (2,), np.float32)
GAMMA = 0.97


def box(dtype: Any = np.float32, shape: tuple[int, ...] = (5,)) -> spaces.Box:
    return spaces.Box(0, 100, shape, dtype)


class Noise(gym.Env[Any, Any]):
    """States and rewards are noise."""

    def __init__(self, observation_space: spaces.Box, action_space: spaces.Box = ACTIONS) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed, options=options)
        return self.observation_space.sample(), {}

    def step(self, action: np.ndarray) -> Any:
        return self.observation_space.sample(), float(action.sum()), False, False, {}


def filled(
    kind: type[ReplayBuffer] = ReplayBuffer,
    space: spaces.Box | None = None,
    n_envs: int = 1,
    size: int = 60,
    n_added: int = 37,
    actions: spaces.Box = ACTIONS,
    **kwargs: Any,
) -> ReplayBuffer:
    space = box() if space is None else space
    buffer = kind(size * n_envs, space, actions, "cpu", n_envs, **kwargs)
    rng = np.random.default_rng(0)
    space.seed(0)
    actions.seed(0)
    for _ in range(n_added):
        obs, following = (np.stack([space.sample() for _ in range(n_envs)]) for _ in range(2))
        chosen = np.stack([actions.sample() for _ in range(n_envs)])
        dones = rng.random(n_envs) < 0.4
        infos = [{"TimeLimit.truncated": bool(x)} for x in dones & (rng.random(n_envs) < 0.5)]
        buffer.add(obs, following, chosen, rng.normal(size=n_envs), dones, infos)
    return buffer


def check(
    buffer: ReplayBuffer,
    dtype: torch.dtype = torch.float32,
    env: VecNormalize | None = None,
    n_batches: int = 4,
    batch_size: int = 23,
) -> list[Batches]:
    np.random.seed(3)
    model: Any = SimpleNamespace(replay_buffer=buffer, _vec_normalize_env=env, gamma=GAMMA)
    drawn = list(draw(model, n_batches, batch_size, dtype))
    found = [Batches(*x) for several in drawn for x in zip(*several, strict=True)]
    after = np.random.get_state()
    np.random.seed(3)
    samples = [buffer.sample(batch_size, env=env) for _ in range(n_batches)]
    assert len(found) == n_batches
    for batch, sample in zip(found, samples, strict=True):
        obs_dim = sample.observations.flatten(1).shape[1]
        wanted = [x.flatten(1).to(dtype) for x in sample[:3]]
        assert torch.equal(batch.now, torch.cat((wanted[0], wanted[1]), 1))
        assert batch.next.shape == batch.now.shape
        assert torch.equal(batch.next[:, :obs_dim], wanted[2])
        gammas = GAMMA if sample.discounts is None else sample.discounts
        discounts = ((1 - sample.dones) * gammas).to(dtype).flatten()
        assert torch.equal(batch.rewards, sample.rewards.to(dtype).flatten())
        torch.testing.assert_close(batch.discounts, discounts, rtol=1e-7, atol=0)
        assert all(part.dtype is dtype for part in batch)
        # What the functions in C take.
        assert all(part.stride(-1) == 1 for part in batch)
    for a, b in zip(after, np.random.get_state(), strict=True):
        assert_array_equal(a, b)
    return found


DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_envs", [1, 2, 3])
@pytest.mark.parametrize("n_added", [1, 37, 60, 100])
def test_plain_buffers(dtype: torch.dtype, n_envs: int, n_added: int) -> None:
    buffer = filled(n_envs=n_envs, n_added=n_added)
    assert buffer.full == (n_added >= 60)
    check(buffer, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "kind", [np.float16, np.float64, np.uint8, np.int8, np.int16, np.int32, np.int64, np.uint16]
)
def test_observations_of_any_dtype(dtype: torch.dtype, kind: Any) -> None:
    check(filled(space=box(kind), n_envs=2), dtype)


def test_float64_observations_keep_their_digits() -> None:
    buffer = filled(space=box(np.float64))
    (found,) = check(buffer, torch.float64, n_batches=1)
    assert not torch.equal(found.now[:, :5], found.now[:, :5].float().double())


@pytest.mark.parametrize("shape", [(1,), (2, 3), (2, 2, 2)])
@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_observations_of_any_shape(shape: tuple[int, ...], kind: Any) -> None:
    check(filled(space=box(kind, shape), n_envs=2))


@pytest.mark.parametrize(
    "actions",
    [
        spaces.Box(-1, 1, (2, 3), np.float32),
        spaces.Box(-1, 1, (2,), np.float64),
        spaces.Box(-3, 3, (2,), np.int32),
    ],
    ids=["two dimensions", "float64", "integers"],
)
def test_actions_of_any_shape_and_dtype(actions: spaces.Box) -> None:
    check(filled(actions=actions, n_envs=2))


@pytest.mark.parametrize("n_added", [30, 60, 85])
@pytest.mark.parametrize("n_envs", [1, 2])
def test_observations_that_are_stored_once(n_added: int, n_envs: int) -> None:
    check(
        filled(
            n_added=n_added,
            n_envs=n_envs,
            optimize_memory_usage=True,
            handle_timeout_termination=False,
        )
    )


def test_time_limits_that_are_not_told_apart() -> None:
    check(filled(handle_timeout_termination=False))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_added", [30, 85])
@pytest.mark.parametrize("n_envs", [1, 2])
def test_several_steps(dtype: torch.dtype, n_added: int, n_envs: int) -> None:
    buffer = filled(NStepReplayBuffer, n_envs=n_envs, n_added=n_added, n_steps=3, gamma=GAMMA)
    found = check(buffer, dtype)
    assert len({float(x) for x in found[0].discounts}) > 2


@pytest.mark.parametrize("kind", [ReplayBuffer, NStepReplayBuffer])
@pytest.mark.parametrize("dtype", DTYPES)
def test_normalised_observations_and_rewards(kind: type[ReplayBuffer], dtype: torch.dtype) -> None:
    space = box()
    env = VecNormalize(DummyVecEnv([lambda: Noise(space)] * 2))
    env.reset()
    for _ in range(20):
        env.step(np.ones((2, 2), dtype=np.float32))
    buffer = filled(kind, space, n_envs=2)
    raw = check(buffer, dtype)
    found = check(buffer, dtype, env)
    assert not torch.equal(raw[0].now, found[0].now)
    assert not torch.equal(raw[0].rewards, found[0].rewards)


@pytest.mark.parametrize("batch_size", [1, 200])
@pytest.mark.parametrize("n_batches", [1, 20])
def test_any_number_of_batches(n_batches: int, batch_size: int) -> None:
    check(filled(n_envs=2), n_batches=n_batches, batch_size=batch_size)


class Latest(ReplayBuffer):
    """Samples in a way of its own."""

    def sample(self, batch_size: int, env: Any = None) -> Any:
        np.random.random()
        return self._get_samples(np.arange(self.pos - batch_size, self.pos), env)


def test_buffers_of_others_are_asked() -> None:
    found = check(filled(Latest))
    buffer = filled()
    assert torch.equal(found[0].now[:, :5], torch.from_numpy(buffer.observations[14:37, 0]))


def test_infinite_and_missing_values_are_copied() -> None:
    buffer = filled()
    buffer.observations[0] = np.nan
    buffer.rewards[1] = np.inf
    np.random.seed(0)
    model: Any = SimpleNamespace(replay_buffer=buffer, _vec_normalize_env=None, gamma=GAMMA)
    (found,) = draw(model, 1, 400, torch.float32)
    assert found.now.isnan().any()
    assert found.rewards.isinf().any()


def test_arrays_that_are_not_contiguous() -> None:
    buffer = filled()
    buffer.observations = np.asfortranarray(buffer.observations)
    check(buffer)


def test_a_buffer_that_somebody_watches() -> None:
    buffer = filled()
    seen = []
    original = buffer.sample

    def sample(*args: Any, **kwargs: Any) -> Any:
        seen.append(args)
        return original(*args, **kwargs)

    buffer.sample = sample  # type: ignore[method-assign]
    model: Any = SimpleNamespace(replay_buffer=buffer, _vec_normalize_env=None, gamma=GAMMA)
    assert len(list(draw(model, 3, 8, torch.float32))) == 3
    assert len(seen) == 3


class Torch(ReplayBuffer):
    """Draws from torch's generator."""

    def sample(self, batch_size: int, env: Any = None) -> Any:
        return self._get_samples(torch.randint(self.pos, (batch_size,)).numpy(), env)


def test_a_buffer_that_draws_from_torch_does_so_in_turn() -> None:
    buffer = filled(Torch)
    model: Any = SimpleNamespace(replay_buffer=buffer, _vec_normalize_env=None, gamma=GAMMA)
    torch.manual_seed(0)
    mine = [(batch.now.clone(), torch.rand(3)) for batch in draw(model, 3, 8, torch.float32)]
    torch.manual_seed(0)
    for now, noise in mine:
        assert torch.equal(now[0, :, :5], buffer.sample(8).observations)
        assert torch.equal(noise, torch.rand(3))
