import json
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from snrl.runs import tracking
from snrl.runs.tracking import Tracking, WandbWriter


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))


class FakeWandb(SimpleNamespace):
    """wandb, but broken in one place."""

    def __init__(self, **broken: Any) -> None:
        self.rows: list[tuple[dict[str, Any], int]] = []
        self.modes: list[str] = []
        run = SimpleNamespace(
            log=broken.pop("log", lambda values, step: self.rows.append((values, step))),
            finish=broken.pop("finish", lambda: None),
        )

        def init(mode: str, **_: Any) -> Any:
            self.modes.append(mode)
            return run

        def nothing(*_: Any, **__: Any) -> bool:
            return True

        working = {"init": init, "login": nothing, "setup": nothing, "Settings": nothing}
        working["teardown"] = lambda: None
        super().__init__(**working | broken)


def fail(*_: Any, **__: Any) -> None:
    raise OSError("broken\nin many lines")


def write(path: Path, fake: Any, monkeypatch: pytest.MonkeyPatch, online: bool = False) -> None:
    monkeypatch.setitem(sys.modules, "wandb", fake)
    writer = WandbWriter(Tracking(online), path, "name", {})
    writer.write({"a": np.float32(1.5), "b": 2, "c": 3}, {"c": ("wandb",)}, 7)
    writer.close()


def test_every_key_arrives_offline(runs: Any, read_wandb: Any) -> None:
    config = runs.config("td3", sn=True)
    result = runs.train("run", config, tracking=Tracking(tags=("t",)), command="the command")
    recorded, rows = read_wandb(result.folder.path)
    logged = [json.loads(line) for line in result.folder.progress.read_text().splitlines()]
    assert [row["_step"] for row in rows] == [400, 800, 850]
    # Two dumps at one step are one row there.
    for row in rows:
        same = [line for line in logged if line["time/total_timesteps"] == row["_step"]]
        assert {k: v for line in same for k, v in line.items()}.items() <= row.items()
    keys = set().union(*logged)
    assert keys >= {"train/critic_loss", "rollout/ep_rew_mean", "eval/mean_reward"}
    assert keys >= {"sn/sigma_max", "time/fps"}
    for name in ("errors", "singular_values"):
        shown = [row[f"values/{name}_histogram/_type"] for row in rows]
        assert shown == ["histogram"] * 3
    recorded.pop("_wandb")
    assert recorded == config.as_dict() | {"command": "the command"}


def test_values_are_passed_at_their_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = FakeWandb()
    write(tmp_path, fake, monkeypatch)
    assert fake.rows == [({"a": 1.5, "b": 2}, 7)]
    assert fake.modes == ["offline"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "fake",
    [
        None,
        FakeWandb(init=fail),
        FakeWandb(log=fail),
        FakeWandb(finish=fail),
        FakeWandb(Settings=fail),
    ],
)
def test_a_broken_wandb_costs_one_warning(
    fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, fake, monkeypatch)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("snrl.run: warning: W&B stopped tracking")


@pytest.mark.parametrize("broken", [{"login": fail}, {"login": lambda **_: False}])
def test_without_credentials_it_tracks_offline(
    broken: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake = FakeWandb(**broken)
    write(tmp_path, fake, monkeypatch, online=True)
    assert fake.modes == ["offline"]
    assert len(fake.rows) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("snrl.run: warning: W&B tracks offline")


def test_with_credentials_it_tracks_online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeWandb()
    write(tmp_path, fake, monkeypatch, online=True)
    assert fake.modes == ["online"]


def test_a_wandb_that_hangs_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hang = threading.Event()
    monkeypatch.setattr(tracking, "_FINISH_SECONDS", 0.1)
    start = time.monotonic()
    write(tmp_path, FakeWandb(init=lambda **_: hang.wait() or fail()), monkeypatch)
    assert time.monotonic() - start < 5
    assert "did not finish" in capsys.readouterr().err
    assert tracking.is_unfinished()
    hang.set()
    for thread in threading.enumerate():
        if thread.name == tracking._THREAD:
            thread.join(5)
    assert not tracking.is_unfinished()
