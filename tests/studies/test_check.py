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


def test_what_needs_memory_and_time_is_checked_without_either(write_study: Write) -> None:
    """Millions of units would neither fit into memory nor be decomposed in a test's time."""
    wide = 4_000_000
    variants = {"sn": {"sn": True}, "bro": {"critic": "bro"}}
    common = {"total_timesteps": 100, "net_arch": [wide, wide], "buffer_size": 10**15}
    check_runs(load_study(write_study(variants=variants, common=common)))


def test_a_refusal_tells_of_the_widths_that_were_asked_for(write_study: Write) -> None:
    common = {"total_timesteps": 100, "net_arch": [32, 16]}
    study = load_study(write_study(variants={"bro": {"critic": "bro"}}, common=common))
    message = r"^Pendulum-v1/sac/bro: .*needs a net_arch of equal widths.*got .32, 16"
    with pytest.raises(ConfigError, match=message):
        check_runs(study)


def test_a_device_of_other_machines_is_theirs_to_check(write_study: Write) -> None:
    check_runs(load_study(write_study(common={"total_timesteps": 100, "device": "cuda:7"})))
