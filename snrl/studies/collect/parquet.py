"""The tables as Parquet files."""

from pathlib import Path

from snrl.runs.errors import ConfigError
from snrl.runs.folder import written_aside
from snrl.studies.collect.table import Table


def write_parquet(table: Table, folder: Path) -> tuple[Path, Path]:
    """Write ``runs.parquet`` and ``evaluations.parquet``, each whole or not at all.

    Args:
        table: What to write.
        folder: Where to; it is made if it is not there.

    Returns:
        The two files.

    Raises:
        ConfigError: If the files cannot be written, or pyarrow is not installed.
    """
    runs, evaluations = folder / "runs.parquet", folder / "evaluations.parquet"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, frame in ((runs, table.runs), (evaluations, table.evaluations)):
            with written_aside(file) as aside:
                frame.to_parquet(aside, engine="pyarrow", index=False)
    except ImportError as error:
        raise ConfigError('Parquet needs pyarrow: pip install "snrl[studies]"') from error
    except OSError as error:
        raise ConfigError(f"cannot write {folder}: {error.strerror or error}") from error
    return runs, evaluations
