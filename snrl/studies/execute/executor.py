"""What the execution of a plan asks of the place where runs happen."""

from dataclasses import dataclass
from signal import Signals
from typing import Protocol

from snrl.studies.execute.process import Job


@dataclass(frozen=True)
class Ended:
    """A job has ended.

    Attributes:
        name: Of the job.
        code: Exit code of its process, negative for a signal; None if its node was lost.
        error: Why it could not be started, if it could not.
    """

    name: str
    code: int | None
    error: str | None = None

    @property
    def killed_by(self) -> str | None:
        """What ended it from outside, so that another try may succeed; None if nothing did."""
        if self.error is not None:
            return None
        if self.code is None:
            return "the loss of its node"
        # Negative where the process was killed by it, above 128 where it stopped because of it.
        number = -self.code if self.code < 0 else self.code - 128
        return Signals(number).name if number > 0 else None


class Executor(Protocol):
    """A place where runs happen: one process each, in the folder that its arguments name."""

    @property
    def at_once(self) -> int:
        """How many jobs run at once."""

    def has_room(self) -> bool:
        """Tell whether another job can be started now."""

    def start(self, job: Job) -> None:
        """Start a job."""

    def ended(self) -> list[Ended]:
        """Return the jobs that ended since the last call."""

    def ask_to_stop(self) -> None:
        """Ask all jobs to stop, which they do with their state saved."""

    def close(self) -> None:
        """End what is still running at once."""
