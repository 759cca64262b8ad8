"""RL Zoo's own plotting scripts, in processes of their own, read our runs."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from snrl.runs.errors import ConfigError
from snrl.studies.collect import collect
from snrl.studies.zoo_view import zoo_view

from .real_runs import SEEDS, TASKS, VARIANTS


def _run(command: list[str]) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"MPLBACKEND": "Agg"},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def test_rl_zoo_plots_our_runs(study: Path, tmp_path: Path) -> None:
    view = tmp_path / "view"
    command = zoo_view(collect(study), view).split()
    assert command[:3] == ["python", "-m", "rl_zoo3.plots.all_plots"]
    out = _run([sys.executable, *command[1:], "--print-n-trials"])
    assert f"{TASKS[0]}-SAC-sn: {len(SEEDS)}" in out

    with (view / "results.pkl").open("rb") as file:
        results = pickle.load(file)
    for task in TASKS:
        for variant in VARIANTS:
            theirs = results[task][f"SAC-{variant}"]
            runs = [study / "runs" / task / "sac" / variant / f"seed{seed}" for seed in SEEDS]
            ours = [np.load(run / "evaluations.npz")["results"].mean(1) for run in runs]
            found = np.sort(theirs["last_evals"])
            np.testing.assert_allclose(found, np.sort([returns[-1] for returns in ours]))
            assert theirs["timesteps"].tolist() == [40, 80, 120, 160, 200]

    figure = tmp_path / "figure.svg"
    command = [sys.executable, "-m", "rl_zoo3.plots.plot_from_file", "-i", str(view / "results")]
    out = _run([*command, "--rliable", "--iqm", "-o", str(figure)])
    assert "Computing bootstrap CI" in out
    assert figure.stat().st_size > 0


def test_a_view_is_relative_and_replaces_only_a_view(study: Path, tmp_path: Path) -> None:
    table = collect(study)
    view = tmp_path / "view"
    zoo_view(table, view)
    zoo_view(table, view)
    links = sorted(path for path in view.rglob("*_*") if path.is_symlink())
    assert len(links) == len(table.runs)
    for link in links:
        assert not link.readlink().is_absolute()
        assert (link / "evaluations.npz").is_file()
    # Runs seen through links are not counted again.
    assert len(collect(view).runs) == 0

    (view / "sn" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds something else"):
        zoo_view(table, view)
    assert (view / "sn" / "notes.txt").read_text() == "mine"
    with pytest.raises(ConfigError, match="no run with evaluations"):
        zoo_view(collect(view), tmp_path / "other")
    assert not (tmp_path / "other").exists()
