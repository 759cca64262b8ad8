"""What a study's runs would be refused for, found before any of them has begun."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import gymnasium as gym

from snrl.runs.errors import ConfigError
from snrl.runs.tasks import check_actions, check_known, why_not
from snrl.studies.definition import Cell, Study

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

# Building a model makes no use of its replay buffer, which may take gigabytes.
_BUFFER = 1


def check_runs(study: Study) -> None:
    """Make each task of a study once, and the model of each cell, on the CPU.

    Seeds are not gone through, and nothing is trained. Devices are left to the machines that do
    the runs.

    Raises:
        ConfigError: If a task is unknown, needs something that is not installed, or has actions
            that one of the algorithms cannot take, or if a cell's model is refused.
    """
    for task in study.tasks:
        _check_task(study, task)
    # After the tasks, whose mistakes need not wait for torch to load.
    from stable_baselines3.common.vec_env import DummyVecEnv

    for task in study.tasks:
        with closing(DummyVecEnv([partial(gym.make, task)])) as env:
            for cell in study.cells:
                if cell.task == task:
                    _check_model(cell, env)


def _check_task(study: Study, task: str) -> None:
    check_known(task)
    try:
        env = gym.make(task)
    except (gym.error.Error, ImportError) as error:
        raise ConfigError(why_not(task, error)) from error
    env.close()
    for algorithm in study.algorithms:
        check_actions(algorithm, task, env.action_space)


def _check_model(cell: Cell, env: "VecEnv") -> None:
    from snrl.runs.build import build_model

    algorithm: Mapping[str, object] = {**cell.config.algorithm, "buffer_size": _BUFFER}
    config = replace(cell.config, env=cell.task, device="cpu", algorithm=algorithm)
    try:
        build_model(config, env)
    except ConfigError as error:
        raise ConfigError(f"{cell}: {error}") from error
