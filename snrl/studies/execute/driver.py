"""The execution of a plan: every run to its end, whatever ends in between.

A run that was killed from outside (a signal, a lost node) is started again and goes on from its
checkpoint, as long as it gets further. One that fails by itself costs one run: the others go on,
and the next call tries it again.
"""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from signal import Signals

from snrl.runs.interrupt import StopRequest, stop_on_signals
from snrl.runs.lock import is_locked
from snrl.runs.words import counted
from snrl.studies.estimate import Rates, total
from snrl.studies.execute.executor import Ended, Executor
from snrl.studies.execute.process import Job, last_line
from snrl.studies.execute.running import RunningRun, log_of
from snrl.studies.execute.view import BIAS, RETURN, Standing, View, interval
from snrl.studies.plan import Plan, PlannedRun
from snrl.studies.run_state import RunState, read_state

# Seconds between two questions whether a run has ended, and between two looks into run folders.
_TICK = 0.1
_LOOK = 1.0
# Times that a run is started again without getting further.
_TRIES = 5
# What a run may take to save its state before it is killed.
_GRACE = 300.0


@dataclass
class Outcome:
    """How an execution ended.

    Attributes:
        over: How many runs are over.
        failed: Why, by name of the runs that have failed.
        signal: What stopped it, if it was stopped.
    """

    over: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    signal: Signals | None = None


@dataclass
class _Tries:
    """How often a run was started without getting further than its best."""

    best: int = -1
    count: int = 0


class Driver:
    """Does the runs of a plan that are not over.

    Args:
        plan: The runs.
        executor: Where they happen.
        view: Shows what happens.
        rates: What is known of their speed; it learns.
    """

    def __init__(self, plan: Plan, executor: Executor, view: View, rates: Rates) -> None:
        """Read which runs are over."""
        self._plan = plan
        self._executor = executor
        self._view = view
        self._rates = rates
        self._waiting = deque(run for run in plan.runs if not read_state(run.folder).is_over)
        self._running: dict[str, RunningRun] = {}
        self._tries: dict[str, _Tries] = {}
        self._outcome = Outcome(over=len(plan.runs) - len(self._waiting))
        self._start = self._next_look = time.monotonic()

    def execute(self) -> Outcome:
        """Do the runs; SIGINT and SIGTERM stop them with their state saved.

        Returns:
            How it ended.
        """
        with stop_on_signals() as stop:
            while (self._waiting or self._running) and not stop:
                self._fill()
                self._look()
                time.sleep(_TICK)
            if stop:
                self._stop(stop)
        return self._outcome

    def _fill(self) -> None:
        """Start runs while there is room, but none that a process is still at work on.

        Such a process was left behind where the one that had started it could not end it.
        """
        busy = []
        while self._waiting and self._executor.has_room():
            run = self._waiting.popleft()
            if is_locked(run.folder):
                busy.append(run)
            else:
                self._begin(run)
        self._waiting.extendleft(reversed(busy))

    def _begin(self, run: PlannedRun) -> None:
        self._running[str(run)] = RunningRun(run)
        self._executor.start(Job(str(run), run.arguments, run.command, log_of(run)))

    def _look(self) -> None:
        for ended in self._executor.ended():
            self._take(ended)
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK
        for running in self._running.values():
            was_waiting = running.begun is None
            running.update()
            if was_waiting and running.begun is not None:
                self._view.say(f"started {running.run}")
        self._view.show(self._standing())

    def _take(self, ended: Ended) -> None:
        running = self._running.pop(ended.name)
        running.update()
        run, state = running.run, read_state(running.run.folder)
        self._rates.add(run.cell, *running.done)
        if state.is_over:
            self._outcome.over += 1
            self._view.say(self._end(running, state))
        elif ended.killed_by is not None and self._may_try_again(running):
            self._view.say(f"started again {run}: {ended.killed_by} had ended it")
            self._waiting.appendleft(run)
        elif ended.code and is_locked(run.folder):
            self._view.say(f"waiting {run}: another process is at work on it")
            self._waiting.append(run)
        else:
            why = ended.error or ended.killed_by or last_line(log_of(run))
            self._outcome.failed[str(run)] = why
            self._view.say(f"failed {run}: {why}")

    def _may_try_again(self, running: RunningRun) -> bool:
        tries = self._tries.setdefault(str(running.run), _Tries())
        if running.follower.timesteps > tries.best:
            tries.best, tries.count = running.follower.timesteps, 0
        tries.count += 1
        return tries.count < _TRIES

    def _end(self, running: RunningRun, state: RunState) -> str:
        how = state.reason if state.diverged else "done"
        names: Mapping[str, str] = {RETURN: "return", BIAS: "bias"}
        values = [
            f"{name} {value:.4g}"
            for key, name in names.items()
            if (value := running.follower.value(key)) is not None
        ]
        values.append(f"{state.timesteps} steps")
        number = f"{self._outcome.over} of {len(self._plan.runs)}"
        return f"{how} {running.run}: {', '.join(values)} ({number})"

    def _standing(self) -> Standing:
        lefts = [running.left(self._seconds(running.run)) for running in self._running.values()]
        waiting = [self._seconds(run) for run in self._waiting]
        return Standing(
            list(self._running.values()),
            self._outcome.over,
            len(self._outcome.failed),
            len(self._plan.runs),
            lefts,
            total(lefts + waiting, self._executor.at_once),
            time.monotonic() - self._start,
        )

    def _seconds(self, run: PlannedRun) -> float:
        return self._rates.seconds(run.cell, run.total_timesteps, self._plan.study.cells)

    def _stop(self, stop: StopRequest) -> None:
        """Wait until all have saved their state; a second signal ends the waiting."""
        self._outcome.signal = stop.signal
        begun = [running for running in self._running.values() if running.begun is not None]
        if begun:
            self._view.say(
                f"stopping: waiting for {counted(len(begun), 'run')} to save the state, at most "
                f"{interval(_GRACE)} (Ctrl-C again kills)"
            )
        self._executor.ask_to_stop()
        deadline = time.monotonic() + _GRACE
        with stop_on_signals() as again:
            while self._running and not again and time.monotonic() < deadline:
                for ended in self._executor.ended():
                    self._running.pop(ended.name)
                time.sleep(0.1)
