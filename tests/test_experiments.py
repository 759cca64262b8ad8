"""The scripts that measure still run, if briefly, and their tables print what they wrote."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "experiments"
ONE_RUN = ["--algorithms", "sac", "--learning-rates", "0.001", "--layers", "-2"]
BRIEF = {
    "methods": ["--quick"],
    "critic_cost": ["--quick"],
    "estimators": ["--steps", "40"],
    "target_norm": ["--steps", "20", *ONE_RUN],
    "tracking": ["--updates", "20", "--envs", "Pendulum-v1", *ONE_RUN],
}


@pytest.mark.parametrize("name", BRIEF)
def test_it_measures_and_prints(name: str, tmp_path: Path) -> None:
    results = tmp_path / "results.csv"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for script in (
        ["measure.py", *BRIEF[name], "--out", str(results)],
        ["table.py", "--results", str(results)],
    ):
        done = subprocess.run(
            [sys.executable, str(FOLDER / name / script[0]), *script[1:]],
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("\n|") > 1
