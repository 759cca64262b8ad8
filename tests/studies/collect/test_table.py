"""Real run folders of snrl, plain SB3 and RL Zoo, whole and damaged."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from snrl.runs.errors import ConfigError
from snrl.studies.collect import collect, write_parquet

from ..real_runs import SEEDS, TASKS, VARIANTS

COLUMNS = ["run", "task", "algo", "variant", "seed", "timesteps", "measure", "value"]


def test_a_study(study: Path) -> None:
    table = collect(study)
    runs = table.runs.set_index(["task", "algo", "variant", "seed"])
    assert len(runs) == len(TASKS) * len(VARIANTS) * len(SEEDS)
    row = runs.loc[TASKS[1], "sac", "sn", SEEDS[1]]
    assert row["run"] == f"runs/{TASKS[1]}/sac/sn/seed{SEEDS[1]}"
    assert (row["status"], row["timesteps"], row["total_timesteps"]) == ("done", 200, 200)
    assert row["config/sn"]
    assert row["config/net_arch"] == "[8,8]"
    assert row["config/learning_starts"] == 180
    assert table.study["baseline"] == "plain"
    assert table.notices == ()
    assert list(table.evaluations.columns) == COLUMNS


def test_every_number_of_the_log_is_there_once(study: Path) -> None:
    """Against a reading of its own, line by line."""
    table = collect(study)
    name = f"runs/{TASKS[0]}/sac/plain/seed{SEEDS[0]}"
    rows = table.evaluations[table.evaluations["run"] == name]
    found = {(m, t): v for m, t, v in rows[["measure", "timesteps", "value"]].itertuples(False)}
    assert len(found) == len(rows)
    arrays = np.load(study / name / "evaluations.npz")
    expected = {
        ("eval/mean_reward", int(t)): r
        for t, r in zip(arrays["timesteps"], arrays["results"].mean(1), strict=True)
    }
    for line in (study / name / "progress.json").read_text().splitlines():
        content = json.loads(line)
        step = content.pop("time/total_timesteps")
        expected |= {(key, step): value for key, value in content.items()}
    assert {measure for measure, _ in expected} >= {"values/bias_mean", "sn/sigma_max"}
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        # SB3 writes eight digits of a float of NumPy's.
        assert found[key] == pytest.approx(value, rel=1e-5, nan_ok=True), key


def test_without_a_study_variants_are_told_from_the_settings(
    copy_run: Callable[..., Path], tmp_path: Path
) -> None:
    copy_run("a")
    copy_run("b", seed=SEEDS[1])
    copy_run("c", variant="sn")
    doubled = copy_run("deep/d", variant="sn")
    config = yaml.safe_load((doubled / "config.yaml").read_text())
    config |= {"sn_coef": 2.0, "values": "full", "device": "cuda"}
    (doubled / "config.yaml").write_text(yaml.safe_dump(config))
    variants = collect(tmp_path).runs.set_index("run")["variant"].to_dict()
    assert variants == {
        "a": "plain",
        "b": "plain",
        "c": "sn sn_coef=1.0",
        "deep/d": "sn sn_coef=2.0",
    }


def test_critics_are_told_apart_where_nothing_else_differs(
    copy_run: Callable[..., Path], tmp_path: Path
) -> None:
    """A run alone with its critic is not called plain, nor one whose critic is not known."""
    settings = {
        "a": {"sn": False, "critic": "layer_norm"},
        "b": {"sn": True, "critic": "dropout+layer_norm"},
        "c": {"sn": False, "critic": "plain"},
        "d": None,
    }
    for name, changed in settings.items():
        path = copy_run(name) / "config.yaml"
        config = yaml.safe_load(path.read_text())
        path.write_text("{" if changed is None else yaml.safe_dump(config | changed))
    runs = collect(tmp_path).runs.set_index("run")
    assert runs["variant"].to_dict() == {
        "a": "layer_norm",
        "b": "sn+dropout+layer_norm",
        "c": "plain",
        "d": "unknown",
    }


def test_plain_sb3(sb3_runs: Path) -> None:
    table = collect(sb3_runs)
    assert table.notices == ()
    runs = table.runs.set_index("run")
    assert list(runs.index) == [f"td3_wide/seed_{seed}" for seed in SEEDS]
    assert (runs["task"] == TASKS[0]).all()
    assert (runs["algo"] == "td3").all()
    assert (runs["variant"] == "td3_wide").all()
    assert runs["seed"].tolist() == list(SEEDS)
    assert (runs["status"] == "unknown").all()
    assert (runs["timesteps"] == 160).all()
    first = table.evaluations[table.evaluations["run"] == runs.index[0]]
    measures = set(first["measure"])
    assert measures >= {"eval/mean_reward", "rollout/ep_rew_mean", "train/critic_loss"}
    returns = first[first["measure"] == "eval/mean_reward"]
    arrays = np.load(sb3_runs / runs.index[0] / "evaluations.npz")
    np.testing.assert_array_equal(returns["value"], arrays["results"].mean(1))
    assert returns["timesteps"].tolist() == [50, 100, 150]
    assert not first.duplicated(["measure", "timesteps"]).any()
    # Where the loggers were off, the Monitor's file gives the return along training.
    lone = sb3_runs.parent / "lone"
    lone.mkdir(exist_ok=True)
    shutil.copy(sb3_runs / runs.index[0] / "monitor.csv", lone)
    alone = collect(lone)
    rollouts = alone.evaluations[alone.evaluations["measure"] == "rollout/ep_rew_mean"]
    assert rollouts["timesteps"].tolist() == list(range(20, 161, 20))
    logged = first[first["measure"] == "rollout/ep_rew_mean"].set_index("timesteps")["value"]
    # The log, where there is one, comes before the Monitor's file: every fourth episode.
    assert logged.index.tolist() == [80, 160]
    found = rollouts.set_index("timesteps")["value"][logged.index]
    np.testing.assert_allclose(found, logged, rtol=1e-4)


def test_rl_zoo(zoo_runs: Path) -> None:
    table = collect(zoo_runs)
    assert table.notices == ()
    runs = table.runs.set_index("run")
    assert list(runs.index) == ["sac/Pendulum-v1_1", "sac/Pendulum-v1_2"]
    row = runs.iloc[0]
    assert (row["task"], row["algo"], row["variant"]) == ("Pendulum-v1", "sac", "plain")
    assert (row["status"], row["total_timesteps"]) == ("done", 450)
    assert runs["seed"].tolist() == list(SEEDS)
    assert row["config/policy"] == "MlpPolicy"
    returns = table.evaluations[table.evaluations["measure"] == "eval/mean_reward"]
    assert returns["timesteps"].tolist() == [150, 300, 450] * 2
    rollouts = table.evaluations[table.evaluations["measure"] == "rollout/ep_rew_mean"]
    assert rollouts["timesteps"].tolist() == [200, 400] * 2


def test_damaged_runs_are_read_as_far_as_they_are_whole(
    copy_run: Callable[..., Path], tmp_path: Path
) -> None:
    whole, torn, bare = copy_run("whole"), copy_run("torn"), copy_run("bare")
    log = (torn / "progress.json").read_bytes()
    (torn / "progress.json").write_bytes(log[:-20])
    (torn / "evaluations.npz").write_bytes((torn / "evaluations.npz").read_bytes()[:100])
    (torn / "status.json").write_text('{"status": "runn')
    for name in ("status.json", "evaluations.npz", "model.zip"):
        (bare / name).unlink()
    newer = copy_run("newer")
    (newer / "status.json").write_text('{"format": 99, "status": "done"}')
    table = collect(tmp_path)
    assert table.runs["run"].tolist() == ["bare", "torn", "whole"]
    assert table.runs["status"].tolist() == ["unknown", "unknown", "done"]
    files = [line.split(": ")[0] for line in table.notices]
    assert sorted(files) == sorted(
        path.relative_to(tmp_path).as_posix()
        for path in (
            newer,
            *(torn / name for name in ("evaluations.npz", "progress.json", "status.json")),
        )
    )
    assert f"{newer.name}: skipped, has format 99 of a newer snrl; this one reads up to 1: " in (
        "\n".join(table.notices)
    )
    # The log has the return of each evaluation as well.
    returns = table.evaluations[table.evaluations["measure"] == "eval/mean_reward"]
    assert returns.groupby("run", observed=True).size().to_dict() == {
        "bare": 5,
        "torn": 4,
        "whole": 5,
    }
    assert (whole / "status.json").exists()


def test_links_hidden_folders_and_folders_of_a_run_are_no_runs(
    copy_run: Callable[..., Path], tmp_path: Path
) -> None:
    copy_run("run")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / ".hidden" / "run")
    # A checkpoint holds copies of a run's files.
    shutil.copytree(tmp_path / "run", tmp_path / "run" / "checkpoint")
    assert collect(tmp_path).runs["run"].tolist() == ["run"]
    assert collect(tmp_path / "run").runs["run"].tolist() == ["."]


def test_no_runs_and_no_folder(tmp_path: Path) -> None:
    table = collect(tmp_path)
    assert len(table.runs) == len(table.evaluations) == 0
    assert list(table.evaluations.columns) == COLUMNS
    write_parquet(table, tmp_path / "out")
    assert len(pd.read_parquet(tmp_path / "out" / "runs.parquet")) == 0
    with pytest.raises(ConfigError, match="is not a folder; give one that holds runs"):
        collect(tmp_path / "missing")


def test_parquet_holds_the_tables(study: Path, sb3_runs: Path, tmp_path: Path) -> None:
    for folder in (study, sb3_runs):
        table = collect(folder)
        files = write_parquet(table, tmp_path / "tables")
        for file, frame in zip(files, (table.runs, table.evaluations), strict=True):
            read = pd.read_parquet(file)
            pd.testing.assert_frame_equal(read, frame)
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == [
        "evaluations.parquet",
        "runs.parquet",
    ]


def test_written_tables_are_read_as_the_runs_they_came_from(study: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "study"
    shutil.copytree(study, damaged)
    run = damaged / "runs" / TASKS[0] / "sac" / "plain" / f"seed{SEEDS[0]}"
    (run / "evaluations.npz").write_bytes(b"torn")
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps(status | {"command": "python -m snrl.run sac"}))
    table = collect(damaged)
    assert [line.split(": ")[0] for line in table.notices] == [
        (run / "evaluations.npz").relative_to(damaged).as_posix()
    ]
    assert table.runs["command"].dropna().tolist() == ["python -m snrl.run sac"]
    write_parquet(table, tmp_path / "tables")
    shutil.rmtree(damaged)
    read = collect(tmp_path / "tables")
    pd.testing.assert_frame_equal(read.runs, table.runs)
    pd.testing.assert_frame_equal(read.evaluations, table.evaluations)
    assert (read.study, read.notices, read.runs.attrs) == (table.study, table.notices, {})


def test_tables_beside_runs_are_not_taken_for_them(sb3_runs: Path, tmp_path: Path) -> None:
    shutil.copytree(sb3_runs, tmp_path, dirs_exist_ok=True)
    write_parquet(collect(tmp_path), tmp_path)
    (run, *rest) = collect(tmp_path).runs["run"]
    shutil.rmtree(tmp_path / run)
    assert collect(tmp_path).runs["run"].tolist() == rest


def test_a_study_of_more_than_json_knows_is_written(study: Path, tmp_path: Path) -> None:
    day = date(2024, 1, 1)
    content = {"day": day, day: [{1: (day, None)}], "share": 0.5, "name": "a"}
    write_parquet(replace(collect(study), study=content), tmp_path)
    text = "2024-01-01"
    expected = {"day": text, text: [{"1": [text, None]}], "share": 0.5, "name": "a"}
    assert collect(tmp_path).study == expected


def test_a_command_that_is_no_text_is_none(tmp_path: Path) -> None:
    status = {"status": "done", "command": ["python", "-m", "snrl.run"]}
    (tmp_path / "status.json").write_text(json.dumps(status))
    assert collect(tmp_path).runs["command"].isna().all()


def test_damaged_tables_are_refused(study: Path, tmp_path: Path) -> None:
    write_parquet(collect(study), tmp_path)
    (tmp_path / "evaluations.parquet").write_bytes(b"PAR1")
    with pytest.raises(ConfigError, match="cannot read the tables in "):
        collect(tmp_path)


@pytest.mark.parametrize("name", ["runs.parquet", "evaluations.parquet"])
@pytest.mark.parametrize("attrs", [{}, {"study": 1, "notices": None}, {"study": {}, "notices": []}])
def test_tables_of_others_are_refused(
    study: Path, tmp_path: Path, name: str, attrs: dict[str, object]
) -> None:
    write_parquet(collect(study), tmp_path)
    others = pd.DataFrame({"a": [1]})
    others.attrs = attrs
    others.to_parquet(tmp_path / name)
    with pytest.raises(ConfigError, match=f"{name} is not of snrl.report, or of an older one"):
        collect(tmp_path)


def test_tables_of_two_reports_are_refused(study: Path, sb3_runs: Path, tmp_path: Path) -> None:
    write_parquet(collect(study), tmp_path)
    _, evaluations = write_parquet(collect(sb3_runs), tmp_path / "other")
    evaluations.replace(tmp_path / evaluations.name)
    with pytest.raises(
        ConfigError, match=r"runs\.parquet and evaluations\.parquet in .* two reports"
    ):
        collect(tmp_path)


def test_a_parquet_file_that_cannot_be_written_leaves_the_old_one(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = collect(study)
    files = write_parquet(table, tmp_path)
    before = [file.read_bytes() for file in files]

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ConfigError, match="No space left on device"):
        write_parquet(table, tmp_path)
    assert [file.read_bytes() for file in files] == before
    assert len(list(tmp_path.iterdir())) == 2


def test_pandas_is_loaded_only_when_tables_are_made() -> None:
    code = (
        "import sys, snrl.studies.collect, snrl.studies.statistics, snrl.studies.zoo_view; "
        "print({'pandas', 'pyarrow', 'scipy', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
