"""Processes on this machine: how they end, and that none outlives what has started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from snrl.studies.execute.executor import Ended
from snrl.studies.execute.local import LocalExecutor
from snrl.studies.execute.process import Job, last_line, threads_environment

LONG = ("sac", "--total-timesteps", "1e6", "--no-wandb")


def job(tmp_path: Path, *arguments: str, name: str = "a") -> Job:
    return Job(name, arguments, "the command", tmp_path / name / "run.log")


def wait_for(executor: LocalExecutor) -> list[Ended]:
    while not (ended := executor.ended()):
        time.sleep(0.05)
    return ended


def test_a_job_that_ends_by_itself(tmp_path: Path) -> None:
    executor = LocalExecutor(1, 1)
    bad = job(tmp_path, "sac", "--nonsense")
    for _ in range(2):
        assert executor.has_room()
        executor.start(bad)
        assert not executor.has_room()
        assert wait_for(executor) == [Ended("a", 2)]
        assert executor.ended() == []
    # The second try's words stand below the first one's, each below its command.
    lines = bad.log.read_text().splitlines()
    assert [line.endswith("] the command") for line in lines] == [True, False, True, False]
    assert last_line(bad.log).startswith("snrl.run: error: unknown flag --nonsense")


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    executor = LocalExecutor(1, 1)
    executor.start(job(tmp_path, *LONG))
    (ended,) = executor.ended()
    assert ended.error is not None
    assert "File exists" in ended.error
    assert ended.killed_by is None


def test_stopping_and_closing(tmp_path: Path) -> None:
    executor = LocalExecutor(2, 1)
    for name in "ab":
        executor.start(job(tmp_path, *LONG, name=name))
    executor.ask_to_stop()
    ended: list[Ended] = []
    while len(ended) < 2:
        ended += wait_for(executor)
    assert {end.name for end in ended} == {"a", "b"}
    assert {end.killed_by for end in ended} == {"SIGTERM"}
    executor.start(job(tmp_path, *LONG))
    executor.close()
    assert executor.ended() == []


def test_the_threads_of_a_job() -> None:
    code = "import torch; print(torch.get_num_threads())"
    environment = {**os.environ, **threads_environment(2)}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert out.stdout == b"2\n"


def test_a_last_line_is_found_in_any_log(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    assert last_line(log) == "it wrote no log"
    log.touch()
    assert last_line(log) == "it printed nothing"
    log.write_bytes(b"x" * 10_000 + b"\xff\n  the last \n\n")
    assert last_line(log) == "the last"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a process to its parent")
def test_no_job_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, time\n"
        "from snrl.studies.execute.process import Job, start\n"
        f"child = start(Job('a', {LONG!r}, '', pathlib.Path(sys.argv[1])), 1)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(1000)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run.log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = Path("/proc", parent.stdout.readline().decode().strip())
        # It has become the run by now, or does so below a parent that has gone.
        time.sleep(0.2)
        assert child.exists()
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while _lives(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _lives(child)


def _lives(process: Path) -> bool:
    try:
        return "State:\tZ" not in (process / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
