"""What is shown while a study runs: a live table on a terminal, else a line per event."""

import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from tqdm import tqdm

from snrl.studies.execute.running import RunningRun

if TYPE_CHECKING:
    from rich.table import Table

BIAS = "values/bias_mean"
RETURN = "eval/mean_reward"


@dataclass(frozen=True)
class Standing:
    """How a study stands.

    Attributes:
        running: Runs that an executor has.
        over: How many are over.
        failed: How many have failed.
        total: How many there are.
        lefts: Seconds that each running run has left.
        left: Seconds that the study has left.
        elapsed: Seconds since this execution began.
    """

    running: Sequence[RunningRun]
    over: int
    failed: int
    total: int
    lefts: Sequence[float]
    left: float
    elapsed: float

    def __str__(self) -> str:
        """The summary line."""
        running = sum(run.begun is not None for run in self.running)
        waiting = self.total - self.over - self.failed - running
        return (
            f"{self.over} of {self.total} runs done, {running} running, {self.failed} failed, "
            f"{waiting} waiting; {interval(self.elapsed)} elapsed, about {interval(self.left)} left"
        )


class View(AbstractContextManager["View"], Protocol):
    """Shows what happens."""

    def say(self, line: str) -> None:
        """Show an event."""

    def show(self, standing: Standing) -> None:
        """Show how the study stands."""


class LineView:
    """Lines on stderr: every event, and the standing now and then.

    Args:
        every: Seconds between two lines about the standing.
    """

    def __init__(self, every: float = 300.0) -> None:
        """Show nothing yet."""
        self._every = every
        self._shown = time.monotonic()

    def __enter__(self) -> Self:
        """Nothing is needed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left to do."""

    def say(self, line: str) -> None:
        """Print an event with its time."""
        print(f"[{time.strftime('%H:%M:%S')}] {line}", file=sys.stderr, flush=True)

    def show(self, standing: Standing) -> None:
        """Print the standing if the last time is long ago."""
        if time.monotonic() - self._shown >= self._every:
            self._shown = time.monotonic()
            self.say(str(standing))


class TableView:
    """A table on the terminal with a row per running run, and events above it.

    Args:
        rows: How many runs are shown at most.
    """

    def __init__(self, rows: int | None = None) -> None:
        """Take the terminal's height if ``rows`` is None."""
        from rich.console import Console
        from rich.live import Live

        self._console = Console(stderr=True)
        self._rows = rows or max(4, self._console.height - 8)
        # Its own thread would draw at any time, and most pictures would be the same.
        self._live = Live(console=self._console, auto_refresh=False)

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the last picture."""
        self._live.__exit__(kind, error, trace)

    def say(self, line: str) -> None:
        """Print an event above the table."""
        event = f"[{time.strftime('%H:%M:%S')}] {line}"
        self._live.console.print(event, markup=False, highlight=False)

    def show(self, standing: Standing) -> None:
        """Draw the table again."""
        self._live.update(_table(standing, self._rows), refresh=True)


def _table(standing: Standing, rows: int) -> "Table":
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, caption=str(standing), caption_justify="left", caption_style="")
    for name in ("task", "algorithm", "variant"):
        table.add_column(name, overflow="fold")
    for name in ("seed", "progress", "steps/s", "return", "bias", "ETA"):
        table.add_column(name, justify="right", no_wrap=True)
    begun = [
        (run, left)
        for run, left in zip(standing.running, standing.lefts, strict=True)
        if run.begun is not None
    ]
    for run, left in begun[:rows]:
        table.add_row(*_row(run, left))
    if len(begun) > rows:
        table.add_row(f"… {len(begun) - rows} more")
    return table


def _row(running: RunningRun, left: float) -> list[Any]:
    from rich.text import Text

    cell = running.run.cell
    speed = running.speed
    values = [running.follower.value(key) for key in (RETURN, BIAS)]
    return [
        Text(cell.task),
        cell.algorithm,
        Text(cell.variant),
        str(running.run.seed),
        f"{running.progress:.0%}",
        "" if speed is None else f"{speed:.0f}",
        *("" if value is None else f"{value:.4g}" for value in values),
        interval(left),
    ]


def interval(seconds: float) -> str:
    """Return a time as hours, minutes and seconds."""
    return str(tqdm.format_interval(seconds))


def make_view() -> View:
    """Return the table where stderr is a terminal, else lines."""
    return TableView() if sys.stderr.isatty() else LineView()
