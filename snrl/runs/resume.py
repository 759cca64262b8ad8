"""What a run folder holds of a run, and what of it a run goes on from."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from snrl.runs.checkpoint.generations import Generation, Generations
from snrl.runs.config import RunConfig
from snrl.runs.errors import ConfigError
from snrl.runs.folder import RunFolder, check_free
from snrl.runs.hyperparameters import options
from snrl.runs.result import RunResult, result_from
from snrl.runs.tracking import note, warn

_STEP = "time/total_timesteps"


@dataclass(frozen=True)
class Resumed:
    """Where a run goes on.

    Attributes:
        generations: The folder's checkpoints.
        generation: The one to go on from; None for a run that begins.
        logged: The last step that was logged, before or after that checkpoint; -1 for none.
    """

    generations: Generations
    generation: Generation | None = None
    logged: int = -1

    @property
    def timesteps(self) -> int:
        """Environment steps done at that checkpoint."""
        return self.generation.content["timesteps"] if self.generation else 0


def ended(out: Path, config: RunConfig) -> RunResult | None:
    """Look at a folder before any work is done for it.

    Args:
        out: The folder.
        config: The run that is to go on there.

    Returns:
        How the run ended, if it did; None if it goes on or begins.

    Raises:
        ConfigError: If the folder holds another run, or something else.
    """
    folder = RunFolder(out)
    if not folder.config.is_file():
        # A run that was killed as it began has a status at most.
        if not (folder.status.exists() and out.is_dir()):
            check_free(out)
        return None
    if folder.is_newer:
        raise ConfigError(f"{out} was written by a newer version of snrl; upgrade to go on there")
    if changes := _changes(folder.config, config):
        raise ConfigError(f"{out} holds a run of another configuration: {'; '.join(changes)}")
    return result_from(folder.read_status(), config, folder)


def go_on(folder: RunFolder) -> Resumed:
    """Find what a run goes on from, and bring its log there.

    Where no checkpoint is whole, the run begins anew, and the files that there are go to a folder
    ``set-aside-<number>`` in the run's.

    Args:
        folder: Held by this process.

    Returns:
        Where the run goes on.

    Raises:
        ConfigError: If a newer version of this library wrote its checkpoint.
    """
    generations = Generations(folder.checkpoint)
    logged = _last_step(folder.progress)
    generation = generations.newest_whole(warn)
    if generation is None:
        if not generations.is_empty():
            aside = _set_aside(folder)
            warn(f"no checkpoint is whole: the run begins anew; what there was is in {aside}")
        return Resumed(Generations(folder.checkpoint), logged=logged)
    size, log = generation.content["log"], folder.progress
    if not log.exists() or log.stat().st_size < size:
        warn(f"{log} has lost lines since the checkpoint was written; the run goes on without them")
    else:
        os.truncate(log, size)
    note(f"the run goes on after {generation.content['timesteps']} steps")
    return Resumed(generations, generation, logged)


def _changes(path: Path, config: RunConfig) -> list[str]:
    """What differs from a run's ``config.yaml``; what that lacks counts as its default."""
    try:
        was = yaml.safe_load(path.read_bytes())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read") from error
    if not isinstance(was, Mapping):
        raise ConfigError(f"{path} is not the configuration of a run")
    given: dict[str, Any] = yaml.safe_load(yaml.safe_dump(config.as_dict(), sort_keys=False))
    defaults = {key: option.default for key, option in options(config.algo).items()}
    old = {key: was.get(key, defaults.get(key)) for key in given}
    unknown = was.keys() - given.keys() - defaults.keys() if old["algo"] == given["algo"] else ()
    return [
        *(f"{key}: {old[key]} -> {given[key]}" for key in given if old[key] != given[key]),
        *(f"{key}: {was[key]} -> unknown" for key in sorted(unknown)),
    ]


def _last_step(log: Path) -> int:
    """The last step of a log whose last line may be half written."""
    last = -1
    try:
        lines = log.read_bytes().splitlines()
    except OSError:
        return last
    for line in lines:
        try:
            last = max(last, int(json.loads(line)[_STEP]))
        except (ValueError, KeyError, TypeError):
            continue
    return last


def _set_aside(folder: RunFolder) -> Path:
    number = 1
    while (aside := folder.path / f"set-aside-{number}").exists():
        number += 1
    aside.mkdir()
    files = (folder.progress, folder.evaluations, folder.model, folder.best_model)
    for path in (folder.checkpoint, *files, folder.path / "tensorboard"):
        if path.exists():
            path.rename(aside / path.name)
    return aside
