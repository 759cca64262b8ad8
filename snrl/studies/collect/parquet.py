"""The tables as Parquet files, which hold all that a report needs."""

from pathlib import Path

from snrl.runs.errors import ConfigError
from snrl.runs.folder import written_aside
from snrl.studies.collect.table import Table

_RUNS, _EVALUATIONS = "runs.parquet", "evaluations.parquet"
# The marks of our files: what the columns cannot hold, in the metadata that pandas keeps.
_STUDY, _NOTICES = "study", "notices"


def write_parquet(table: Table, folder: Path) -> tuple[Path, Path]:
    """Write ``runs.parquet`` and ``evaluations.parquet``, each whole or not at all.

    Study and notices go with the runs (``DataFrame.attrs``).

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
    marked.attrs = {_STUDY: dict(table.study), _NOTICES: list(table.notices)}
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
        ConfigError: If a file is damaged or was not written by :func:`write_parquet`, or pyarrow is
            not installed.
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
    if not {_STUDY, _NOTICES} <= runs.attrs.keys():
        raise ConfigError(
            f"{folder / _RUNS} is not of snrl.report; give a folder of runs or of a report"
        )
    study, notices = runs.attrs[_STUDY], tuple(runs.attrs[_NOTICES])
    runs.attrs = {}
    return Table(folder, runs, evaluations, study, notices)
