"""One process at a time in a run folder, by a lock that ends with the process that holds it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from snrl.runs.errors import ConfigError

_NAME = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, of a run or of a study, while the block runs.

    Args:
        folder: It gains a file that stays, whether the lock is held or not.

    Raises:
        ConfigError: If another process holds it, or the file cannot be made.
    """
    try:
        file = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error.strerror}") from error
    try:
        if not _take(file):
            raise _in_use(folder)
        yield
    finally:
        os.close(file)


def check_unlocked(folder: Path) -> None:
    """Refuse a folder that another process holds, and leave it to others if none does.

    Raises:
        ConfigError: If one does.
    """
    if is_locked(folder):
        raise _in_use(folder)


def unlock(folder: Path) -> None:
    """Remove the lock's file from a folder that is about to be removed."""
    (folder / _NAME).unlink(missing_ok=True)


def is_locked(folder: Path) -> bool:
    """Tell whether a process is at work in a run folder; "running" without one has been killed."""
    try:
        file = os.open(folder / _NAME, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _take(file)
    finally:
        os.close(file)


def _in_use(folder: Path) -> ConfigError:
    return ConfigError(f"{folder} is in use by another process")


def _take(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
