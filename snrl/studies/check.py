"""What a study's runs would be refused for, found before any of them has begun."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from snrl.runs.errors import ConfigError
from snrl.runs.tasks import check_actions, check_known, why_not
from snrl.studies.definition import Cell, Study

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

# Building a model makes no use of its replay buffer, which may take gigabytes.
_BUFFER = 1
_WIDTH = 4


def check_runs(study: Study) -> None:
    """Make each task of a study once, and the model of each cell, on the CPU.

    Seeds are not gone through, and nothing is trained. Devices, and whether networks and buffers
    fit into memory, are left to the machines that do the runs. Building models seeds the global
    random generators.

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
    """Build a cell's model with narrow networks; one that is refused, as the run would."""
    try:
        _build(cell, env, _narrow(cell.config.policy.get("net_arch")))
    except ConfigError:
        try:
            # The message has the widths in it.
            _build(cell, env, cell.config.policy.get("net_arch"))
        except ConfigError as error:
            raise ConfigError(f"{cell}: {error}") from error


def _build(cell: Cell, env: "VecEnv", net_arch: Any) -> None:
    from snrl.runs.build import build_model

    algorithm = {**cell.config.algorithm, "buffer_size": _BUFFER}
    policy = {**cell.config.policy, "net_arch": net_arch}
    config = replace(cell.config, env=cell.task, device="cpu", algorithm=algorithm, policy=policy)
    build_model(config, env)


def _narrow(net_arch: Any) -> Any:
    """As many layers, of few units: alike where they were alike, which is all that is refused.

    Spectral normalisation begins with singular value decompositions, whose time grows with the
    third power of the width: seconds for a critic of 1024 units.
    """
    if isinstance(net_arch, Mapping):
        return {name: _narrow(widths) for name, widths in net_arch.items()}
    if net_arch is None:
        return None
    ranks = sorted(set(net_arch))
    return [_WIDTH + ranks.index(width) for width in net_arch]
