"""The run folder: its files, and how they appear whole or not at all."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from snrl.runs.config import RunConfig
from snrl.runs.errors import ConfigError
from snrl.runs.lock import locked, unlock
from snrl.runs.stabilizers import PLAIN

# Of what a run folder holds. Whoever reads one refuses those of a version that it does not know; a
# folder that names none has the first.
FORMAT = 1


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run's files."""

    path: Path

    @property
    def config(self) -> Path:
        """Resolved configuration, enough to run it again."""
        return self.path / "config.yaml"

    @property
    def status(self) -> Path:
        """Running, done, interrupted or failed, and why."""
        return self.path / "status.json"

    @property
    def evaluations(self) -> Path:
        """Evaluations, in the format of SB3's ``EvalCallback``."""
        return self.path / "evaluations.npz"

    @property
    def model(self) -> Path:
        """The model at the end of the run."""
        return self.path / "model.zip"

    @property
    def best_model(self) -> Path:
        """The model with the highest evaluated return."""
        return self.path / "best_model.zip"

    @property
    def progress(self) -> Path:
        """SB3's JSON-lines log; the one file that grows, a line at a time."""
        return self.path / "progress.json"

    @property
    def checkpoint(self) -> Path:
        """What a run that was killed goes on from."""
        return self.path / "checkpoint"

    def read_status(self) -> dict[str, Any]:
        """Read ``status.json``; nothing where it is missing or damaged."""
        try:
            status = json.loads(self.status.read_bytes())
        except (OSError, ValueError):
            return {}
        return status if isinstance(status, dict) else {}

    @property
    def is_newer(self) -> bool:
        """Whether a version of this library wrote it whose folders this one does not know."""
        version = self.read_status().get("format", FORMAT)
        return not isinstance(version, int) or version > FORMAT

    def write_status(self, status: Mapping[str, Any]) -> None:
        """Replace ``status.json``."""
        with written_aside(self.status) as aside:
            content = {"format": FORMAT, **status}
            aside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give a file in the same folder to write, and rename it to ``path`` once it is complete.

    It keeps the suffix, because ``np.savez`` and SB3's ``save`` append theirs where it is missing.
    """
    aside = path.with_name(f".{path.stem}.partial{path.suffix}")
    aside.unlink(missing_ok=True)  # left by a process that was killed
    try:
        yield aside
        # A rename can reach the disk before the data that it names.
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def check_free(out: Path) -> None:
    """Refuse a folder that holds a run, before any work is done for it.

    Raises:
        ConfigError: If ``out`` holds a run or is no folder.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is not a folder")
    folder = RunFolder(out)
    files = (folder.status, folder.config, folder.progress, folder.evaluations)
    if any(file.exists() for file in (*files, folder.model, folder.best_model)):
        raise ConfigError(f"--out {out} holds another run")


@contextmanager
def opened(
    out: Path | None, config: RunConfig, status: Mapping[str, Any], *, resume: bool = False
) -> Iterator[RunFolder]:
    """Hold a run folder for this process while the block runs.

    It is created, with its configuration and first status, unless it holds a run to be resumed.

    Args:
        out: The folder; None for :func:`default_path`, with a number appended where that is taken.
        config: Goes to ``config.yaml``.
        status: Goes to ``status.json``.
        resume: Whether it may hold a run already, which then stays as it is.

    Yields:
        The folder.

    Raises:
        ConfigError: If the folder holds a run, is in use by another process, or cannot be written;
            nothing is left of it then.
    """
    path = out or default_path(config)
    with ExitStack() as held:
        try:
            if out is None:
                path, made = _make_unique(path), True
            else:
                if not resume:
                    check_free(out)
                made = not out.exists()
                out.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(path))
            folder = RunFolder(path)
            if not (resume and folder.config.exists()):
                _fill(folder, config, status, made)
        except OSError as error:
            raise ConfigError(f"cannot write the run folder {path}: {error.strerror}") from error
        yield folder


def _fill(folder: RunFolder, config: RunConfig, status: Mapping[str, Any], made: bool) -> None:
    try:
        folder.write_status(status)
        with written_aside(folder.config) as aside:
            content = yaml.safe_dump(config.as_dict(), sort_keys=False)
            aside.write_text(content, encoding="utf-8")
    except BaseException:
        folder.status.unlink(missing_ok=True)
        if made:
            unlock(folder.path)
            folder.path.rmdir()
        raise


def task_folder(env: str) -> str:
    """Return the name that folders of a task have: without its module and its slashes."""
    return env.split(":")[-1].replace("/", "_")


def default_path(config: RunConfig) -> Path:
    """The folder of a run without one: ``runs/<algo>[-<critic>]/<env>/seed<seed>``."""
    kind = config.algo if config.composition == PLAIN else f"{config.algo}-{config.composition}"
    return Path("runs", kind, task_folder(config.env), f"seed{config.seed}")


def _make_unique(path: Path) -> Path:
    number, candidate = 1, path
    while True:
        try:
            # Making the folder is what claims it, should two runs start at once.
            candidate.mkdir(parents=True)
        except FileExistsError:
            number += 1
            candidate = path.with_name(f"{path.name}-{number}")
        else:
            return candidate
