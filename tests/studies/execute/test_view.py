"""What is shown while a study runs."""

import json
import os
import pty
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from snrl.studies.definition import load_study
from snrl.studies.execute.running import RunningRun, log_of
from snrl.studies.execute.view import LineView, Standing, TableView, make_view
from snrl.studies.plan import Plan

Write = Callable[..., Path]


@pytest.fixture
def standing(write_study: Write, tmp_path: Path) -> Standing:
    """Two runs under way, one of them waiting for a place."""
    plan = Plan(load_study(write_study(algorithms="sac")), tmp_path / "out")
    begun, waiting = (RunningRun(run) for run in plan.runs[:2])
    begun.run.folder.mkdir(parents=True)
    log_of(begun.run).write_text("$ command\n")
    begun.update()
    rows: list[dict[str, float]] = [
        {"time/total_timesteps": 200, "eval/mean_reward": -1234.5, "values/bias_mean": 12.5},
        {"time/total_timesteps": 400, "train/loss": 1.0},
    ]
    log = begun.run.folder / "progress.json"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    begun.update()
    waiting.update()
    assert (begun.progress, waiting.begun) == (0.4, None)
    return Standing([begun, waiting], 3, 1, 6, [60.0, 90.0], 150.0, 3725.0)


def test_lines(standing: Standing, capsys: pytest.CaptureFixture[str]) -> None:
    with LineView(every=0.0) as view:
        view.say("started x")
        view.show(standing)
    first, second = (line.split("] ", 1)[1] for line in capsys.readouterr().err.splitlines())
    assert first == "started x"
    assert second == (
        "3 of 6 runs done, 1 running, 1 failed, 1 waiting; 1:02:05 elapsed, about 02:30 left"
    )


def test_the_standing_is_not_repeated_at_every_look(
    standing: Standing, capsys: pytest.CaptureFixture[str]
) -> None:
    with LineView() as view:
        for _ in range(5):
            view.show(standing)
    assert capsys.readouterr().err == ""


def test_a_table_on_a_terminal(standing: Standing, monkeypatch: pytest.MonkeyPatch) -> None:
    controller, terminal = pty.openpty()
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(terminal, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        with make_view() as view:
            assert isinstance(view, TableView)
            view.say("done a[b]")
            view.show(standing)
    shown = os.read(controller, 100_000).decode()
    os.close(controller)
    assert "done a[b]" in shown
    (row,) = {line.strip() for line in shown.splitlines() if "Pendulum-v1" in line}
    words = row.split()
    assert words[:5] == ["Pendulum-v1", "sac", "plain", "0", "40%"]
    assert words[6:] == ["-1234", "12.5", "01:00"]
    assert "3 of 6 runs done, 1 running, 1 failed, 1 waiting" in shown


def test_without_a_terminal_there_are_lines() -> None:
    assert isinstance(make_view(), LineView)
