"""A run under way, as the study's process sees it: how far, how fast, how long still."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from snrl.studies.plan import PlannedRun
from snrl.studies.run_state import Follower


def log_of(run: PlannedRun) -> Path:
    """Return the file that takes what a run prints."""
    return run.folder / "run.log"


@dataclass
class RunningRun:
    """A run that an executor has.

    Attributes:
        run: Which.
        follower: Reads its log.
        begun: When its process started, by the monotonic clock; None while it waits for a place.
    """

    run: PlannedRun
    follower: Follower = field(init=False)
    begun: float | None = None
    _log_size: int = field(init=False)
    _first: int = field(init=False)
    _last: tuple[float, int] | None = None

    def __post_init__(self) -> None:
        """Read where the run stands."""
        self.follower = Follower(self.run.folder)
        self.follower.update()
        self._first = self.follower.timesteps
        self._log_size = _size(log_of(self.run))

    def update(self) -> None:
        """Read what is new."""
        now = time.monotonic()
        if self.begun is None:
            if _size(log_of(self.run)) == self._log_size:
                return
            self.begun = now
        if self.follower.update():
            # A run that goes on from a checkpoint begins before where its log had ended.
            self._first = min(self._first, self.follower.timesteps)
            self._last = (now, self.follower.timesteps)

    @property
    def progress(self) -> float:
        """The share that is done."""
        return self.follower.timesteps / self.run.total_timesteps

    @property
    def done(self) -> tuple[int, float]:
        """Steps that were done, and the seconds they took, since its process started."""
        if self._last is None or self.begun is None:
            return 0, 0.0
        return self._last[1] - self._first, self._last[0] - self.begun

    @property
    def speed(self) -> float | None:
        """Steps per second since its process started, if it has said anything."""
        steps, seconds = self.done
        return steps / seconds if steps > 0 and seconds > 0 else None

    def left(self, guess: float) -> float:
        """Return how many seconds are left.

        Args:
            guess: Seconds for the whole run, where it has not said anything yet.
        """
        if self.begun is None:
            return guess * (1 - self.progress)
        now = time.monotonic()
        if self.speed is None or self._last is None:
            return max(0.0, guess * (1 - self.progress) - (now - self.begun))
        steps = self.run.total_timesteps - self.follower.timesteps
        return max(0.0, steps / self.speed - (now - self._last[0]))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
