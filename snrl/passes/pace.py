"""How many threads are worth their waking, found while training goes on."""

_SLOW = 1.3
# Odd, as work may come in turns.
_SOON, _LATER = 51, 501


class Pace:
    """Chooses between one thread and all, by the time that steps have taken.

    All threads wait for the slowest at the end of every phase: where another process wants a core
    too, one thread alone may be several times as fast as two. Nothing but time depends on the
    choice.
    """

    def __init__(self) -> None:
        """Begin with all threads."""
        self._times: dict[int, float] = {}
        self._calls = self._ask_at = 0

    def choose(self, threads: int) -> int:
        """Choose for the next call, out of one and ``threads``."""
        self._calls += 1
        if threads == 1 or threads not in self._times:
            return threads
        if self._calls < self._ask_at:
            return self._best(threads)
        self._ask_at = self._calls + _LATER
        return 1 if self._best(threads) == threads else threads

    def took(self, threads: int, seconds: float) -> None:
        """Take note of how long a step took with as many threads."""
        before = self._times.get(threads)
        if before is None:
            self._ask_at = self._calls + _SOON
        elif threads == min(self._times, key=self._times.__getitem__):
            if seconds > _SLOW * before:
                self._ask_at = min(self._ask_at, self._calls + _SOON)
            # A single step may be slow by chance.
            seconds = before + 0.2 * (seconds - before)
        self._times[threads] = seconds

    def _best(self, threads: int) -> int:
        return min((1, threads), key=lambda count: self._times.get(count, float("inf")))
