import signal
import subprocess
import sys
from pathlib import Path

import pytest

from snrl.runs.errors import ConfigError
from snrl.runs.lock import is_locked, locked

HOLD = (
    "import sys, time; from pathlib import Path; from snrl.runs.lock import locked\n"
    "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
)


def test_one_at_a_time(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    with locked(tmp_path):
        assert is_locked(tmp_path)
        with pytest.raises(ConfigError, match=r"is in use by another process"), locked(tmp_path):
            pass
    assert not is_locked(tmp_path)
    with locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"cannot write to .*: No such file"),
        locked(tmp_path / "x"),
    ):
        pass
    (tmp_path / ".lock").mkdir()
    with pytest.raises(ConfigError, match=r"cannot write to .*: Is a directory"), locked(tmp_path):
        pass


def test_a_process_that_is_killed_leaves_no_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert is_locked(tmp_path)
        process.send_signal(signal.SIGKILL)
    assert not is_locked(tmp_path)
