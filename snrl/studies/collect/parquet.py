"""The tables as Parquet files, which hold all that a report needs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snrl.runs.errors import ConfigError
from snrl.runs.folder import written_aside
from snrl.studies.collect.table import KEYS, Table

_RUNS, _EVALUATIONS = "runs.parquet", "evaluations.parquet"
# The marks of our files: what the columns cannot hold, in the metadata that pandas keeps.
_STUDY, _NOTICES = "study", "notices"
_NUMBERS = ("timesteps", "measure", "value")


def write_parquet(table: Table, folder: Path) -> tuple[Path, Path]:
    """Write ``runs.parquet`` and ``evaluations.parquet``, each whole or not at all.

    Study and notices go with the runs (``DataFrame.attrs``), as JSON: what it does not know in a
    study, such as a date, becomes a text.

    Args:
        table: What to write.
        folder: Where to; it is made if it is not there.

    Returns:
        The two files.

    Raises:
        ConfigError: If the files cannot be written, or pyarrow is not installed.
    """
    runs, evaluations = folder / _RUNS, folder / _EVALUATIONS
    marked = table.runs.copy(deep=False)
    marked.attrs = {_STUDY: _plain(table.study), _NOTICES: list(table.notices)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, frame in ((runs, marked), (evaluations, table.evaluations)):
            with written_aside(file) as aside:
                frame.to_parquet(aside, engine="pyarrow", compression="zstd", index=False)
    except ImportError as error:
        raise ConfigError('Parquet needs pyarrow: pip install "snrl[studies]"') from error
    except OSError as error:
        raise ConfigError(f"cannot write {folder}: {error.strerror or error}") from error
    return runs, evaluations


def holds_tables(folder: Path) -> bool:
    """Whether :func:`write_parquet` has written into a folder."""
    return (folder / _RUNS).is_file() and (folder / _EVALUATIONS).is_file()


def read_parquet(folder: Path) -> Table:
    """Read what :func:`write_parquet` wrote.

    Args:
        folder: Holds the two files.

    Returns:
        The tables, with their study and notices.

    Raises:
        ConfigError: If a file is damaged or was not written by :func:`write_parquet`, if the two
            are not of one report, or pyarrow is not installed.
    """
    import pandas as pd

    try:
        runs, evaluations = (
            pd.read_parquet(folder / name, engine="pyarrow") for name in (_RUNS, _EVALUATIONS)
        )
    except ImportError as error:
        raise ConfigError('Parquet needs pyarrow: pip install "snrl[studies]"') from error
    except (OSError, ValueError) as error:
        line = " ".join(str(error).split())
        raise ConfigError(f"cannot read the tables in {folder}: {line}") from error
    study: Any = runs.attrs.get(_STUDY)
    notices: Any = runs.attrs.get(_NOTICES)
    is_ours = isinstance(study, dict) and isinstance(notices, list)
    _check(folder / _RUNS, is_ours and set(KEYS) <= set(runs))
    _check(folder / _EVALUATIONS, {*KEYS, *_NUMBERS} <= set(evaluations))
    if not set(evaluations["run"]) <= set(runs["run"]):
        raise ConfigError(f"{_RUNS} and {_EVALUATIONS} in {folder} are of two reports; take one's")
    runs.attrs = {}
    return Table(folder, runs, evaluations, study, tuple(notices))


def _check(file: Path, is_ours: bool) -> None:
    if not is_ours:
        raise ConfigError(
            f"{file} is not of snrl.report, or of an older one; give a folder of runs or of a "
            "newer report"
        )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
