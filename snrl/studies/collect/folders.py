"""Run folders: where they are below a folder, and what each kind of them tells."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from snrl.runs.folder import FORMAT, RunFolder
from snrl.runs.stabilizers import PLAIN, composition
from snrl.studies.collect.documents import read_json, read_yaml
from snrl.studies.collect.logs import (
    read_csv,
    read_evaluations,
    read_json_lines,
    read_monitors,
)
from snrl.studies.collect.record import UNKNOWN, Notices, Record

STUDY = "study.yaml"

Reader = Callable[[Path, Notices], Record | None]

_ALGORITHMS = frozenset(("a2c", "crossq", "ddpg", "dqn", "ppo", "sac", "td3", "tqc", "trpo"))
_SEED = re.compile(r"(?:^|[^a-z])s(?:eed)?[-_=]?(\d+)(?:$|[^0-9])", re.IGNORECASE)


def find(root: Path) -> Iterator[tuple[Path, Path | None, Reader]]:
    """Find the run folders below a folder, itself included; links are not followed.

    Yields:
        A run folder, the study it belongs to if there is one, and what reads it. Nothing below a
        run folder is another run.
    """
    study: Path | None = None
    for name, folders, files in os.walk(root):
        path = Path(name)
        if STUDY in files:
            study = path
        elif reader := _reader(path, folders, files):
            folders.clear()
            inside = study is not None and path.is_relative_to(study)
            yield path, study if inside else None, reader
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))


def _reader(path: Path, folders: list[str], files: list[str]) -> Reader | None:
    if "status.json" in files or {"config.yaml", "progress.json"} <= set(files):
        return read_snrl
    if any((path / name / "args.yml").is_file() for name in folders):
        return read_zoo
    logs = {"evaluations.npz", "progress.csv", "progress.json"}
    if logs & set(files) or any(name.endswith("monitor.csv") for name in files):
        return read_sb3
    return None


def read_snrl(path: Path, notices: Notices) -> Record | None:
    """Read a run folder of ``snrl.run``; None, with a notice, if a newer version wrote it."""
    folder = RunFolder(path)
    status = read_json(folder.status, notices)
    if folder.is_newer:
        notices.say(
            path,
            f"skipped, has format {status['format']} of a newer snrl; this one reads up to "
            f"{FORMAT}: upgrade snrl",
        )
        return None
    config = read_yaml(folder.config, notices)
    command = status.get("command")
    record = Record(
        task=task_name(config.get("env")),
        algo=str(config.get("algo", UNKNOWN)),
        seed=_integer(config.get("seed")),
        status=str(status.get("status", UNKNOWN)),
        reason=status.get("reason"),
        timesteps=_integer(status.get("timesteps")) or 0,
        total_timesteps=_integer(config.get("total_timesteps")),
        command=command if isinstance(command, str) and command else None,
        critic=_critic(config),
        config=config,
    )
    record.add(read_evaluations(folder.evaluations, notices))
    record.add(read_json_lines(folder.progress, notices))
    return record


def read_sb3(path: Path, notices: Notices) -> Record:
    """Read a folder in which SB3's ``EvalCallback``, ``Monitor`` or logger has written.

    The algorithm and the seed are read off the path, as far as it tells them; the task off a
    ``monitor.csv``. ``evaluations.npz`` may lie in a folder below.
    """
    record = Record(algo=_algorithm(path), seed=_seed(path))
    evaluations = [path / "evaluations.npz", *sorted(path.glob("*/evaluations.npz"))]
    for file in evaluations:
        record.add(read_evaluations(file, notices))
    record.add(read_json_lines(path / "progress.json", notices))
    record.add(read_csv(path / "progress.csv", notices))
    series, task = read_monitors(sorted(path.glob("*monitor.csv")), notices)
    record.add(series)
    record.task = task_name(task)
    record.variant = _variant_of_path(path)
    return record


def read_zoo(path: Path, notices: Notices) -> Record:
    """Read a folder of RL Zoo, ``<logs>/<algo>/<env>_<n>``."""
    (parameters, *_) = sorted(file.parent for file in path.glob("*/args.yml"))
    arguments = read_yaml(parameters / "args.yml", notices)
    config = read_yaml(parameters / "config.yml", notices)
    total = _integer(arguments.get("n_timesteps"))
    if total is None or total < 1:
        total = _integer(config.get("n_timesteps"))
    policy = str(config.get("policy", ""))
    record = Record(
        task=task_name(arguments.get("env", parameters.name)),
        algo=str(arguments.get("algo", _algorithm(path))),
        seed=_integer(arguments.get("seed")),
        total_timesteps=total,
        critic=composition(policy.startswith(("snrl.", "SN")), PLAIN) if policy else UNKNOWN,
        config=config,
    )
    record.add(read_evaluations(path / "evaluations.npz", notices))
    record.add(read_json_lines(path / "progress.json", notices))
    record.add(read_csv(path / "progress.csv", notices))
    series, _ = read_monitors(sorted(path.glob("*monitor.csv")), notices)
    record.add(series)
    if total is not None and record.timesteps >= total:
        record.status = "done"
    return record


def task_name(name: Any) -> str:
    """The id of a task without the module that registers it, which ``module:id`` names."""
    return str(name).split(":")[-1] if name else UNKNOWN


def _critic(config: Mapping[str, Any]) -> str:
    # The first configurations had no other critic than SN.
    sn, critic = config.get("sn"), config.get("critic", PLAIN)
    return composition(sn, str(critic)) if isinstance(sn, bool) else UNKNOWN


def _integer(value: Any) -> int | None:
    try:
        return int(float(value))
    except (TypeError, ValueError, OverflowError):
        return None


def _algorithm(path: Path) -> str:
    words = (word for part in reversed(path.parts) for word in re.split(r"[-_. ]", part))
    return next((word.lower() for word in words if word.lower() in _ALGORITHMS), UNKNOWN)


def _seed(path: Path) -> int | None:
    found = _SEED.search(path.name)
    return int(found[1]) if found else None


def _variant_of_path(path: Path) -> str:
    """The path's last part that is neither seed nor number nor algorithm."""
    for part in reversed(path.parts):
        rest = re.sub(r"[-_. ]*\d+$", "", _SEED.sub("", part)).strip("-_. ")
        if rest and rest.lower() not in _ALGORITHMS:
            return rest
    return "plain"
