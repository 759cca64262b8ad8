"""How far a run is, read from its folder: nothing of a run is imported or asked."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snrl.runs.folder import RunFolder

_STEPS = "time/total_timesteps"


@dataclass(frozen=True)
class RunState:
    """What ``status.json`` says.

    Attributes:
        status: Running, done, interrupted or failed; ``"new"`` where there is none.
        reason: Why, for the last two.
        timesteps: Environment steps at that moment.
        seconds: What the run has taken so far, where it says so.
        diverged: Whether it ended because its values diverged, which is a result.
    """

    status: str = "new"
    reason: str | None = None
    timesteps: int = 0
    seconds: float | None = None
    diverged: bool = False

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to do."""
        return self.status == "done" or self.diverged


def read_state(folder: Path) -> RunState:
    """Read how a run stands; one whose status is missing or unreadable is new."""
    content = RunFolder(folder).read_status()
    status, reason = content.get("status", "new"), content.get("reason")
    return RunState(
        status,
        reason,
        int(content.get("timesteps") or 0),
        content.get("seconds"),
        status == "failed" and str(reason).startswith("diverged"),
    )


@dataclass
class Follower:
    """Follows a run's growing log, reading each byte of it once.

    Attributes:
        folder: The run folder.
        timesteps: Environment steps at the last row.
        latest: The last value of every logger key.
    """

    folder: Path
    timesteps: int = 0
    latest: dict[str, Any] = field(default_factory=dict)
    _read: int = 0

    def update(self) -> bool:
        """Read what was added since the last call; tell whether there was anything."""
        log = RunFolder(self.folder).progress
        try:
            size = log.stat().st_size
            if size < self._read:
                # A run that goes on from a checkpoint drops the rows after it.
                self._read = 0
            if size == self._read:
                return False
            with log.open("rb") as file:
                file.seek(self._read)
                added = file.read()
        except OSError:
            return False
        # The last line may be half-written.
        whole = added[: added.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            self._take(line)
        return bool(whole)

    def _take(self, line: bytes) -> None:
        try:
            row = json.loads(line)
        except ValueError:
            return
        if isinstance(row, Mapping):
            self.latest.update(row)
            self.timesteps = int(row.get(_STEPS, self.timesteps))

    def value(self, key: str) -> float | None:
        """Return the last value of a key, if it is a number."""
        value = self.latest.get(key)
        return float(value) if isinstance(value, (int, float)) else None
