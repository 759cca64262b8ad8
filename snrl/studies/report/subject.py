"""What a report is about: the runs of a folder, in the order in which they are shown."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from snrl.runs.errors import ConfigError
from snrl.runs.words import counted, crossed
from snrl.studies.collect import Table
from snrl.studies.panels import PANELS, Panel
from snrl.studies.report.style import Style, styles

if TYPE_CHECKING:
    import pandas as pd

# Which notices of one kind are given in full.
_SHOWN = 12


@dataclass(frozen=True)
class Subject:
    """The runs, and the order and the names of what is compared.

    Attributes:
        table: What was read.
        title: Name of the study, or of the folder.
        tasks: In the study's order, else sorted.
        algos: Likewise.
        variants: Likewise; the baseline first.
        baseline: The variant that others are compared with.
    """

    table: Table
    title: str
    tasks: tuple[str, ...]
    algos: tuple[str, ...]
    variants: tuple[str, ...]
    baseline: str

    @cached_property
    def styles(self) -> dict[str, Style]:
        """How each variant is drawn."""
        return styles(self.variants)

    @cached_property
    def panels(self) -> tuple[Panel, ...]:
        """The panels of which a run holds something; each with the measures that there are."""
        logged = set(self.table.evaluations["measure"].unique())
        held = []
        for panel in PANELS:
            measures = tuple(measure for measure in panel.measures if measure in logged)
            if measures:
                held.append(panel._replace(measures=measures))
        return tuple(held)

    @cached_property
    def description(self) -> str:
        """What is in the folder, in a line."""
        seeds = self.table.runs.groupby(["task", "algo", "variant"])["run"].nunique()
        design = crossed(
            task=len(self.tasks),
            algorithm=len(self.algos),
            variant=len(self.variants),
            seed=int(seeds.max()),
        )
        states = self.table.runs["status"].value_counts()
        done = ", ".join(f"{count} {status}" for status, count in states.items())
        return f"{design}: {counted(len(self.table.runs), 'run')}, {done}"

    @cached_property
    def runs(self) -> "pd.DataFrame":
        """The runs in the order in which they are shown, those that failed first."""
        runs = self.table.runs
        orders = {"task": self.tasks, "algo": self.algos, "variant": self.variants}
        keys = {name: runs[name].map(list(order).index) for name, order in orders.items()}
        keyed = runs.assign(**keys, failed=runs["status"] != "failed")
        order = keyed.sort_values(["failed", *orders, "seed"], kind="stable").index
        return runs.loc[order]

    @cached_property
    def notices(self) -> tuple[str, ...]:
        """What a reader must know before believing anything."""
        return (*self._missing(), *self._unfinished(), *self.table.notices)

    def _missing(self) -> list[str]:
        planned = 1
        for axis in ("tasks", "algorithms", "variants", "seeds"):
            content = self.table.study.get(axis)
            if not isinstance(content, Mapping | list):
                return []
            planned *= len(content)
        missing = planned - len(self.table.runs)
        if missing <= 0:
            return []
        return [f"{missing} of the {planned} runs of the study are not there yet."]

    def _unfinished(self) -> list[str]:
        runs = self.table.runs
        left = runs[~runs["status"].isin(["done", "unknown"])]
        lines = [
            f"{run.run}: {run.status} after {run.timesteps:,} steps"
            + (f", {run.reason}" if isinstance(run.reason, str) else "")
            for run in left.head(_SHOWN).itertuples()
        ]
        if len(left) > _SHOWN:
            lines.append(f"… and {len(left) - _SHOWN} more runs that are not done: see the table")
        return lines


def subject(table: Table, baseline: str | None = None) -> Subject:
    """Put the runs of a folder in order.

    Args:
        table: What was read from it.
        baseline: The variant that others are compared with; None for the study's, else ``plain``,
            else the first.

    Returns:
        What the report is about.

    Raises:
        ConfigError: If there are no runs, or none of the baseline.
    """
    if table.runs.empty:
        skipped = f"; skipped: {table.notices[0]}" if table.notices else ""
        raise ConfigError(
            f"{table.folder} holds no runs: give a folder of python -m snrl.run, snrl.compare, "
            f"RL Zoo or Stable-Baselines3, or both Parquet files of a report{skipped}"
        )
    study = table.study
    variants = _order(table.runs["variant"].unique(), study.get("variants"))
    if baseline is None:
        stated = [name for name in (study.get("baseline"), "plain") if name in variants]
        baseline = [*stated, *variants][0]
    elif baseline not in variants:
        raise ConfigError(
            f"there are no runs of the baseline {baseline}; variants: {', '.join(variants)}"
        )
    others = [variant for variant in variants if variant != baseline]
    name = study.get("name")
    return Subject(
        table,
        str(name) if name else table.folder.resolve().name,
        tuple(_order(table.runs["task"].unique(), study.get("tasks"))),
        tuple(_order(table.runs["algo"].unique(), study.get("algorithms"))),
        (baseline, *others),
        baseline,
    )


def _order(found: Iterable[str], stated: Any) -> list[str]:
    """As the study states it; what it does not name is sorted, numbers by their size."""
    known = [str(name) for name in stated] if isinstance(stated, Mapping | list) else []
    names = [str(name) for name in found]

    def natural(name: str) -> list[tuple[str, int]]:
        return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", name)]

    rest = sorted((name for name in names if name not in known), key=natural)
    return [name for name in known if name in names] + rest
