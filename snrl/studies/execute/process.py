"""The process of a run: its command, its environment, its log, and its end.

Only the standard library is used here: on a Ray cluster this file is sent to the nodes as it is.
"""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Every library that brings threads of its own reads one of these.
_THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

# Becomes the command, which the kernel kills when its parent dies, however that dies; option 1 is
# PR_SET_PDEATHSIG. The parent may be gone already when that is set.
_TIED = """
import ctypes, os, signal, sys
parent, *command = sys.argv[1:]
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(parent):
    sys.exit("the study's process has ended")
os.execv(command[0], command)
"""


@dataclass(frozen=True)
class Job:
    """What an executor has to do.

    Attributes:
        name: Of the run.
        arguments: Of ``python -m snrl.run``.
        command: The command line, for the log.
        log: Takes what the process prints.
    """

    name: str
    arguments: Sequence[str]
    command: str
    log: Path


def threads_environment(threads: int) -> Mapping[str, str]:
    """Return the variables that hold a process to so many threads."""
    return dict.fromkeys(_THREADS, str(threads)) | {"PYTHONUNBUFFERED": "1"}


def start(job: Job, threads: int) -> "subprocess.Popen[bytes]":
    """Start a run.

    It has a session of its own, so that Ctrl-C on a terminal reaches the study alone. On Linux it
    dies with the thread that calls this.

    Args:
        job: The run.
        threads: Threads it may use.

    Returns:
        The process; what it prints is appended to the log, below a line with the command.

    Raises:
        OSError: If the log cannot be written.
    """
    command = [sys.executable, "-m", "snrl.run", *job.arguments]
    if sys.platform == "linux":
        # Not preexec_fn, which may deadlock where there are threads.
        command = [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *command]
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("ab") as log:
        begun = time.strftime("%Y-%m-%d %H:%M:%S")
        log.write(f"[{begun}] {job.command}\n".encode())
        log.flush()
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **threads_environment(threads)},
            start_new_session=True,
        )


def last_line(log: Path) -> str:
    """Return the last line that a run printed, where an error says what was wrong."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return "it wrote no log"
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if said else "it printed nothing"


def run_to_end(job: Job, threads: int) -> int:
    """Do a run and wait for it; when interrupted, ask it to stop and wait for that.

    Args:
        job: The run.
        threads: Threads it may use.

    Returns:
        The exit code of its process; negative for a signal.
    """
    running = start(job, threads)
    # A blocking wait would keep Ray's interrupt from being seen.
    while True:
        try:
            while running.poll() is None:
                time.sleep(0.2)
            return running.returncode
        except KeyboardInterrupt:
            running.terminate()
