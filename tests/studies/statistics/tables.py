"""Tables as ``collect`` makes them, of made-up runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from snrl.studies.collect.record import Record, Series
from snrl.studies.collect.table import Table, tabulate

RETURN = "eval/mean_reward"


class Made(NamedTuple):
    """A run: its curves, by measure, at steps 10, 20, …"""

    task: str
    variant: str
    seed: int | None
    curves: Mapping[str, Sequence[float]]
    status: str = "done"
    reason: str | None = None
    algo: str = "sac"


def table_of(made: Sequence[Made], study: Mapping[str, Any] | None = None) -> Table:
    records = []
    for run in made:
        series = {
            name: Series(np.arange(1, len(curve) + 1) * 10, np.array(curve, dtype=float))
            for name, curve in run.curves.items()
        }
        record = Record(run.task, run.algo, run.variant, run.seed, run.status, run.reason)
        record.total_timesteps = 100
        record.add(series)
        records.append(record)
    names = [f"run{number}" for number in range(len(records))]
    return tabulate(Path("made"), names, records, study or {}, ())
