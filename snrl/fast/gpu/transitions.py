"""Transitions on the device, where recorded work finds its batches."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from stable_baselines3.common.buffers import ReplayBuffer
from torch import Tensor

from snrl.fast.batches import AT_ONCE, convert, drawn_rows, is_plain, width_of
from snrl.fast.gpu.staging import Staging

# Rows that are packed and sent at once: page-locked memory is dear.
_SENT = 4096


class Batch(NamedTuple):
    """The transitions of a gradient step, all of the networks' dtype.

    Attributes:
        now: Observations and actions side by side, shape ``(batch, obs_dim + action_dim)``.
        obs: The observations alone: a view.
        next_obs: Next observations, shape ``(batch, obs_dim)``.
        rewards: Shape ``(batch,)``.
        discounts: What the next value counts, shape ``(batch,)``: 0 where the episode ended.
    """

    now: Tensor
    obs: Tensor
    next_obs: Tensor
    rewards: Tensor
    discounts: Tensor


class Transitions(ABC):
    """Rows of transitions on a device, and which of them make the next batches.

    Attributes:
        rows: Indices of rows, int64, shape ``(AT_ONCE, batch)``; always at the same place.
    """

    def __init__(
        self, model: Any, batch_size: int, length: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        """Take memory.

        Args:
            model: Its buffer holds observations that are no dictionaries.
            batch_size: Transitions in a batch.
            length: Number of rows.
            device: Where the networks are.
            dtype: What the networks compute in.
        """
        buffer = model.replay_buffer
        self._model, self._buffer, self._batch_size = model, buffer, batch_size
        self._gamma, self._env = model.gamma, model._vec_normalize_env
        self._obs_dim = width_of(buffer.observations)
        self._action_dim = width_of(buffer.actions)
        width = 2 * self._obs_dim + self._action_dim + 2
        self._table = torch.empty(length, width, dtype=dtype, device=device)
        self.rows = torch.zeros(AT_ONCE, batch_size, dtype=torch.int64, device=device)

    def is_current(self) -> bool:
        """Tell whether the model still draws from this buffer, as it did."""
        model = self._model
        return (
            model.replay_buffer is self._buffer
            and model.gamma == self._gamma
            and model._vec_normalize_env is self._env
        )

    @abstractmethod
    def draw(self, count: int) -> None:
        """Draw as many batches as the buffer's ``sample`` would, with the same random numbers.

        Args:
            count: How many, at most ``AT_ONCE``.
        """

    def batch(self, turn: Tensor) -> Batch:
        """Gather a batch; to be recorded.

        Args:
            turn: Which of those that were drawn, int64, shape ``(1,)``.
        """
        packed = self._table.index_select(0, self.rows.index_select(0, turn).squeeze(0))
        now = packed[:, : self._obs_dim + self._action_dim]
        next_obs = packed[:, now.shape[1] : -2]
        return Batch(now, packed[:, : self._obs_dim], next_obs, *packed[:, -2:].unbind(1))


class Replica(Transitions):
    """A copy of one of SB3's plain buffers: only what has been added is sent.

    What it does not see is a transition that somebody has changed in the buffer's arrays after it
    was added.
    """

    def __init__(
        self, model: Any, batch_size: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        """Take memory for a whole buffer: see :class:`Transitions`."""
        buffer = model.replay_buffer
        super().__init__(model, batch_size, buffer.buffer_size * buffer.n_envs, device, dtype)
        sent = max(_SENT // buffer.n_envs, 1) * buffer.n_envs
        self._sent = Staging((sent, self._table.shape[1]), dtype, device)
        self._drawn = Staging(self.rows.shape, self.rows.dtype, device)
        self._pos = 0
        # The last transitions that were sent.
        self._last: list[np.ndarray] = []

    def draw(self, count: int) -> None:
        """Send what was added and which rows are drawn."""
        for first, stop in self._added():
            self._send(first, stop)
        drawn = drawn_rows(self._buffer, count, self._batch_size)
        self._drawn.take()[:count] = torch.from_numpy(drawn)
        self._drawn.send(self.rows[:count])

    def _added(self) -> Iterator[tuple[int, int]]:
        """Ranges of positions that were written since the last call."""
        buffer = self._buffer
        pos, end = buffer.pos, buffer.buffer_size if buffer.full else buffer.pos
        # Where the last one is no longer there, the buffer was gone through, or emptied.
        if not self._last or not all(map(_are_equal, self._last, self._at(self._pos - 1))):
            yield 0, end
        elif pos >= self._pos:
            yield self._pos, pos
        else:
            yield self._pos, buffer.buffer_size
            yield 0, pos
        self._pos = pos
        self._last = [x.copy() for x in self._at(pos - 1)]

    def _at(self, position: int) -> list[np.ndarray]:
        buffer = self._buffer
        parts = (
            *(buffer.observations, buffer.actions, buffer.next_observations),
            *(buffer.rewards, buffer.dones, buffer.timeouts),
        )
        return [x[position] for x in parts]

    def _send(self, first: int, stop: int) -> None:
        buffer, n_envs = self._buffer, self._buffer.n_envs
        at_once = len(self._sent) // n_envs
        for start in range(first, stop, at_once):
            chosen = slice(start, min(start + at_once, stop))
            count = (chosen.stop - chosen.start) * n_envs
            packed = self._sent.take()[:count].numpy()
            obs, actions, next_obs = (
                x[chosen].reshape(count, -1)
                for x in (buffer.observations, buffer.actions, buffer.next_observations)
            )
            left = self._obs_dim + self._action_dim
            packed[:, : self._obs_dim], packed[:, self._obs_dim : left] = obs, actions
            packed[:, left:-2] = next_obs
            packed[:, -2] = buffer.rewards[chosen].reshape(count)
            goes_on = 1 - buffer.dones[chosen] * (1 - buffer.timeouts[chosen])
            packed[:, -1] = (goes_on * self._gamma).reshape(count)
            self._sent.send(self._table[chosen.start * n_envs : chosen.stop * n_envs])


class Samples(Transitions):
    """Batches of any buffer, as its ``sample`` gives them."""

    def __init__(
        self, model: Any, batch_size: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        """Take memory for the batches that are drawn at once: see :class:`Transitions`."""
        super().__init__(model, batch_size, AT_ONCE * batch_size, device, dtype)
        self.rows.copy_(torch.arange(AT_ONCE * batch_size).view_as(self.rows))

    def draw(self, count: int) -> None:
        """Put them behind each other."""
        for part in self._table.view(AT_ONCE, self._batch_size, -1)[:count]:
            sample = self._buffer.sample(self._batch_size, env=self._env)
            now, following, rewards, discounts = convert(sample, self._gamma, part.dtype)
            facts = torch.stack((rewards[0], discounts[0]), 1)
            part.copy_(torch.cat((now[0], following[0, :, : self._obs_dim], facts), 1))


def transitions(
    model: Any, batch_size: int, device: torch.device, dtype: torch.dtype
) -> Transitions:
    """Give the transitions of a model's buffer; as a replica, where it is plain and fits."""
    buffer: ReplayBuffer = model.replay_buffer
    if is_plain(buffer) and model._vec_normalize_env is None:
        if _fits(buffer, device, dtype):
            return Replica(model, batch_size, device, dtype)
        logging.getLogger("snrl").warning(
            "The replay buffer would take more than half of what is free on %s: its batches are "
            "sent there one by one.",
            device,
        )
    return Samples(model, batch_size, device, dtype)


def _fits(buffer: ReplayBuffer, device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether half of a device's free memory, or less, holds a replica."""
    if device.type != "cuda":
        return True
    width = 2 * width_of(buffer.observations) + width_of(buffer.actions) + 2
    free, _ = torch.cuda.mem_get_info(device)
    return 2 * buffer.buffer_size * buffer.n_envs * width * dtype.itemsize <= free


def _are_equal(one: np.ndarray, other: np.ndarray) -> bool:
    # To the bit, where NaN equals itself.
    return one.tobytes() == other.tobytes()
