"""What is known of one run, wherever it was read from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

UNKNOWN = "unknown"


class Series(NamedTuple):
    """One measure of one run.

    Attributes:
        timesteps: Environment steps, shape ``(n,)``, int64, as they were logged.
        values: Shape ``(n,)``, float64; NaN where NaN was logged.
    """

    timesteps: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass
class Record:
    """One run.

    Attributes:
        task: Gymnasium id, without the module that registers it.
        algo: Lower case, such as ``"sac"``.
        variant: What sets the run apart from others of its task and algorithm; None while it is to
            be told from the other runs.
        seed: None if it is not known.
        status: ``"done"``, ``"running"``, ``"interrupted"``, ``"failed"`` or ``"unknown"``.
        reason: Why it is interrupted or failed.
        timesteps: Environment steps done, as far as the files tell.
        total_timesteps: Environment steps planned; None if they are not known.
        command: The command line of the run; None if it noted none.
        critic: What the critics are composed of, such as ``"plain"`` or ``"sn+layer_norm"``.
        config: The configuration, by name.
        series: By measure.
    """

    task: str = UNKNOWN
    algo: str = UNKNOWN
    variant: str | None = None
    seed: int | None = None
    status: str = UNKNOWN
    reason: str | None = None
    timesteps: int = 0
    total_timesteps: int | None = None
    command: str | None = None
    critic: str = UNKNOWN
    config: Mapping[str, Any] = field(default_factory=dict)
    series: dict[str, Series] = field(default_factory=dict)

    def add(self, series: Mapping[str, Series]) -> None:
        """Add measures, unless a better source has given them, and count the steps they reach."""
        self.series |= {name: found for name, found in series.items() if name not in self.series}
        reached = (int(found.timesteps.max()) for found in series.values() if found.timesteps.size)
        self.timesteps = max(self.timesteps, *reached, 0)


class Notices:
    """What had to be skipped, once per file: a line each."""

    def __init__(self) -> None:
        """Begin with none."""
        self._said: dict[str, str] = {}

    def say(self, path: object, message: str) -> None:
        """Keep a line, unless there is one for the file."""
        self._said.setdefault(str(path), message)

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines, in the order of their saying."""
        return tuple(f"{path}: {message}" for path, message in self._said.items())
