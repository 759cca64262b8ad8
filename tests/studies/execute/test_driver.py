"""What becomes of runs, however they end: with an executor whose jobs end as a test says."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from snrl.runs.lock import locked
from snrl.studies.definition import load_study
from snrl.studies.estimate import Rates
from snrl.studies.execute import driver
from snrl.studies.execute.driver import Driver, Outcome
from snrl.studies.execute.executor import Ended
from snrl.studies.execute.process import Job
from snrl.studies.execute.view import LineView
from snrl.studies.plan import Plan

Write = Callable[..., Path]
End = Callable[[Job], Ended]


class Scripted:
    """An executor whose jobs do at once what a script says, and end."""

    at_once = 2

    def __init__(self, *ends: End) -> None:
        self.script: Iterator[End] = iter(ends)
        self.started: list[str] = []
        self.asked = False
        self._ended: list[Ended] = []

    def has_room(self) -> bool:
        return not self._ended

    def start(self, job: Job) -> None:
        self.started.append(job.name)
        job.log.parent.mkdir(parents=True, exist_ok=True)
        self._ended.append(next(self.script)(job))

    def ended(self) -> list[Ended]:
        over, self._ended = self._ended, []
        return over

    def ask_to_stop(self) -> None:
        self.asked = True

    def close(self) -> None:
        pass


def status(job: Job, **content: object) -> None:
    (job.log.parent / "status.json").write_text(json.dumps(content))


def done(job: Job) -> Ended:
    status(job, status="done", timesteps=1000)
    return Ended(job.name, 0)


def killed(at: int) -> End:
    def end(job: Job) -> Ended:
        log = job.log.parent / "progress.json"
        log.write_text(json.dumps({"time/total_timesteps": at}) + "\n")
        status(job, status="running", timesteps=0)
        return Ended(job.name, -signal.SIGKILL)

    return end


def crashed(job: Job) -> Ended:
    job.log.write_text("Traceback …\nValueError: something was wrong\n\n")
    status(job, status="failed", reason="ValueError", timesteps=3)
    return Ended(job.name, 1)


@pytest.fixture
def drive(
    write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Outcome, Scripted]]:
    monkeypatch.setattr(driver, "_TICK", 0.001)
    monkeypatch.setattr(driver, "_LOOK", 0.0)
    study = load_study(write_study(algorithms="sac", seeds=1))

    def go(*ends: End) -> tuple[Outcome, Scripted]:
        executor = Scripted(*ends)
        plan = Plan(study, tmp_path / "out")
        return Driver(plan, executor, LineView(), Rates()).execute(), executor

    return go


PLAIN, SN = "Pendulum-v1/sac/plain/seed0", "Pendulum-v1/sac/sn/seed0"


def test_what_is_over_is_not_repeated(drive: Callable[..., tuple[Outcome, Scripted]]) -> None:
    outcome, executor = drive(done, done)
    assert executor.started == [PLAIN, SN]
    assert outcome == Outcome(over=2)
    again, executor = drive()
    assert executor.started == []
    assert again == outcome


def test_a_crash_costs_one_run_and_is_tried_again_by_the_next_call(
    drive: Callable[..., tuple[Outcome, Scripted]], capsys: pytest.CaptureFixture[str]
) -> None:
    outcome, _ = drive(crashed, done)
    assert outcome == Outcome(over=1, failed={PLAIN: "ValueError: something was wrong"})
    assert f"failed {PLAIN}: ValueError: something was wrong" in capsys.readouterr().err
    outcome, executor = drive(done)
    assert executor.started == [PLAIN]
    assert outcome == Outcome(over=2)


def test_divergence_is_a_result(drive: Callable[..., tuple[Outcome, Scripted]]) -> None:
    def diverged(job: Job) -> Ended:
        status(job, status="failed", reason="diverged: 1e9", timesteps=500)
        return Ended(job.name, 1)

    assert drive(diverged, done)[0] == Outcome(over=2)
    assert drive()[0] == Outcome(over=2)


def test_a_killed_run_is_started_again_while_it_gets_further(
    drive: Callable[..., tuple[Outcome, Scripted]],
) -> None:
    ends = [killed(at) for at in range(10, 210, 20)]
    outcome, executor = drive(*ends, done, done)
    assert outcome == Outcome(over=2)
    assert executor.started == [PLAIN] * 11 + [SN]


@pytest.mark.parametrize("code", [-signal.SIGKILL, 128 + signal.SIGTERM, None])
def test_a_run_that_is_killed_at_the_same_place_each_time_is_given_up(
    drive: Callable[..., tuple[Outcome, Scripted]], code: int | None
) -> None:
    outcome, executor = drive(*[lambda job: Ended(job.name, code)] * 5, done)
    reasons = {-9: "SIGKILL", 143: "SIGTERM", None: "the loss of its node"}
    assert outcome == Outcome(over=1, failed={PLAIN: reasons[code]})
    assert executor.started == [PLAIN] * 5 + [SN]


def test_a_run_that_cannot_be_started_fails(
    drive: Callable[..., tuple[Outcome, Scripted]],
) -> None:
    outcome, _ = drive(lambda job: Ended(job.name, 1, "no space left"), done)
    assert outcome == Outcome(over=1, failed={PLAIN: "no space left"})


def test_a_run_that_says_nothing_of_its_end_has_failed(
    drive: Callable[..., tuple[Outcome, Scripted]],
) -> None:
    outcome, _ = drive(lambda job: Ended(job.name, 0), done)
    assert list(outcome.failed) == [PLAIN]


def test_a_run_that_another_process_does_is_waited_for(
    drive: Callable[..., tuple[Outcome, Scripted]], tmp_path: Path
) -> None:
    folder = tmp_path / "out" / "runs" / PLAIN
    folder.mkdir(parents=True)
    held = locked(folder)
    held.__enter__()

    def done_as_the_other_goes(job: Job) -> Ended:
        held.__exit__(None, None, None)
        return done(job)

    outcome, executor = drive(done_as_the_other_goes, done)
    assert executor.started == [SN, PLAIN]
    assert outcome == Outcome(over=2)


def test_a_run_that_another_process_has_taken_meanwhile_comes_later(
    drive: Callable[..., tuple[Outcome, Scripted]],
) -> None:
    held = []

    def refused(job: Job) -> Ended:
        held.append(locked(job.log.parent))
        held[0].__enter__()
        return Ended(job.name, 2)

    def done_as_the_other_goes(job: Job) -> Ended:
        held[0].__exit__(None, None, None)
        return done(job)

    outcome, executor = drive(refused, done_as_the_other_goes, done)
    assert executor.started == [PLAIN, SN, PLAIN]
    assert outcome == Outcome(over=2)


def test_a_signal_stops_the_study(drive: Callable[..., tuple[Outcome, Scripted]]) -> None:
    def interrupt(job: Job) -> Ended:
        os.kill(os.getpid(), signal.SIGTERM)
        return done(job)

    outcome, executor = drive(interrupt)
    assert outcome == Outcome(over=1, signal=signal.SIGTERM)
    assert executor.asked
    assert executor.started == [PLAIN]
