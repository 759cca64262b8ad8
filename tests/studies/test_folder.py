"""A study folder belongs to one study, which may grow, and to one process at a time."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from snrl.runs.errors import ConfigError
from snrl.studies.definition import load_study
from snrl.studies.folder import StudyFolder

Write = Callable[..., Path]


def test_a_study_may_grow_and_not_change(write_study: Write, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "out")
    with folder.held():
        folder.take(load_study(write_study()))
        grown = load_study(write_study(seeds=4))
        folder.take(grown)
        assert load_study(folder.study) == grown
        kept = folder.study.read_bytes()
        common = {"total_timesteps": 1000, "tau": 0.5}
        with pytest.raises(ConfigError) as error:
            folder.take(load_study(write_study(seeds=4, common=common)))
        assert folder.study.read_bytes() == kept
    message = str(error.value)
    assert "Pendulum-v1/sac/plain: tau was 0.005, now 0.5; Pendulum-v1/sac/sn: tau" in message
    assert "; and 1 more; a study may only grow" in message


def test_runs_of_no_known_study_are_left_alone(write_study: Write, tmp_path: Path) -> None:
    (tmp_path / "out" / "runs").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"holds runs and no study\.yaml"):
        StudyFolder(tmp_path / "out").take(load_study(write_study()))


def test_another_process_is_refused_until_the_first_has_gone(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from snrl.studies.folder import StudyFolder\n"
        "with StudyFolder(pathlib.Path(sys.argv[1])).held(): print('held', flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        refused = pytest.raises(ConfigError, match="is in use by another process")
        with refused, StudyFolder(tmp_path).held():
            pass
        other.kill()
        other.wait()
    with StudyFolder(tmp_path).held():
        pass


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot make"), StudyFolder(tmp_path / "file").held():
        pass
