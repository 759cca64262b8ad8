"""What the tests of checkpoints share: runs that are broken off, and what two runs must share."""

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.save_util import load_from_zip_file

from snrl.runs.checkpoint.callback import Checkpointer
from snrl.runs.result import RunResult

TIMED = ("time/fps", "time/time_elapsed", "values/time_share")


class BrokenOffError(BaseException):
    """As a kill, but in this process: nothing catches it."""


@pytest.fixture
def break_off(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Break the next run off, or interrupt it, when it has taken so many steps."""
    on_step = Checkpointer._on_step
    moments: list[tuple[int, signal.Signals | None]] = []

    def breaking(self: Checkpointer) -> bool:
        if moments and self.num_timesteps >= moments[0][0]:
            _, number = moments.pop()
            if number is None:
                raise BrokenOffError
            os.kill(os.getpid(), number)
        return on_step(self)

    def at(steps: int, number: signal.Signals | None = None) -> None:
        moments[:] = [(steps, number)]

    monkeypatch.setattr(Checkpointer, "_on_step", breaking)
    return at


def log(result: RunResult) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in result.folder.progress.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in TIMED} for line in lines]


def _assert_same(one: RunResult, other: RunResult) -> None:
    """The same weights, optimisers, evaluations and log, to the bit."""
    for name in ("model", "best_model"):
        found = [load_from_zip_file(getattr(x.folder, name), device="cpu")[1] for x in (one, other)]
        first, second = (_flat(params) for params in found)
        assert first.keys() == second.keys()
        assert [key for key in first if not _equal(first[key], second[key])] == []
    assert log(one) == log(other)
    arrays = [dict(np.load(x.folder.evaluations)) for x in (one, other)]
    assert arrays[0].keys() == arrays[1].keys()
    for key, value in arrays[0].items():
        np.testing.assert_array_equal(value, arrays[1][key])


@pytest.fixture
def assert_same() -> Callable[[RunResult, RunResult], None]:
    return _assert_same


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        parts = [_flat(part, f"{name}.{key}") for key, part in value.items()]
        return {key: part for found in parts for key, part in found.items()}
    return {name: value}


def _equal(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
