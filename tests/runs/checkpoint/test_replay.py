from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer

from snrl.runs.checkpoint.replay import ReplaySegments, name

BOX = spaces.Box(-1, 1, (3,), np.float64)
DICT = spaces.Dict({"a": BOX, "b": spaces.Box(0, 255, (2, 2), np.uint8)})
ACTIONS = spaces.Box(-1, 1, (2,), np.float32)
SIZE, N_ENVS = 10, 2
KINDS: list[tuple[type[ReplayBuffer], Any, dict[str, Any]]] = [
    (ReplayBuffer, BOX, {}),
    (ReplayBuffer, BOX, {"optimize_memory_usage": True, "handle_timeout_termination": False}),
    (NStepReplayBuffer, BOX, {}),
    (DictReplayBuffer, DICT, {}),
]


def make(kind: Any, space: Any, options: dict[str, Any]) -> Any:
    return kind(SIZE * N_ENVS, space, ACTIONS, "cpu", n_envs=N_ENVS, **options)


def add(buffer: Any, count: int, draw: np.random.Generator) -> None:
    def observation() -> Any:
        space = buffer.observation_space
        if isinstance(space, spaces.Dict):
            return {
                key: (100 * draw.random((N_ENVS, *part.shape))).astype(part.dtype)
                for key, part in space.items()
            }
        return draw.random((N_ENVS, *space.shape))

    for _ in range(count):
        infos = [{"TimeLimit.truncated": bool(draw.integers(2))} for _ in range(N_ENVS)]
        actions, rewards = draw.random((N_ENVS, 2)), draw.random(N_ENVS)
        buffer.add(observation(), observation(), actions, rewards, draw.integers(2, size=2), infos)


def contents(buffer: Any) -> dict[str, Any]:
    names = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
    return {key: getattr(buffer, key) for key in (*names, "pos", "full") if hasattr(buffer, key)}


def assert_equal(one: Any, other: Any) -> None:
    for key, value in contents(one).items():
        np.testing.assert_equal(contents(other)[key], value)


@pytest.mark.parametrize(("kind", "space", "options"), KINDS)
def test_what_comes_back_is_the_buffer(
    kind: Any, space: Any, options: dict[str, Any], tmp_path: Path
) -> None:
    """After any number of steps between checkpoints, also more than the buffer holds."""
    draw = np.random.default_rng(0)
    buffer = make(kind, space, options)
    segments, steps, written = ReplaySegments(buffer), 0, []
    for count in (0, 3, 4, 0, 5, 10, 1, 27, 2, 10, 11):
        add(buffer, count, draw)
        steps += count
        new, old = segments.plan(steps)
        for file, write in segments.writers(new).items():
            write(tmp_path / file)
        segments.note([*old, *new])
        written.append(sum(end - begin for begin, end in new))
        other = make(kind, space, options)
        ReplaySegments(other).restore(tmp_path, [*old, *new], segments.head())
        assert_equal(buffer, other)
        # What is kept is little more than the buffer holds.
        assert sum(end - begin for begin, end in (*old, *new)) <= 2 * SIZE
    assert written == [0, 3, 4, 0, 5, 10, 1, 10, 2, 10, 10]


def test_a_buffer_goes_on_from_a_file_as_from_memory(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    buffer = make(*KINDS[0])
    add(buffer, 13, draw)
    segments = ReplaySegments(buffer)
    new, _ = segments.plan(13)
    for file, write in segments.writers(new).items():
        write(tmp_path / file)
    again = make(*KINDS[0])
    restored = ReplaySegments(again)
    restored.restore(tmp_path, new, segments.head())
    add(again, 4, draw)
    # Nothing that is on the disk is written again.
    new, old = restored.plan(17)
    assert (new, old) == ([(13, 17)], [(3, 10), (10, 13)])
    for file, write in restored.writers(new).items():
        write(tmp_path / file)
    third = make(*KINDS[0])
    ReplaySegments(third).restore(tmp_path, [*old, *new], restored.head())
    assert_equal(again, third)
    assert (tmp_path / name(13, 17)).exists()


def test_a_cut_ends_episodes_as_a_time_limit_and_is_written() -> None:
    buffer = make(*KINDS[2])
    add(buffer, 4, np.random.default_rng(0))
    segments = ReplaySegments(buffer)
    segments.note([(0, 4)])
    segments.cut()
    assert buffer.dones[3].tolist() == buffer.timeouts[3].tolist() == [1, 1]
    assert segments.plan(4) == ([(0, 4)], [])


def test_a_buffer_that_changes_what_it_holds_is_refused() -> None:
    with pytest.raises(TypeError, match="the replay buffer is a HerReplayBuffer"):
        ReplaySegments(object.__new__(HerReplayBuffer))
