from pathlib import Path

import pytest

from snrl.runs.config import resolve
from snrl.runs.errors import ConfigError
from snrl.runs.folder import RunFolder, check_free, default_path, opened, written_aside

CONFIG = resolve("sac", {"sn": True, "env": "phys2d/Pendulum-v0", "seed": 3})


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    path.write_text("old")
    with written_aside(path) as aside:
        assert aside.parent == path.parent
        assert aside.suffix == ".npz"
        aside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file.zip"
    path.write_text("old")

    def write() -> None:
        with written_aside(path) as aside:
            aside.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_default_folders_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = []
    for _ in range(3):
        with opened(None, CONFIG, {}) as folder:
            made.append(folder.path.as_posix())
    first = "runs/sac-sn/phys2d_Pendulum-v0/seed3"
    assert default_path(CONFIG) == Path(first)
    assert made == [first, first + "-2", first + "-3"]


def test_a_folder_that_holds_a_run_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path / "run", CONFIG, {}):
        pass
    with (
        pytest.raises(ConfigError, match="holds another run"),
        opened(tmp_path / "run", CONFIG, {}),
    ):
        pass


def test_a_folder_with_other_files_is_taken(tmp_path: Path) -> None:
    (tmp_path / "job.log").touch()
    with opened(tmp_path, CONFIG, {}) as folder:
        assert folder.config.exists()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is not a folder"):
        check_free(tmp_path / "file")
    with (
        pytest.raises(ConfigError, match="cannot write the run folder"),
        opened(tmp_path / "file" / "run", CONFIG, {}),
    ):
        pass


def test_nothing_is_left_of_a_folder_that_could_not_be_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("snrl.runs.folder.yaml.safe_dump", fail)
    with (
        pytest.raises(ConfigError, match="No space left"),
        opened(tmp_path / "run", CONFIG, {}),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_files_of_a_run_are_the_documented_ones() -> None:
    folder = RunFolder(Path("r"))
    names = {p.name for p in (folder.config, folder.status, folder.progress, folder.model)}
    assert names == {"config.yaml", "status.json", "progress.json", "model.zip"}
    assert folder.evaluations.name == "evaluations.npz"
    assert folder.best_model.name == "best_model.zip"
