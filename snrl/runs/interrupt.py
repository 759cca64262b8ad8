"""Ctrl-C and SIGTERM as a request to stop, so that a run ends with its files complete."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from signal import Signals
from types import FrameType

# How long what is under way may take to come to its end; then it is abandoned.
_GRACE = 5.0


@dataclass
class StopRequest:
    """Whether the run was asked to stop, and by which signal.

    Raising in a signal handler could leave weights or files half-written; a note that training
    looks at between steps cannot.
    """

    signal: Signals | None = None
    since: float = 0.0

    def __bool__(self) -> bool:
        """Tell whether a stop was requested."""
        return self.signal is not None

    @property
    def is_overdue(self) -> bool:
        """Whether it was requested so long ago that nothing is worth waiting for."""
        return self.signal is not None and time.monotonic() - self.since > _GRACE


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Note SIGINT and SIGTERM while the block runs; further ones change nothing."""
    request = StopRequest()

    def note(number: int, _frame: FrameType | None) -> None:
        if not request:
            request.since = time.monotonic()
            request.signal = Signals(number)

    if threading.current_thread() is not threading.main_thread():
        # Python lets only the main thread handle signals.
        yield request
        return
    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
