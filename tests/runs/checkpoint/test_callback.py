import json
import random
import resource
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from snrl.runs.checkpoint.generations import Generations

from .conftest import BrokenOffError

SHORT = {
    "total_timesteps": 420,
    "learning_starts": 190,
    "eval_freq": 150,
    "n_eval_episodes": 1,
    # Full before the end.
    "buffer_size": 300,
    "values": "off",
}
MEASURED = {"values": "light", "total_timesteps": 330}
OFTEN = 1e-9  # between any two steps
SOMETIMES = 5e-4
RARELY = 1e9

RUNS: list[tuple[str, dict[str, Any]]] = [
    ("sac", {"sn": True, **MEASURED}),
    ("sac", {"fast": False, **MEASURED}),
    ("td3", {**MEASURED}),
    ("td3", {"sn": True, "fast": False, **MEASURED}),
    ("sac", {}),
    ("sac", {"sn": True, "fast": False}),
    ("td3", {"sn": True, "n_envs": 2, "noise_type": "ornstein-uhlenbeck"}),
    ("td3", {"fast": False, "n_steps": 3, "train_freq": [1, "episode"], "gradient_steps": 20}),
    ("td3", {"optimize_memory_usage": True, "handle_timeout_termination": False}),
    ("sac", {"use_sde": True, "sde_sample_freq": 16, "sn": True, "sn_mode": "project"}),
    ("sac", {"sn": True, "sn_coef": [2, 0.5, 100], "learning_rate": "lin_1e-3", "train_freq": 32}),
    ("td3", {"critic": "redq+dropout", "n_critics": 3}),
]


@pytest.mark.parametrize(("algo", "flags"), RUNS, ids=str)
@pytest.mark.filterwarnings("ignore:.*is ignored because a custom")
def test_a_run_that_was_broken_off_ends_as_if_it_had_not(
    algo: str, flags: dict[str, Any], runs: Any, break_off: Any, assert_same: Any
) -> None:
    config = runs.config(algo, **SHORT | flags)
    whole = runs.train("whole", config, checkpoint_minutes=0)
    draw = random.Random(str(flags))
    # Before there are updates, and after; killed, and asked to stop.
    moments = (draw.randrange(30, 190), draw.randrange(230, 320))
    for steps, number in zip(moments, (None, signal.SIGTERM), strict=True):
        break_off(steps, number)
        minutes = RARELY if number else SOMETIMES
        if number:
            assert runs.train("run", config, resume=True, checkpoint_minutes=minutes).signal
        else:
            with pytest.raises(BrokenOffError):
                runs.train("run", config, resume=True, checkpoint_minutes=minutes)
        # Nothing of this process may be what makes them equal.
        np.random.seed(steps)
        torch.manual_seed(steps)
        random.seed(steps)
    resumed = runs.train("run", config, resume=True, checkpoint_minutes=RARELY)
    assert_same(whole, resumed)
    assert not resumed.folder.checkpoint.exists()


def test_an_interrupted_run_loses_no_step(
    runs: Any, break_off: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    config = runs.config("sac", **SHORT)
    break_off(77, signal.SIGINT)
    runs.train("run", config, checkpoint_minutes=RARELY)
    break_off(87, signal.SIGINT)
    stopped = runs.train("run", config, resume=True, checkpoint_minutes=RARELY)
    assert stopped.timesteps == 87 + 1  # one more step tells that it is to stop
    assert capsys.readouterr().err == "snrl.run: the run goes on after 77 steps\n"


def test_without_checkpoints_a_run_stops_at_once_and_begins_anew(
    runs: Any, break_off: Any, assert_same: Any
) -> None:
    config = runs.config("td3", **SHORT | {"train_freq": [1, "episode"]})
    break_off(77, signal.SIGINT)
    stopped = runs.train("run", config, checkpoint_minutes=0)
    assert stopped.timesteps == 77
    assert not stopped.folder.checkpoint.exists()
    resumed = runs.train("run", config, resume=True, checkpoint_minutes=0)
    assert_same(runs.train("whole", config), resumed)


def test_a_full_disk_is_said_once_and_changes_nothing(
    runs: Any, break_off: Any, assert_same: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    config = runs.config("sac", **SHORT | {"eval_freq": 400, "net_arch": [64, 64]})
    break_off(60)
    with pytest.raises(BrokenOffError):
        runs.train("run", config, checkpoint_minutes=OFTEN)
    kept = sorted(path.name for path in (runs.path / "run/checkpoint").iterdir())
    # No file may grow beyond this: as on a full disk, but for the number of the error.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        break_off(120)
        with pytest.raises(BrokenOffError):
            runs.train("run", config, resume=True, checkpoint_minutes=OFTEN)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("snrl.run: warning: no checkpoint could be written to ")
    assert lines[1].endswith(": File too large; the run goes on, and tries again")
    found = sorted(path.name for path in (runs.path / "run/checkpoint").iterdir())
    assert set(found) < set(kept)
    assert Generations(runs.path / "run/checkpoint").newest_whole(pytest.fail) is not None
    resumed = runs.train("run", config, resume=True)
    assert_same(runs.train("whole", config), resumed)


def test_a_task_that_cannot_be_rebuilt_goes_on_with_a_new_episode(
    runs: Any, break_off: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("snrl.runs.checkpoint.episode.MAX_STEPS", 20)
    config = runs.config("td3", **SHORT)
    break_off(50)
    with pytest.raises(BrokenOffError):
        runs.train("run", config, checkpoint_minutes=OFTEN)
    result = runs.train("run", config, resume=True, checkpoint_minutes=RARELY)
    assert capsys.readouterr().err.splitlines() == [
        "snrl.run: the run goes on after 49 steps",
        "snrl.run: warning: the task's state could not be rebuilt: the run goes on with a new "
        "episode, and not bit by bit as it would have",
    ]
    assert json.loads(result.folder.status.read_text())["status"] == "done"
    assert result.timesteps == 420


def test_the_time_is_that_of_all_parts(runs: Any, break_off: Any) -> None:
    config = runs.config("td3", **SHORT)
    break_off(400, signal.SIGINT)
    first = runs.train("run", config, checkpoint_minutes=RARELY)
    before = json.loads(first.folder.status.read_text())["seconds"]
    last = runs.train("run", config, resume=True)
    # The second part has but 20 steps, but all of the time is counted.
    assert json.loads(last.folder.status.read_text())["seconds"] >= before - 0.1


def test_checkpoints_are_written_in_time(runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every 50 s of a clock that steps move by 1 s, or at a start of an episode soon after."""
    from snrl.runs.checkpoint import callback

    written: list[int] = []
    write = Generations.write

    class Clock:
        time = staticmethod(lambda: 0.0)
        time_ns = staticmethod(lambda: 0)

        @staticmethod
        def monotonic() -> float:
            return float(steps[-1])

    steps = [0]
    on_step = callback.Checkpointer._on_step

    def counting(self: callback.Checkpointer) -> bool:
        steps.append(steps[-1] + 1)
        return on_step(self)

    def writing(self: Generations, *args: Any) -> Any:
        written.append(steps[-1])
        return write(self, *args)

    monkeypatch.setattr(callback, "time", Clock)
    monkeypatch.setattr(callback.Checkpointer, "_on_step", counting)
    monkeypatch.setattr(Generations, "write", writing)
    runs.train("run", runs.config("td3", **SHORT), checkpoint_minutes=50 / 60)
    # 200 and 400 are starts of episodes.
    assert written == [75, 150, 200, 275, 350, 400]


def test_damage_is_told_and_the_last_good_one_used(
    runs: Any, break_off: Any, assert_same: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    config = runs.config("sac", **SHORT)

    def interrupt_twice(name: str) -> Path:
        for steps in (258, 259):
            break_off(steps, signal.SIGTERM)
            runs.train(name, config, resume=True, checkpoint_minutes=RARELY)
        capsys.readouterr()
        return runs.path / name / "checkpoint"

    checkpoint = interrupt_twice("run")
    _truncate(checkpoint / "state-259.pt")
    resumed = runs.train("run", config, resume=True, checkpoint_minutes=RARELY)
    assert capsys.readouterr().err.splitlines() == [
        f"snrl.run: warning: checkpoint 2 in {checkpoint} is damaged: "
        "state-259.pt is not what was written",
        "snrl.run: the run goes on after 258 steps",
    ]
    whole = runs.train("whole", config)
    assert_same(whole, resumed)

    for path in interrupt_twice("other").glob("state-*.pt"):
        _truncate(path)
    before = (runs.path / "other/progress.json").read_bytes()
    anew = runs.train("other", config, resume=True)
    aside = runs.path / "other/set-aside-1"
    assert capsys.readouterr().err.splitlines()[-1] == (
        "snrl.run: warning: no checkpoint is whole: the run begins anew; what there was is in "
        f"{aside}"
    )
    assert (aside / "progress.json").read_bytes() == before
    assert {path.name for path in aside.iterdir()} >= {"checkpoint", "evaluations.npz"}
    assert_same(whole, anew)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])
