"""The command as people use it: studies that are killed, that fail, and that go on."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from snrl.compare import main
from snrl.spectral.native.build import cache_folder

CACHE = cache_folder()
ROOT = Path(__file__).parents[1]

# A task that costs nothing and, while a file called "broken" exists, fails for one seed.
BRITTLE = """
from pathlib import Path
import gymnasium as gym
import numpy as np

class Brittle(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed == 1 and Path("broken").exists():
            raise RuntimeError("the task is broken")
        return self.observation_space.sample() * 0, {}

    def step(self, action):
        return np.zeros(2, np.float32), -float(action[0] ** 2), False, False, {}

gym.register("Brittle-v0", Brittle, max_episode_steps=50)
"""

TINY: dict[str, Any] = {
    "name": "tiny",
    "tasks": ["brittle:Brittle-v0"],
    "algorithms": ["sac"],
    "variants": {"plain": {}, "sn": {"sn": True}},
    "seeds": [0],
    "common": {
        "total_timesteps": 400,
        "learning_starts": 100,
        "eval_freq": 100,
        "n_eval_episodes": 1,
        "net_arch": [16, 16],
        "batch_size": 16,
        "buffer_size": 1000,
        "values": "off",
        "device": "cpu",
    },
}
COMMAND = [sys.executable, "-m", "snrl.compare", "tiny.yaml", "--no-report", "--no-wandb"]
PLAIN, SN = (f"Brittle-v0/sac/{variant}" for variant in ("plain", "sn"))


@pytest.fixture(autouse=True)
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SNRL_CACHE_DIR", str(CACHE))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(tmp_path)]))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "brittle.py").write_text(BRITTLE)
    write()
    return tmp_path


def write(**changed: Any) -> None:
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY | changed, sort_keys=False))


def compare(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [*COMMAND, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def starts(folder: Path) -> int:
    """How many processes were started for a run."""
    return len(
        re.findall(r"^\[.{19}\] python -m snrl.run ", (folder / "run.log").read_text(), re.M)
    )


def assert_complete(study: Path, *names: str) -> None:
    """Assert that these runs are there, over, and whole, and no others."""
    assert {str(path.parent.relative_to(study / "runs")) for path in study.rglob("run.log")} == set(
        names
    )
    for name in names:
        folder = study / "runs" / name
        assert json.loads((folder / "status.json").read_text())["status"] == "done"
        with np.load(folder / "evaluations.npz") as evaluations:
            assert evaluations["timesteps"].tolist() == [100, 200, 300, 400]
        rows = [json.loads(line) for line in (folder / "progress.json").read_text().splitlines()]
        steps = [row["time/total_timesteps"] for row in rows if "eval/mean_reward" in row]
        assert steps == [100, 200, 300, 400]
        assert not list(folder.rglob("*.partial*"))


def test_a_failed_run_costs_one_run_and_a_study_grows(cwd: Path) -> None:
    (cwd / "broken").touch()
    write(variants={"plain": {}}, seeds=[0, 1])
    done = compare()
    assert done.returncode == 1
    first, second = done.stdout.splitlines()
    assert first == "tiny: 1 run done, 1 failed; in studies/tiny"
    assert second == f"  failed {PLAIN}/seed1: RuntimeError: the task is broken"
    assert f"failed {PLAIN}/seed1: RuntimeError: the task is broken" in done.stderr
    assert f"done {PLAIN}/seed0: return -" in done.stderr
    study = cwd / "studies" / "tiny"
    finished = study / "runs" / PLAIN / "seed0"
    kept = {file: file.stat().st_mtime_ns for file in finished.rglob("*") if file.is_file()}

    (cwd / "broken").unlink()
    write(seeds=[0, 1], variants={"plain": {}})
    assert compare().stdout == "tiny: 2 runs done, 0 failed; in studies/tiny\n"
    assert_complete(study, f"{PLAIN}/seed0", f"{PLAIN}/seed1")
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    assert starts(finished) == 1

    write(seeds=[0, 1], variants={"plain": {"tau": 0.5}})
    done = compare()
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "holds runs of another study" in line
    assert f"{PLAIN}: tau was 0.005, now 0.5" in line


def test_a_study_killed_again_and_again_ends_complete(cwd: Path) -> None:
    write(seeds=[0, 1])
    study = cwd / "studies" / "tiny"
    begin = [*COMMAND, "--checkpoint-minutes", "0.01"]

    def run_until(sign: Callable[[], bool]) -> "subprocess.Popen[bytes]":
        driver = subprocess.Popen(begin, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while not sign():
            assert driver.poll() is None
            time.sleep(0.02)
        return driver

    def exists(name: str) -> Callable[[], bool]:
        return lambda: any(study.rglob(name))

    # The driver, in the middle of training.
    driver = run_until(exists("evaluations.npz"))
    second = compare()
    assert (second.returncode, second.stdout) == (2, "")
    assert second.stderr == "snrl.compare: error: studies/tiny is in use by another process\n"
    driver.kill()
    driver.wait()
    # A worker; the driver starts it again.
    found: list[int] = []
    driver = run_until(lambda: bool(found.extend(workers(cwd)) or found))
    os.kill(found[0], signal.SIGKILL)
    time.sleep(1)
    # Ctrl-C: the workers save their state.
    driver.send_signal(signal.SIGINT)
    assert driver.wait() == 130
    assert workers(cwd) == []

    done = compare("--checkpoint-minutes", "0.01")
    assert (done.returncode, done.stdout) == (0, "tiny: 4 runs done, 0 failed; in studies/tiny\n")
    names = [f"{cell}/seed{seed}" for cell in (PLAIN, SN) for seed in (0, 1)]
    assert_complete(study, *names)


def workers(cwd: Path) -> list[int]:
    """Processes of runs in this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"snrl.run" in words and (process / "cwd").resolve() == cwd:
                found.append(int(process.name))
        except OSError:
            continue
    return found


def test_a_dry_run_prints_commands_that_are_the_runs(
    cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tiny.yaml", "--dry-run", "--no-wandb", "--out", "a b"]) == 0
    out, err = capsys.readouterr()
    assert "2 runs, 800 steps" in err
    lines = out.splitlines()
    assert len(lines) == 2
    assert lines[1].endswith(f" --sn --no-wandb --out 'a b/runs/{SN}/seed0' --resume")
    assert {path.name for path in cwd.iterdir()} <= {"brittle.py", "tiny.yaml", "__pycache__"}
    # By hand, one of them is what the study would have done.
    python, *words = shlex.split(lines[1])
    assert python == "python"
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    config = yaml.safe_load((cwd / "a b" / "runs" / SN / "seed0" / "config.yaml").read_text())
    assert config["sn"] is True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.yaml"], "cannot read nothing.yaml: No such file or directory"),
        (["tiny.yaml", "--job", "2"], "unknown flag --job for snrl.compare: did you mean --jobs?"),
        (["tiny.yaml", "--jobs", "0"], "argument --jobs: expected an integer of at least 1, got 0"),
        (["tiny.yaml", "--jobs", "2", "--ray", "auto"], "--jobs is for one machine"),
        (["tiny.yaml", "--gpus-per-run", "0.5"], "--gpus-per-run needs --ray"),
        (["tiny.yaml", "--gpus-per-run", "1.5"], "expected 0 to 1, or a whole number, got 1.5"),
        (["tiny.yaml", "--checkpoint-minutes", "-1"], "expected minutes of at least 0, got -1"),
        (["tiny.yaml", "--out", "tiny.yaml"], "cannot make tiny.yaml: File exists"),
        (["tiny.yaml", "--ray", "127.0.0.1:1"], "no Ray cluster at 127.0.0.1:1: [Errno 111]"),
        ([], "the following arguments are required: STUDY.yaml"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("snrl.compare: error: ")
    assert message in err


@pytest.mark.parametrize("words", [["--dry-run"], []])
def test_what_is_not_installed_is_said_before_anything_runs(
    words: list[str],
    cwd: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = sorted(cwd.iterdir())
    with monkeypatch.context() as without_rich:
        without_rich.setitem(sys.modules, "rich", None)
        assert main(["tiny.yaml", *words]) == 2
    monkeypatch.setitem(sys.modules, "plotly", None)
    assert main(["tiny.yaml", *words]) == (0 if words else 2)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == 'snrl.compare: error: a study needs rich: pip install "snrl[studies]"'
    assert words or said[1] == (
        "snrl.compare: error: a report (--no-report leaves it out) needs plotly: "
        'pip install "snrl[studies]"'
    )
    assert sorted(cwd.iterdir()) == before


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['-m']; sys.orig_argv = ['python', '-m', 'snrl.compare']\n"
        "from snrl.compare import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'stable_baselines3', 'gymnasium', 'rich', 'ray', 'numpy'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--dry-run" in done.stdout
