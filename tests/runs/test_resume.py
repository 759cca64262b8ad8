"""``--resume`` from outside: processes, exit codes, and the one line that each refusal is."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from snrl.run import main
from snrl.runs.config import resolve
from snrl.runs.folder import RunFolder
from snrl.runs.lock import is_locked, locked
from snrl.runs.result import RunResult
from snrl.runs.resume import ended
from snrl.spectral.native.build import cache_folder

from .checkpoint.conftest import _assert_same

CACHE = cache_folder()
FLAGS = [
    *("--total-timesteps", "1000", "--learning-starts", "200", "--eval-freq", "400"),
    *("--n-eval-episodes", "1", "--net-arch", "16", "16", "--batch-size", "16"),
    *("--buffer-size", "700", "--device", "cpu", "--no-progress"),
]
COMMAND = [sys.executable, "-m", "snrl.run"]


@pytest.fixture(autouse=True)
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SNRL_CACHE_DIR", str(CACHE))
    return tmp_path


def result(path: str) -> RunResult:
    folder = RunFolder(Path(path))
    algo = yaml.safe_load(folder.config.read_text())["algo"]
    found = ended(folder.path, resolve(algo, {}, folder.config))
    assert found is not None
    return found


def test_a_run_that_is_killed_again_and_again_ends_as_if_untouched(cwd: Path) -> None:
    """With ``kill -9``, at moments that a seed chooses; the same command each time."""
    arguments = ["sac", "--sn", *FLAGS, "--no-wandb", "--resume"]
    done = subprocess.run(
        [*COMMAND, *arguments, "--checkpoint-minutes", "0", "--out", "whole"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    command = [*COMMAND, *arguments, "--checkpoint-minutes", "0.0005", "--out", "run"]
    draw = random.Random(0)
    for _ in range(2):
        before = newest()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            # Time is what each machine makes of it: to the next checkpoint, and some more.
            while newest() == before and process.poll() is None:
                time.sleep(0.002)
            time.sleep(draw.uniform(0, 0.3))
            assert is_locked(cwd / "run") or process.poll() == 0
            process.kill()
        status = json.loads((cwd / "run/status.json").read_text())
        assert status["status"] in ("running", "done")
        assert not is_locked(cwd / "run")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    _assert_same(result("whole"), result("run"))
    left = {path.name for path in (cwd / "run").iterdir()}
    assert left == {path.name for path in (cwd / "whole").iterdir()}


def newest() -> int:
    return max((int(p.stem) for p in Path("run/checkpoint").glob("[0-9]*.json")), default=0)


def test_w_and_b_and_tensorboard_go_on(runs: Any) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from snrl.runs.checkpoint.episode import RecordedEpisode
    from snrl.runs.tracking import Tracking

    config = runs.config("td3", total_timesteps=700, eval_freq=100, values="off")
    options = {"tracking": Tracking(), "tensorboard": True, "resume": True}
    step, left = RecordedEpisode.step, [460]

    def breaking(self: RecordedEpisode, action: Any) -> Any:
        left[0] -= 1
        # The last checkpoint is from step 350: what was logged since then is logged once more.
        if left[0] == 110:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, action)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RecordedEpisode, "step", breaking)
        first = runs.train("run", config, **options)
    assert first.signal is signal.SIGTERM
    with first.folder.progress.open("a") as log:
        log.write('{"time/total_timesteps": 400}\n{"time/total_tim')  # as a killed run leaves it
    runs.train("run", config, **options)

    logged = [json.loads(line) for line in first.folder.progress.read_text().splitlines()]
    steps = [line["time/total_timesteps"] for line in logged]
    assert steps == [100, 200, 300, 400, 500, 600, 700]
    parts = sorted((first.folder.path / "wandb").glob("offline-run-*"))
    # Two parts that begin in one second differ in a number behind the run's ID.
    names = [re.fullmatch(r"offline-run-\d+_\d+-(\w+)(-\d+)?", part.name) for part in parts]
    assert len({name and name[1] for name in names}) == 1
    assert len(parts) == 2
    events = EventAccumulator(str(first.folder.path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("eval/mean_reward")] == steps


def test_a_finished_run_is_not_repeated(cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["sac", *FLAGS, "--no-wandb", "--resume", "--total-timesteps", "20"]
    assert main(arguments) == 0
    line, _ = capsys.readouterr()
    # Without --out: the folder of the configuration, without a number.
    run = cwd / "runs/sac/Pendulum-v1/seed0"
    before = {path: path.stat().st_mtime_ns for path in run.iterdir()}
    assert main(arguments) == 0
    assert capsys.readouterr() == (line, "")
    assert {path: path.stat().st_mtime_ns for path in run.iterdir()} == before
    # Also while its process still waits for W&B.
    with locked(run):
        assert main(arguments) == 0
    assert [path.name for path in run.parent.iterdir()] == ["seed0"]
    assert main([word for word in arguments if word != "--resume"]) == 0
    assert {path.name for path in run.parent.iterdir()} == {"seed0", "seed0-2"}


def test_what_is_refused(cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["sac", *FLAGS, "--no-wandb", "--resume", "--out", "run"]
    short = [*arguments, "--total-timesteps", "20"]
    assert main(short) == 0
    capsys.readouterr()

    def refusal(words: list[str]) -> str:
        before = {path: path.read_bytes() for path in cwd.rglob("*") if path.is_file()}
        assert main(words) == 2
        out, err = capsys.readouterr()
        assert out == ""
        (line,) = err.splitlines()
        after = {path: path.read_bytes() for path in cwd.rglob("*") if path.is_file()}
        assert after == before
        return line.removeprefix("snrl.run: error: ")

    holds = "run holds a run of another configuration: "
    assert refusal([*short, "--seed", "3", "--gamma", "0.9"]) == (
        f"{holds}seed: 0 -> 3; gamma: 0.99 -> 0.9"
    )
    assert refusal([*short, "--sn"]) == f"{holds}sn: False -> True"
    assert refusal(["td3", *short[1:]]).startswith(f"{holds}algo: sac -> td3; ")
    config = cwd / "run/config.yaml"
    was = config.read_text()
    config.write_text(was + "option_of_tomorrow: 1\n")
    assert refusal(short) == f"{holds}option_of_tomorrow: 1 -> unknown"
    # An option that is newer than the run has its default there.
    config.write_text(was.replace("n_steps: 1\n", ""))
    assert main(short) == 0
    config.write_text(was)
    # How often checkpoints are written is not a hyperparameter.
    assert main([*short, "--checkpoint-minutes", "7"]) == 0
    capsys.readouterr()

    status = cwd / "run/status.json"
    status.write_text(status.read_text().replace('"done"', '"running"'))
    with locked(cwd / "run"):
        assert refusal(short) == "run is in use by another process"
    (cwd / "run/checkpoint").mkdir()
    (cwd / "run/checkpoint/7.json").write_text('{"format": 99}')
    assert "was written by a newer version of snrl (format 99;" in refusal(short)
    content = status.read_text()
    assert json.loads(content)["format"] == 1
    status.write_text(content.replace('"format": 1', '"format": 2'))
    assert refusal(short) == "run was written by a newer version of snrl; upgrade to go on there"
    status.write_text(content)

    (cwd / "other").mkdir()
    (cwd / "other/model.zip").touch()
    assert refusal([*short, "--out", "other"]) == "--out other holds another run"
    (cwd / "file").touch()
    assert refusal([*short, "--out", "file"]) == "--out file is not a folder"
    line = refusal([*short, "--checkpoint-minutes", "-1"])
    assert line == "argument --checkpoint-minutes: expected a number of at least 0, got -1"
    (cwd / "run/config.yaml").write_text("- 1")
    assert refusal(short) == "run/config.yaml is not the configuration of a run"


def test_a_folder_that_was_barely_begun_begins(cwd: Path) -> None:
    (cwd / "run").mkdir()
    (cwd / "run/status.json").write_text('{"status": "running"}')
    arguments = ["sac", *FLAGS, "--no-wandb", "--total-timesteps", "20", "--out", "run"]
    assert main(arguments) == 2
    assert main([*arguments, "--resume"]) == 0


def test_a_log_that_lost_lines_is_told(
    runs: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from snrl.runs.checkpoint.episode import RecordedEpisode

    config = runs.config("sac", total_timesteps=400, eval_freq=100, values="off")
    step, left = RecordedEpisode.step, [250]

    def breaking(self: RecordedEpisode, action: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, action)

    with monkeypatch.context() as patch:
        patch.setattr(RecordedEpisode, "step", breaking)
        log = runs.train("run", config).folder.progress
    log.write_text(log.read_text().splitlines()[0] + "\n")
    capsys.readouterr()
    runs.train("run", config, resume=True)
    warning, _ = capsys.readouterr().err.splitlines()
    assert "has lost lines since the checkpoint was written" in warning
    assert len(log.read_text().splitlines()) == 3


def test_a_full_disk_is_one_line(
    cwd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("snrl.runs.evaluation.np.savez", fail)
    assert main(["sac", *FLAGS, "--no-wandb", "--total-timesteps", "5", "--out", "run"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "snrl.run: error: No space left on device: the run stopped; once there is space, the same "
        "command with --resume goes on"
    )
    assert json.loads((cwd / "run/status.json").read_text())["status"] == "failed"
