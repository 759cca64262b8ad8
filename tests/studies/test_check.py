"""Mistakes of a study that show before any run has begun."""

from collections.abc import Callable
from pathlib import Path

import pytest

from snrl.runs.errors import ConfigError
from snrl.studies.check import check_runs
from snrl.studies.definition import load_study

Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("Pendulum-v2", "unknown environment Pendulum-v2: did you mean Pendulum-v1?"),
        ("nowhere:Task-v0", "environment nowhere:Task-v0: No module named 'nowhere'"),
        ("CartPole-v1", "sac needs continuous actions"),
    ],
)
def test_a_task_that_cannot_be_is_refused(write_study: Write, task: str, message: str) -> None:
    study = load_study(write_study(tasks=["Pendulum-v1", task]))
    with pytest.raises(ConfigError, match=message):
        check_runs(study)


def test_a_critic_that_an_algorithm_does_not_take_is_refused(write_study: Write) -> None:
    variants = {"plain": {}, "batch": {"critic": "batch_norm"}}
    study = load_study(write_study(variants=variants, algorithms=["crossq", "td3"]))
    message = r"^Pendulum-v1/td3/batch: td3 on Pendulum-v1: critic 'batch_norm': it needs"
    with pytest.raises(ConfigError, match=message):
        check_runs(study)


def test_a_device_of_other_machines_is_theirs_to_check(write_study: Write) -> None:
    check_runs(load_study(write_study(common={"total_timesteps": 100, "device": "cuda:7"})))
