"""From logs to scores: one number for each run and measure."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from snrl.studies.collect import Table
from snrl.studies.collect.folders import task_name
from snrl.studies.statistics.aggregates import Scores
from snrl.studies.statistics.curves import align, area

if TYPE_CHECKING:
    import pandas as pd

RETURN = "eval/mean_reward"
# What stands for a whole run: the last evaluation; the mean over the last tenth of training; the
# mean level along training (the area under the curve).
HOWS = ("final", "last_tenth", "auc")

_CELL = ["task", "algo", "variant"]
_FINISHED = 0.9


@dataclass(frozen=True)
class RunScores:
    """The scores of all runs that ended.

    Attributes:
        frame: A row per run and measure: ``run``, ``task``, ``algo``, ``variant``, ``seed``,
            ``diverged``, ``measure``, and the scores ``final``, ``last_tenth`` and ``auc``.
        notices: What was left out or put in place of something, a line each.
    """

    frame: "pd.DataFrame"
    notices: tuple[str, ...]


def run_scores(table: Table, measures: Collection[str] | None = None) -> RunScores:
    """Score every run that ended.

    ``final`` is the last evaluation (its mean over episodes), ``last_tenth`` the mean over the
    evaluations after 90% of training, ``auc`` the area under the curve over its length.

    A run that diverged (it was stopped for it, or its last return is no finite number) is not left
    out, which would flatter whatever diverges: its return is that of its worst evaluation, or, if
    it has none, the worst of any run of the task. Its other measures are left out, as they were
    taken at another time. Runs that are not finished are left out.

    Args:
        table: The runs.
        measures: Which; None for the return and all of ``values/`` and ``sn/`` but for those of
            single layers.

    Returns:
        The scores.
    """
    import pandas as pd

    runs = table.runs.set_index("run")
    logged = table.evaluations
    kept = [
        name
        for name in logged["measure"].cat.categories
        if (name in measures if measures is not None else _is_default(name))
    ]
    logged = logged[logged["measure"].isin(kept)]
    diverged = _diverged(table)
    finished = {str(name) for name, run in runs.iterrows() if name in diverged or _is_finished(run)}
    rows = []
    worst: dict[str, float] = {}
    for run, measure, steps, values in _series(logged):
        if measure == RETURN and np.isfinite(values).any():
            low = float(values[np.isfinite(values)].min())
            worst[run] = low
        if run in finished and run not in diverged and (found := _score(steps, values)):
            rows.append((run, measure, *found))
    tasks = runs["task"].to_dict()
    if measures is None or RETURN in measures:
        for run in sorted(diverged):
            others = (low for name, low in worst.items() if tasks[name] == tasks[run])
            low = worst.get(run, min(others, default=np.nan))
            rows.append((run, RETURN, low, low, low))
    frame = pd.DataFrame(rows, columns=["run", "measure", *HOWS])
    frame = frame.assign(
        **{column: frame["run"].map(runs[column]) for column in (*_CELL, "seed")},
        diverged=frame["run"].isin(list(diverged)),
    )
    frame = frame[["run", *_CELL, "seed", "diverged", "measure", *HOWS]]
    return RunScores(frame, tuple(_notices(runs, finished, diverged)))


def normalize(scores: ArrayLike, low: ArrayLike, high: ArrayLike) -> Scores:
    """Bring the returns of a task between two references: 0 at ``low``, 1 at ``high``.

    Args:
        scores: Of any shape. Not modified.
        low: Reference that counts as 0, often a random policy; broadcast.
        high: Reference that counts as 1; broadcast.

    Returns:
        ``(scores - low) / (high - low)``, not clipped.

    Raises:
        ValueError: If the references are equal or not finite.
    """
    bottom, top = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    if not (np.isfinite(bottom).all() and np.isfinite(top).all() and (bottom != top).all()):
        raise ValueError(f"references must be finite and differ, got {bottom} and {top}")
    return np.asarray((np.asarray(scores, dtype=np.float64) - bottom) / (top - bottom))


def references(study: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """The references ``{task: (low, high)}`` that a study states, by the tasks' names in tables."""
    stated: Mapping[str, Any] = study.get("references") or {}
    return {
        task_name(task): (float(pair["low"]), float(pair["high"])) for task, pair in stated.items()
    }


def groups(
    frame: "pd.DataFrame", columns: Sequence[str]
) -> Iterator[tuple[tuple[str, ...], "pd.DataFrame"]]:
    """The rows that have the same texts in some columns, in the order of these texts."""
    for key, rows in frame.groupby(list(columns), sort=True):
        yield tuple(str(part) for part in key), rows


def score_matrix(
    frame: "pd.DataFrame", tasks: Sequence[str], how: str = "final", by_seed: bool = False
) -> Scores:
    """Arrange scores of one algorithm, variant and measure as the statistics take them.

    Args:
        frame: Rows of a :class:`RunScores`.
        tasks: The columns.
        how: Which score.
        by_seed: Whether rows are the seeds in ascending order of all that there are in ``frame``,
            so that a row is one seed; runs without a seed are left out, and those of one seed are
            averaged. Otherwise a column holds its task's runs, in the order of their seeds.

    Returns:
        Shape ``(n_runs, n_tasks)``, NaN where a task has fewer runs.
    """
    if by_seed:
        seeded = frame[frame["seed"].notna()]
        wide = seeded.groupby(["seed", "task"])[how].mean().unstack("task")
        return np.asarray(wide.reindex(columns=list(tasks)).to_numpy(dtype=np.float64))
    frame = frame.sort_values(["seed", "run"])
    columns = [frame.loc[frame["task"] == task, how].to_numpy(dtype=np.float64) for task in tasks]
    matrix = np.full((max(1, *(len(column) for column in columns)), len(columns)), np.nan)
    for index, column in enumerate(columns):
        matrix[: len(column), index] = column
    return matrix


def curve_array(
    table: Table,
    algo: str,
    variant: str,
    tasks: Sequence[str],
    grid: ArrayLike,
    measure: str = RETURN,
    normalised: Mapping[str, tuple[float, float]] | None = None,
) -> Scores:
    """Arrange learning curves as :func:`sample_efficiency` takes them.

    Args:
        table: The runs; those that are not finished are taken as far as they are.
        algo: The algorithm.
        variant: The variant.
        tasks: The tasks.
        grid: Environment steps to interpolate to, shape ``(n_points,)``; shares of each run's
            planned steps where no step exceeds 1, for tasks of different lengths.
        measure: The measure.
        normalised: References by task, to normalise by.

    Returns:
        Shape ``(n_runs, n_tasks, n_points)``, NaN where a task has fewer runs.
    """
    points = np.asarray(grid, dtype=np.float64)
    rows = table.evaluations
    rows = rows[
        (rows["algo"] == algo) & (rows["variant"] == variant) & (rows["measure"] == measure)
    ]
    task_of = table.runs.set_index("run")["task"].to_dict()
    curves: dict[str, list[Scores]] = {task: [] for task in tasks}
    for run, _, steps, values in _series(rows):
        if (task := task_of[run]) not in curves:
            continue
        at = points * steps[-1] if points.max() <= 1 else points
        curve = align(steps, values, at)
        if normalised is not None:
            curve = normalize(curve, *normalised[task])
        curves[task].append(curve)
    most = max(1, *(len(found) for found in curves.values()))
    array = np.full((most, len(tasks), len(points)), np.nan)
    for index, task in enumerate(tasks):
        for row, curve in enumerate(curves[task]):
            array[row, index] = curve
    return array


def _series(logged: "pd.DataFrame") -> Iterator[tuple[str, str, Any, Any]]:
    """Each run's series of each measure, in the order of steps."""
    if not len(logged):
        return
    run, measure = logged["run"].cat, logged["measure"].cat
    steps, values = logged["timesteps"].to_numpy(), logged["value"].to_numpy()
    of_run, of_measure = run.codes.to_numpy(), measure.codes.to_numpy()
    order = np.lexsort((steps, of_measure, of_run))
    of_run, of_measure, steps, values = (x[order] for x in (of_run, of_measure, steps, values))
    starts = np.flatnonzero((np.diff(of_run) != 0) | (np.diff(of_measure) != 0)) + 1
    edges = [0, *starts.tolist(), len(order)]
    for start, end in pairwise(edges):
        names = run.categories[of_run[start]], measure.categories[of_measure[start]]
        yield *names, steps[start:end], values[start:end]


def _score(steps: Any, values: Any) -> tuple[float, float, float] | None:
    known = np.isfinite(values)
    if not known.any():
        return None
    found, at = values[known], steps[known]
    late = found[at > 0.9 * steps[-1]]
    tail = float(late.mean()) if late.size else float(found[-1])
    return float(found[-1]), tail, area(at, found)


def _is_default(measure: str) -> bool:
    """Tell the return and what is measured of a whole critic from the numbers of each layer."""
    room, _, name = measure.partition("/")
    return measure == RETURN or (room in ("values", "sn") and "/" not in name)


def _is_finished(run: "pd.Series[Any]") -> bool:
    if run["status"] != "unknown":
        return bool(run["status"] == "done")
    total = run["total_timesteps"]
    # Missing as pandas has it, which compares to nothing.
    return str(total) == "<NA>" or bool(run["timesteps"] >= _FINISHED * total)


def _diverged(table: Table) -> set[str]:
    failed = table.runs[table.runs["status"] == "failed"]
    reasons = failed["reason"].fillna("").astype(str)
    stopped = set(failed.loc[reasons.str.startswith("diverged"), "run"])
    returns = table.evaluations[table.evaluations["measure"] == RETURN]
    ends = {run for run, _, _, values in _series(returns) if not np.isfinite(values[-1])}
    return stopped | ends


def _notices(runs: "pd.DataFrame", finished: set[str], diverged: set[str]) -> Iterator[str]:
    left = len(runs) - len(finished)
    if left:
        verb = "is" if left == 1 else "are"
        yield f"{left} of {len(runs)} runs {verb} not finished, and left out"
    if diverged:
        cells = groups(runs.loc[sorted(diverged)], _CELL)
        which = ", ".join(f"{len(rows)} of {' '.join(cell)}" for cell, rows in cells)
        yield (
            f"{len(diverged)} of {len(runs)} runs diverged ({which}): each counts with the return "
            "of its worst evaluation, and with no other measure"
        )
