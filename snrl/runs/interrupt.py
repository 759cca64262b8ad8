"""Ctrl-C and SIGTERM as a request to stop, so that a run ends with its files complete."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from signal import Signals
from types import FrameType


@dataclass
class StopRequest:
    """Whether the run was asked to stop, and by which signal.

    Raising in a signal handler could leave weights or files half-written; a note that training
    looks at between steps cannot.
    """

    signal: Signals | None = None

    def __bool__(self) -> bool:
        """Tell whether a stop was requested."""
        return self.signal is not None


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Note SIGINT and SIGTERM while the block runs; further ones change nothing."""
    request = StopRequest()

    def note(number: int, _frame: FrameType | None) -> None:
        request.signal = request.signal or Signals(number)

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
