"""The replay buffer in checkpoints: each writes the transitions since the last one.

A buffer of a million transitions may take gigabytes, and nearly all of it is in the checkpoint
before already. So it is kept in segments: files of consecutive steps of all environments, counted
from the first one of the run. A segment is dropped when the buffer has overwritten all of it.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer

# Those that never change a transition after it was added, but for the one that comes next.
_TYPES = (ReplayBuffer, DictReplayBuffer, NStepReplayBuffer)

Segments = list[tuple[int, int]]


class ReplaySegments:
    """Which steps of a replay buffer are in which file.

    Args:
        buffer: SB3's buffer.

    Raises:
        TypeError: If it is of another kind, which may change what it holds.
    """

    def __init__(self, buffer: ReplayBuffer) -> None:
        """Nothing is written yet."""
        if type(buffer) not in _TYPES:
            raise TypeError(f"the replay buffer is a {type(buffer).__name__}")
        self._buffer = buffer
        self._segments: Segments = []

    def plan(self, steps: int) -> tuple[Segments, Segments]:
        """Tell what a checkpoint holds.

        Args:
            steps: Steps of all environments so far, each of which added a row to the buffer.

        Returns:
            Segments to be written, and those that were written before and are still needed.
        """
        buffer = self._buffer
        first = max(0, steps - buffer.buffer_size)
        old = [(a, b) for a, b in self._segments if b > first]
        begin = max(first, old[-1][1]) if old else first
        # A segment lies in one piece in the buffer.
        size = buffer.buffer_size
        ends = [begin, *range(begin - begin % size + size, steps, size), steps]
        new = [(a, b) for a, b in pairwise(ends) if b > a]
        return new, old

    def writers(self, new: Segments) -> dict[str, Callable[[Path], None]]:
        """Give what writes each of these segments, by the file's name."""
        return {name(*segment): partial(self._write, segment) for segment in new}

    def note(self, segments: Segments) -> None:
        """Remember that these are in files; empty for none, so that all is written anew."""
        self._segments = list(segments)

    def head(self) -> dict[str, Any]:
        """Where the buffer stands, and the row that comes next, which may hold an observation."""
        buffer = self._buffer
        row = {key: array[buffer.pos].copy() for key, array in _arrays(buffer)}
        return {"pos": buffer.pos, "full": buffer.full, "row": row}

    def restore(self, folder: Path, segments: Segments, head: Mapping[str, Any]) -> None:
        """Fill the buffer from files.

        Args:
            folder: Where they are.
            segments: In which order.
            head: What :meth:`head` gave.
        """
        buffer = self._buffer
        arrays = dict(_arrays(buffer))
        for begin, end in segments:
            at = begin % buffer.buffer_size
            with np.load(folder / name(begin, end), allow_pickle=False) as saved:
                for key, array in arrays.items():
                    array[at : at + end - begin] = saved[key]
        buffer.pos, buffer.full = head["pos"], head["full"]
        for key, value in head["row"].items():
            arrays[key][buffer.pos] = value
        self.note(segments)

    def cut(self) -> None:
        """End the running episodes in the buffer as a time limit does; what follows is not seen."""
        buffer = self._buffer
        self.note([])
        if not buffer.size():
            return
        last = (buffer.pos - 1) % buffer.buffer_size
        buffer.dones[last] = 1
        if buffer.handle_timeout_termination:
            buffer.timeouts[last] = 1

    def _write(self, segment: tuple[int, int], path: Path) -> None:
        begin, end = segment
        at = begin % self._buffer.buffer_size
        parts = {key: array[at : at + end - begin] for key, array in _arrays(self._buffer)}
        np.savez(path, allow_pickle=False, **parts)


def name(begin: int, end: int) -> str:
    """Name the file of a segment."""
    return f"replay-{begin}-{end}.npz"


def _arrays(buffer: ReplayBuffer) -> Iterator[tuple[str, np.ndarray]]:
    """All arrays with a row for each step, those of dictionary observations too."""
    for key, value in vars(buffer).items():
        if isinstance(value, np.ndarray):
            yield key, value
        elif isinstance(value, dict):
            for part, array in value.items():
                if isinstance(array, np.ndarray):
                    yield f"{key}.{part}", array
