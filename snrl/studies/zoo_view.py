"""A view of run folders under the names that RL Zoo's plotting scripts look for."""

import os
import re
import shlex
import shutil
from pathlib import Path

from snrl.runs.errors import ConfigError
from snrl.runs.folder import RunFolder
from snrl.studies.collect import Table


def zoo_view(table: Table, folder: Path) -> str:
    """Link runs as ``<folder>/<variant>/<algo>/<task>_<n>``, as RL Zoo's ``all_plots`` reads them.

    The links are relative, so that runs and view can be moved together. ``n`` counts the runs of a
    variant, algorithm and task by seed, from 1. Runs without an evaluation are left out. A former
    view in the folder is replaced, and nothing else is.

    The script takes runs whose evaluations are as many as those of the others, and, for ``-o``, at
    least two runs with at least two episodes in each evaluation.

    Args:
        table: The runs.
        folder: Where to make the view.

    Returns:
        The command that reads it.

    Raises:
        ConfigError: If the folder holds anything but a view or cannot be written, or no run has
            evaluations.
    """
    runs = table.runs.sort_values(["variant", "algo", "task", "seed", "run"])
    links: dict[Path, Path] = {}
    for key, rows in runs.groupby(["variant", "algo", "task"], sort=True):
        variant, algo, task = (_name(str(part)) for part in key)
        paths = [path for run in rows["run"] if (path := _evaluated(table.folder / run))]
        for number, path in enumerate(paths, start=1):
            links[folder / variant / algo / f"{task}_{number}"] = path
    if not links:
        raise ConfigError(f"{table.folder} holds no run with evaluations")
    if not _is_view(folder):
        raise ConfigError(f"{folder} holds something else; give a folder for the view alone")
    try:
        shutil.rmtree(folder, ignore_errors=True)
        for link, path in links.items():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(path.resolve(), link.parent.resolve()))
    except OSError as error:
        raise ConfigError(f"cannot make the view {folder}: {error.strerror}") from error
    parts = [link.relative_to(folder).parts for link in links]
    variants, algos = (list(dict.fromkeys(names)) for names in list(zip(*parts, strict=True))[:2])
    tasks = sorted({_name(task) for task in runs["task"]})
    command = ["python", "-m", "rl_zoo3.plots.all_plots", "-a", *algos, "-e", *tasks]
    command += ["-f", *(str(folder / variant) for variant in variants), "-l", *variants]
    return shlex.join([*command, "-o", str(folder / "results"), "--no-million"])


def _evaluated(run: Path) -> Path | None:
    return run if RunFolder(run).evaluations.is_file() else None


def _is_view(folder: Path) -> bool:
    """Whether there is nothing in the folder but folders, links, and a result of the scripts."""
    if folder.is_symlink() or folder.is_file():
        return False
    return all(
        path.suffix == ".pkl" or (Path(root) / path).is_symlink()
        for root, _, files in os.walk(folder)
        for path in map(Path, files)
    )


def _name(text: str) -> str:
    """A name without separators of folders."""
    return re.sub(r"[/\\]", "-", str(text))
