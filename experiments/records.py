"""What measurements share: results that grow, and a process per number of threads."""

import csv
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path


class Records:
    """A CSV file of results, to which settings are added one by one, and none twice.

    Args:
        path: The file; it is made with the first rows.
        fields: Its columns. The first ones tell a setting apart from others.
        key_length: How many those are.
    """

    def __init__(self, path: Path, fields: Sequence[str], key_length: int) -> None:
        """Read which settings are there."""
        self.path, self.fields, self._key = path, fields, fields[:key_length]
        self._done = set()
        if path.exists():
            with path.open() as file:
                self._done = {tuple(row[f] for f in self._key) for row in csv.DictReader(file)}

    def has(self, setting: Iterable[object]) -> bool:
        """Whether a setting has been measured."""
        return tuple(map(str, setting)) in self._done

    def add(self, setting: Iterable[object], rows: Iterable[Mapping[str, object]]) -> None:
        """Write the rows of a setting, whose own columns they need not have."""
        key = dict(zip(self._key, setting, strict=True))
        is_new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self.fields)
            if is_new:
                writer.writeheader()
            writer.writerows({**key, **row} for row in rows)
        self._done.add(tuple(map(str, key.values())))


def per_threads(script: str, threads: Sequence[int], measure: Callable[[int], None]) -> None:
    """Measure with each number of threads.

    Of several, each is a process of its own, which gives the script's command with that number:
    OpenMP reads it once, when it is loaded.

    Args:
        script: The script, which takes ``--threads``.
        threads: The numbers.
        measure: Is called with the number if there is one alone.
    """
    if len(threads) == 1:
        measure(*threads)
        return
    for number in threads:
        command = [sys.executable, script, *sys.argv[1:], "--threads", str(number)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": str(number)})
