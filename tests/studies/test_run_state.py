"""How far a run is, from files that may be missing, half-written or shortened."""

import json
from pathlib import Path

import pytest

from snrl.studies.run_state import Follower, RunState, read_state


@pytest.mark.parametrize(
    ("content", "is_over"),
    [
        ({"status": "done", "timesteps": 5, "seconds": 2.5}, True),
        ({"status": "failed", "reason": "diverged: at 1e9", "timesteps": 5}, True),
        ({"status": "failed", "reason": "ValueError: x", "timesteps": 5}, False),
        ({"status": "interrupted", "reason": "SIGINT", "timesteps": 5}, False),
        ({"status": "running", "reason": None, "timesteps": 0}, False),
    ],
)
def test_status(tmp_path: Path, content: dict[str, object], is_over: bool) -> None:
    (tmp_path / "status.json").write_text(json.dumps(content))
    state = read_state(tmp_path)
    assert state.is_over is is_over
    assert (state.status, state.timesteps) == (content["status"], content["timesteps"])
    assert state.seconds == content.get("seconds")


@pytest.mark.parametrize("content", [None, b"", b'{"status": "do', b"\xff", b"[]"])
def test_a_status_that_cannot_be_read_is_that_of_a_new_run(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "status.json").write_bytes(content)
    assert read_state(tmp_path) == RunState()


def test_a_growing_log(tmp_path: Path) -> None:
    log = tmp_path / "progress.json"
    follower = Follower(tmp_path)
    assert not follower.update()
    log.write_text('{"time/total_timesteps": 10, "eval/mean_reward": NaN}\n{"time/total_ti')
    assert follower.update()
    assert follower.timesteps == 10
    assert not follower.update()
    with log.open("a") as file:
        file.write('mesteps": 20, "rollout/ep_rew_mean": 1.5}\nnonsense\n[1]\n')
    assert follower.update()
    assert follower.timesteps == 20
    assert follower.value("rollout/ep_rew_mean") == 1.5
    assert follower.value("eval/mean_reward") != follower.value("eval/mean_reward")
    assert follower.value("unknown") is None
    # Going on from a checkpoint drops rows.
    log.write_text('{"time/total_timesteps": 5}\n')
    assert follower.update()
    assert follower.timesteps == 5
