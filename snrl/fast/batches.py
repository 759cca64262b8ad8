"""The batches of all gradient steps of one ``train()``, drawn at once."""

import math
from array import array
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor

from snrl.spectral import native

# Batches gathered together: long runs of gradient steps must not hold all of them.
AT_ONCE = 32


class Batches(NamedTuple):
    """Transitions of some batches.

    Attributes:
        now: Observations and actions side by side, shape ``(k, batch, obs_dim + action_dim)``.
        next: Next observations, and place that is not used, of the same shape.
        rewards: Shape ``(k, batch)``.
        discounts: What the next value counts, shape ``(k, batch)``: 0 where the episode ended.
    """

    now: Tensor
    next: Tensor
    rewards: Tensor
    discounts: Tensor


def draw(
    model: OffPolicyAlgorithm, n_batches: int, batch_size: int, dtype: torch.dtype
) -> Iterator[Batches]:
    """Draw the batches that as many calls of the replay buffer's ``sample`` would.

    Args:
        model: Its buffer holds observations that are no dictionaries.
        n_batches: How many.
        batch_size: Transitions in each.
        dtype: What the networks compute in.

    Returns:
        The batches, on the CPU, several at once where the buffer is one of SB3's plain ones. The
        same random numbers are taken from numpy's global generator as SB3 takes.
    """
    buffer, env = model.replay_buffer, model._vec_normalize_env
    assert buffer is not None
    if not is_plain(buffer) or env is not None:
        for _ in range(n_batches):
            yield convert(buffer.sample(batch_size, env=env), model.gamma, dtype)
        return
    for first in range(0, n_batches, AT_ONCE):
        count = min(AT_ONCE, n_batches - first)
        yield _gather(buffer, count, batch_size, model.gamma, dtype)


def is_plain(buffer: ReplayBuffer) -> bool:
    """Tell whether a buffer does no more than SB3's class of that name, with its usual arrays."""
    return (
        type(buffer) is ReplayBuffer
        and not buffer.optimize_memory_usage
        and not vars(buffer).keys() & {"sample", "_get_samples", "to_torch"}
        and all(
            x.dtype.char == "f" and x.flags.c_contiguous
            for x in (buffer.rewards, buffer.dones, buffer.timeouts)
        )
    )


def convert(sample: ReplayBufferSamples, gamma: float, dtype: torch.dtype) -> Batches:
    """Give a sample of observations that are no dictionaries as one batch, where it is."""
    obs, next_obs = (
        x.flatten(1).to(dtype) for x in (sample.observations, sample.next_observations)
    )
    actions = sample.actions.flatten(1).to(dtype)
    gammas = gamma if sample.discounts is None else sample.discounts
    return Batches(
        torch.cat((obs, actions), 1)[None],
        torch.cat((next_obs, torch.empty_like(actions)), 1)[None],
        sample.rewards.flatten().to(dtype)[None],
        ((1 - sample.dones) * gammas).flatten().to(dtype)[None],
    )


def drawn_rows(buffer: ReplayBuffer, n_batches: int, batch_size: int) -> np.ndarray:
    """Draw which transitions of a plain buffer make the next batches, as its ``sample`` would.

    Returns:
        ``position · n_envs + environment`` of each, int64, shape ``(n_batches, batch_size)``.
    """
    end = buffer.buffer_size if buffer.full else buffer.pos
    rows = np.empty((n_batches, batch_size), dtype=np.int64)
    for row in rows:
        np.multiply(np.random.randint(0, end, size=batch_size), buffer.n_envs, out=row)
        row += np.random.randint(0, buffer.n_envs, size=batch_size)
    return rows


def _gather(
    buffer: ReplayBuffer, n_batches: int, batch_size: int, gamma: float, dtype: torch.dtype
) -> Batches:
    rows = drawn_rows(buffer, n_batches, batch_size)
    obs_dim, action_dim = (width_of(x) for x in (buffer.observations, buffer.actions))
    shape = 2, n_batches, batch_size
    rewards, discounts = torch.empty(shape, dtype=dtype, device="cpu")
    now, following = torch.empty(*shape, obs_dim + action_dim, dtype=dtype, device="cpu")
    table = array("q")
    for source, out, first in (
        (buffer.observations, now, 0),
        (buffer.actions, now, obs_dim),
        (buffer.next_observations, following, 0),
    ):
        width = width_of(source)
        if source.dtype.char in "fd" and source.flags.c_contiguous:
            address = out.data_ptr() + first * out.itemsize
            table.extend((source.ctypes.data, source.dtype.char == "d", width, address))
        else:
            chosen = source.reshape(-1, width).take(rows, axis=0)
            out[..., first : first + width] = torch.from_numpy(chosen)
    native.library(dtype).gather(
        *(table.buffer_info()[0], len(table) // 4, obs_dim + action_dim),
        *(x.ctypes.data for x in (buffer.rewards, buffer.dones, buffer.timeouts)),
        *(gamma, rewards.data_ptr(), discounts.data_ptr()),
        *(rows.ctypes.data, rows.size, torch.get_num_threads()),
    )
    return Batches(now, following, rewards, discounts)


def width_of(of: np.ndarray) -> int:
    """Numbers in one transition of an array of shape ``(buffer_size, n_envs, ...)``."""
    return math.prod(of.shape[2:])
