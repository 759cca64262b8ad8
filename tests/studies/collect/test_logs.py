import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.logger import configure

from snrl.studies.collect.logs import (
    read_csv,
    read_evaluations,
    read_json_lines,
    read_monitors,
)
from snrl.studies.collect.record import Notices


@pytest.fixture
def notices() -> Notices:
    return Notices()


def test_evaluations(tmp_path: Path, notices: Notices) -> None:
    path = tmp_path / "evaluations.npz"
    assert read_evaluations(path, notices) == {}
    arrays = {"timesteps": [10, 20], "results": [[1, 3], [5, np.nan]], "successes": [[1, 0]] * 2}
    np.savez(path, **arrays)
    found = read_evaluations(path, notices)
    assert set(found) == {"eval/mean_reward", "eval/success_rate"}
    assert found["eval/mean_reward"].timesteps.tolist() == [10, 20]
    np.testing.assert_equal(found["eval/mean_reward"].values, [2, np.nan])
    assert found["eval/success_rate"].values.tolist() == [0.5, 0.5]
    assert notices.lines == ()


@pytest.mark.parametrize("keep", [0, 30, 200, -30])
def test_truncated_evaluations_are_skipped(tmp_path: Path, notices: Notices, keep: int) -> None:
    path = tmp_path / "evaluations.npz"
    np.savez(path, timesteps=[10], results=[[1.0]], ep_lengths=[[3]])
    path.write_bytes(path.read_bytes()[:keep])
    assert read_evaluations(path, notices) == {}
    (line,) = notices.lines
    assert line.startswith(f"{path}: skipped, is damaged")


class _Touches:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_pickles_in_evaluations_are_not_loaded(tmp_path: Path, notices: Notices) -> None:
    path, flag = tmp_path / "evaluations.npz", tmp_path / "flag"
    np.savez(path, timesteps=[10], results=np.array([_Touches(flag)], dtype=object))
    assert read_evaluations(path, notices) == {}
    assert len(notices.lines) == 1
    assert not flag.exists()


def test_what_sb3s_loggers_write(tmp_path: Path, notices: Notices) -> None:
    """Both formats hold what was recorded, whatever each line lacks."""
    logger = configure(str(tmp_path), ["json", "csv"])
    rows = [{"train/a": 1.5}, {"train/a": float("nan"), "values/b": 2}, {"values/b": 3}]
    for step, row in enumerate(rows, start=1):
        logger.record("time/total_timesteps", 10 * step)
        logger.record("kind", "text")
        for name, value in row.items():
            logger.record(name, value)
        logger.dump()
    logger.close()
    from_json = read_json_lines(tmp_path / "progress.json", notices)
    from_csv = read_csv(tmp_path / "progress.csv", notices)
    assert set(from_json) == set(from_csv) == {"train/a", "values/b"}
    np.testing.assert_equal(from_json["train/a"], ([10, 20], [1.5, np.nan]))
    for found in (from_json, from_csv):
        np.testing.assert_equal(found["values/b"], ([20, 30], [2, 3]))
    assert notices.lines == ()


def test_half_written_and_damaged_lines(tmp_path: Path, notices: Notices) -> None:
    path = tmp_path / "progress.json"
    lines = [json.dumps({"time/total_timesteps": step, "a": step / 2}) for step in (1, 2, 3)]
    path.write_text("\n".join([lines[0], "\x00\x00", lines[1], lines[2][:-4]]))
    found = read_json_lines(path, notices)
    np.testing.assert_equal(found["a"], ([1, 2], [0.5, 1.0]))
    # Once per file.
    assert notices.lines == (f"{path}: line 2 skipped: damaged",)
    path.write_text(lines[0] + "\n" + lines[1][:-1])
    other = Notices()
    assert len(read_json_lines(path, other)["a"].values) == 1
    assert other.lines == (f"{path}: line 2 skipped: the last line is half-written",)


def test_half_a_number_at_the_end_of_a_table_is_not_read(tmp_path: Path, notices: Notices) -> None:
    path = tmp_path / "progress.csv"
    path.write_text("a,time/total_timesteps\n1.5,10\n2.5,20\n3.5,3")
    np.testing.assert_equal(read_csv(path, notices)["a"], ([10, 20], [1.5, 2.5]))
    assert notices.lines == (f"{path}: the last line skipped: it is half-written",)


def test_of_one_step_the_last_line_counts_and_steps_ascend(
    tmp_path: Path, notices: Notices
) -> None:
    path = tmp_path / "progress.json"
    rows = [(10, 1), (20, 2), (30, 3), (20, 4), (40, 5)]
    text = "".join(json.dumps({"time/total_timesteps": t, "a": a}) + "\n" for t, a in rows)
    path.write_text(text + '{"a": 6}\n{"time/total_timesteps": null, "a": 7}\n')
    found = read_json_lines(path, notices)
    np.testing.assert_equal(found["a"], ([10, 20, 30, 40], [1, 4, 3, 5]))


def test_monitors_of_several_environments_are_merged_by_time(
    tmp_path: Path, notices: Notices
) -> None:
    header = '#{"t_start": 1.0, "env_id": "Task-v0"}\nr,l,t\n'
    first, second = tmp_path / "0.monitor.csv", tmp_path / "1.monitor.csv"
    first.write_text(header + "1.0,10,0.5\n3.0,10,2.5\n")
    second.write_text(header + "2.0,20,1.5\n9.0,2")
    found, task = read_monitors([first, second], notices)
    assert task == "Task-v0"
    np.testing.assert_equal(found["rollout/ep_rew_mean"], ([10, 30, 40], [1, 1.5, 2]))
    assert found["rollout/ep_len_mean"].values[-1] == pytest.approx(40 / 3)
    assert len(notices.lines) == 1
    second.write_text("no header")
    other = Notices()
    assert len(read_monitors([first, second], other)[0]["rollout/ep_rew_mean"].values) == 2
    assert other.lines == (f"{second}: skipped, has no header of SB3's Monitor",)
