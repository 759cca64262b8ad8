"""Runs as two tidy tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from snrl.studies.collect.record import Record
from snrl.studies.collect.variants import plain_text

if TYPE_CHECKING:
    import pandas as pd

KEYS = ("run", "task", "algo", "variant", "seed")
CONFIG = "config/"


@dataclass(frozen=True)
class Table:
    """All runs below a folder.

    Attributes:
        folder: Where they were found.
        runs: A row per run: ``run`` (its path below the folder), ``task``, ``algo``, ``variant``,
            ``seed`` (Int64, missing where it is not known), ``status`` (``done``, ``running``,
            ``interrupted``, ``failed`` or ``unknown``), ``reason``, ``timesteps`` (done),
            ``total_timesteps`` (Int64, planned), ``command`` (the command line that the run noted,
            missing if it noted none), and the configuration, a column ``config/<name>`` for each
            setting; settings that are no plain value of one type are texts.
        evaluations: A row per number that was logged: ``run``, ``task``, ``algo``, ``variant``
            (categories), ``seed``, ``timesteps`` (int64, environment steps), ``measure`` (a
            category: ``eval/mean_reward``, the mean over the episodes of an evaluation, and SB3's
            and snrl's logger keys), ``value`` (float64; NaN and infinities stay what they are).
        study: What ``study.yaml`` holds; empty where there is none.
        notices: What was skipped, a line per file, whose path is below the folder.
    """

    folder: Path
    runs: "pd.DataFrame"
    evaluations: "pd.DataFrame"
    study: Mapping[str, Any]
    notices: tuple[str, ...]


def tabulate(
    folder: Path,
    names: Sequence[str],
    records: Sequence[Record],
    study: Mapping[str, Any],
    notices: tuple[str, ...],
) -> Table:
    """Put runs into tables; ``names`` are theirs, in the same order."""
    runs, evaluations = _runs(names, records), _evaluations(names, records)
    return Table(folder, runs, evaluations, study, notices)


def _runs(names: Sequence[str], records: Sequence[Record]) -> "pd.DataFrame":
    import pandas as pd

    columns: dict[str, Any] = {
        "run": pd.array(list(names), dtype="str"),
        "task": pd.array([record.task for record in records], dtype="str"),
        "algo": pd.array([record.algo for record in records], dtype="str"),
        "variant": pd.array([record.variant for record in records], dtype="str"),
        "seed": pd.array([record.seed for record in records], dtype="Int64"),
        "status": pd.array([record.status for record in records], dtype="str"),
        "reason": _texts([record.reason for record in records]),
        "timesteps": np.array([record.timesteps for record in records], dtype=np.int64),
        "total_timesteps": pd.array([record.total_timesteps for record in records], dtype="Int64"),
        "command": _texts([record.command for record in records]),
    }
    settings = dict.fromkeys(name for record in records for name in record.config)
    for name in settings:
        columns[CONFIG + name] = _column([record.config.get(name) for record in records])
    return pd.DataFrame(columns)


def _column(values: Sequence[Any]) -> Any:
    """A column of one type: settings such as "auto" or 0.1 become texts."""
    import pandas as pd

    for types, dtype in (((bool,), "boolean"), ((int,), "Int64"), ((int, float), "Float64")):
        if all(value is None or type(value) in types for value in values):
            return pd.array(list(values), dtype=dtype)  # type: ignore[call-overload]
    return _texts([None if value is None else plain_text(value) for value in values])


def _texts(values: Sequence[str | None]) -> "pd.Series[str]":
    import pandas as pd

    # An array of "str" would make a text, "None", of what is missing.
    return pd.Series(list(values), dtype="str")


def _evaluations(names: Sequence[str], records: Sequence[Record]) -> "pd.DataFrame":
    import pandas as pd

    measures = sorted({measure for record in records for measure in record.series})
    code = {measure: number for number, measure in enumerate(measures)}
    series = [
        (run, code[measure], found)
        for run, record in enumerate(records)
        for measure, found in record.series.items()
    ]
    lengths = [len(found.values) for _, _, found in series]
    run = np.repeat(np.array([run for run, _, _ in series], dtype=np.intp), lengths)
    measure = np.repeat(np.array([number for _, number, _ in series], dtype=np.intp), lengths)

    def category(values: Sequence[str]) -> Any:
        kinds, codes = np.unique(np.array(values, dtype=object), return_inverse=True)
        return pd.Categorical.from_codes(codes[run], pd.Index(kinds.tolist(), dtype="str"))

    seeds = pd.array([record.seed for record in records], dtype="Int64")
    empty = [np.empty(0)]
    return pd.DataFrame(
        {
            "run": category(names),
            "task": category([record.task for record in records]),
            "algo": category([record.algo for record in records]),
            "variant": category([str(record.variant) for record in records]),
            "seed": seeds[run],
            "timesteps": np.concatenate([s.timesteps for _, _, s in series] or empty).astype("i8"),
            "measure": pd.Categorical.from_codes(measure, pd.Index(measures, dtype="str")),
            "value": np.concatenate([s.values for _, _, s in series] or empty),
        }
    )
