"""Runs on this machine."""

import os
import signal
import subprocess
from contextlib import suppress

from snrl.studies.execute.executor import Ended
from snrl.studies.execute.process import Job, start


def available_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class LocalExecutor:
    """Up to ``jobs`` processes at once.

    Args:
        jobs: How many at once.
        threads: Threads of each.
    """

    def __init__(self, jobs: int, threads: int) -> None:
        """Start with none."""
        self._jobs = jobs
        self._threads = threads
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._refused: list[Ended] = []

    def __str__(self) -> str:
        """What it is, for the user."""
        threads = f"{self._threads} thread{'s' * (self._threads > 1)}"
        return f"{self._jobs} at once on this machine, {threads} each"

    @property
    def at_once(self) -> int:
        """How many jobs run at once."""
        return self._jobs

    def has_room(self) -> bool:
        """Tell whether another job can be started now."""
        return len(self._processes) < self._jobs

    def start(self, job: Job) -> None:
        """Start a job."""
        try:
            self._processes[job.name] = start(job, self._threads)
        except OSError as error:
            self._refused.append(Ended(job.name, 1, str(error)))

    def ended(self) -> list[Ended]:
        """Return the jobs that ended since the last call."""
        codes = {name: process.poll() for name, process in self._processes.items()}
        refused, self._refused = self._refused, []
        over = [Ended(name, code) for name, code in codes.items() if code is not None]
        for end in over:
            del self._processes[end.name]
        return refused + over

    def ask_to_stop(self) -> None:
        """Send SIGTERM to all."""
        for process in self._processes.values():
            process.terminate()

    def close(self) -> None:
        """Kill what is still running, with the processes that it has started."""
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()
