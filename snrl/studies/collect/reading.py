"""All runs below a folder, whatever wrote them."""

from pathlib import Path

from snrl.runs.errors import ConfigError
from snrl.studies.collect.documents import read_yaml
from snrl.studies.collect.folders import STUDY, find
from snrl.studies.collect.parquet import holds_tables, read_parquet
from snrl.studies.collect.record import Notices
from snrl.studies.collect.table import Table, tabulate
from snrl.studies.collect.variants import name_variants


def collect(folder: Path) -> Table:
    """Read all run folders below a folder: of snrl, of plain SB3 and of RL Zoo.

    In a study (a folder with ``study.yaml``) the variant is the name of the folder above a run's.
    Elsewhere it is made from the settings in which runs differ, or, where there are none, from the
    path. Damaged and half-written files are read as far as they are whole, with a notice. A folder
    without runs, but with the files of :func:`write_parquet`, gives the tables that were written.

    Args:
        folder: Holds runs, at any depth, or is one, or holds tables.

    Returns:
        The tables; empty, with all columns, if there are no runs.

    Raises:
        ConfigError: If there is no such folder, tables in it are damaged, or pandas is not
            installed.
    """
    try:
        import pandas as pd  # noqa: F401
    except ImportError as error:
        raise ConfigError('tables need pandas: pip install "snrl[studies]"') from error
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder; give one that holds runs")
    found = list(find(folder))
    # Tables beside runs are of a report on them, which may have been made before the latest run.
    if not found and holds_tables(folder):
        return read_parquet(folder)
    notices = Notices()
    study = read_yaml(folder / STUDY, notices)
    names, records = [], []
    for path, root, reader in found:
        record = reader(path, notices)
        if record is None:
            continue
        if root is not None and len(parts := path.relative_to(root).parts) == 5:
            record.variant = parts[3]
        names.append(path.relative_to(folder).as_posix())
        records.append(record)
    name_variants(records)
    said = tuple(line.removeprefix(f"{folder}/") for line in notices.lines)
    return tabulate(folder, names, records, study, said)
