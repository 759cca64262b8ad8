"""Everything that is compared in a set of runs, as tables."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from snrl.runs.words import counted
from snrl.studies.collect import Table
from snrl.studies.statistics.aggregates import Scores, iqm, mean, median, optimality_gap
from snrl.studies.statistics.bootstrap import FEW, Options, bounds, interval
from snrl.studies.statistics.differences import flat, paired_table, patterns
from snrl.studies.statistics.improvement import probability_of_improvement
from snrl.studies.statistics.scores import (
    HOWS,
    RETURN,
    groups,
    normalize,
    references,
    run_scores,
    score_matrix,
)
from snrl.studies.statistics.words import FEW_SEEDS, best_of
from snrl.values.measures.stability import seed_stability

if TYPE_CHECKING:
    import pandas as pd

AGGREGATES = {"iqm": iqm, "median": median, "mean": mean, "optimality_gap": optimality_gap}


@dataclass(frozen=True)
class Summary:
    """What a set of runs says.

    Attributes:
        scores: A row per run and measure, as of :func:`run_scores`.
        cells: A row per measure, ``how``, task, algorithm and variant: ``n`` (runs), ``mean`` and
            ``iqm`` with the ends of their intervals (``mean_low`` and so on), ``std``, and of
            returns ``n_diverged`` and :func:`seed_stability`'s two.
        aggregates: A row per ``how``, algorithm, variant and ``statistic`` (``iqm``, ``median``,
            ``mean``, ``optimality_gap``) of returns normalised by the study's references:
            ``estimate``, ``low``, ``high``, ``runs``, ``tasks``.
        differences: A row per measure, ``how``, task, algorithm and variant other than the
            baseline: ``pairs``, ``difference`` (variant minus baseline by seed; of the distances
            from ``best`` where that is a finite number), ``low``, ``high``, ``p``, ``p_holm`` (over
            the ``comparisons`` of the same measure and ``how``), ``best`` (infinity: more is
            better; missing: neither is), ``grade`` and the ``sentence``. The task ``all`` is the
            mean over tasks of normalised returns, and of measures without a unit.
        improvement: A row per measure with a best number, ``how``, algorithm and variant other than
            the baseline: ``probability`` of doing better than the baseline, ``low``, ``high``.
        baseline: What is compared with.
        notices: What the reader should know, a line each.
        options: How the intervals were made.
    """

    scores: "pd.DataFrame"
    cells: "pd.DataFrame"
    aggregates: "pd.DataFrame"
    differences: "pd.DataFrame"
    improvement: "pd.DataFrame"
    baseline: str | None
    notices: tuple[str, ...]
    options: Options


def summarise(
    table: Table,
    *,
    baseline: str | None = None,
    measures: Collection[str] | None = None,
    hows: Sequence[str] = HOWS,
    options: Options | None = None,
) -> Summary:
    """Compare all runs that ended.

    Args:
        table: The runs.
        baseline: The variant that others are compared with; None for the study's, else ``plain``.
        measures: Which; None for those of :func:`run_scores`.
        hows: What stands for a run: ``final``, ``last_tenth``, ``auc``.
        options: How the intervals are made; None for 95%, 10,000 resamples and seed 0.

    Returns:
        The tables.
    """
    import pandas as pd

    options = options or Options()
    scored = run_scores(table, measures)
    frame = scored.frame
    notices = list(scored.notices)
    variants = list(dict.fromkeys(frame["variant"]))
    baseline = baseline or table.study.get("baseline") or "plain"
    if baseline not in variants:
        notices.append(f"nothing is compared: there are no runs of the baseline, {baseline}")
    ranges = references(table.study)
    tasks = sorted(set(frame["task"]))
    if missing := [task for task in tasks if task not in ranges]:
        notices.append(
            f"returns are not aggregated over tasks: no references for {', '.join(missing)}"
        )
        ranges = {}
    cells = pd.DataFrame(_cells(frame, hows, options))
    # Where returns are not asked for, or were never evaluated, what was measured instead counts.
    judged = cells[cells["measure"] == RETURN] if RETURN in set(frame["measure"]) else cells
    if len(cells) and (few := int(judged["n"].min())) < FEW:
        notices.append(f"as few as {counted(few, 'seed')}: {FEW_SEEDS}")
    return Summary(
        scores=frame,
        cells=cells,
        aggregates=pd.DataFrame(_aggregates(frame, tasks, hows, ranges, options)),
        differences=paired_table(frame, tasks, hows, baseline, ranges, options),
        improvement=pd.DataFrame(_improvement(frame, tasks, hows, baseline, options)),
        baseline=baseline if baseline in variants else None,
        notices=tuple(notices),
        options=options,
    )


def _cells(
    frame: "pd.DataFrame", hows: Sequence[str], options: Options
) -> Iterator[dict[str, Any]]:
    for (task, algo, variant), cell in groups(frame, ("task", "algo", "variant")):
        # In the order of their seeds, so that the draws do not depend on the names of folders.
        runs = cell.assign(seed=cell["seed"].fillna(-1)).set_index(["seed", "run", "measure"])
        wide = runs[list(hows)].unstack("measure").sort_index()
        names = flat(wide.columns)
        numbers = wide.to_numpy(dtype=np.float64)
        n_diverged = int(cell.loc[cell["diverged"], "run"].nunique())
        for columns in patterns(numbers):
            known = numbers[:, columns]
            known = known[~np.isnan(known[:, 0])]
            values = known.T[:, :, None]
            ends = {
                name: bounds(values, statistic, options.confidence, options.resamples, options.seed)
                for name, statistic in (("mean", mean), ("iqm", iqm))
            }
            for place, column in enumerate(columns):
                how, measure = names[column]
                row: dict[str, Any] = {"measure": measure, "how": how, "task": task, "algo": algo}
                row |= {"variant": variant, "n": len(known)}
                for name, statistic in (("mean", mean), ("iqm", iqm)):
                    row[name] = float(statistic(values[place]))
                    row[f"{name}_low"] = float(ends[name][0][place])
                    row[f"{name}_high"] = float(ends[name][1][place])
                few = len(known) < 2
                row["std"] = math.nan if few else float(known[:, place].std(ddof=1))
                if measure == RETURN:
                    stability = seed_stability(known[:, place])
                    row["n_diverged"] = n_diverged
                    row["coefficient_of_variation"] = stability.coefficient_of_variation
                    row["worst_over_mean"] = stability.worst_over_mean
                yield row


def _aggregates(
    frame: "pd.DataFrame",
    tasks: Sequence[str],
    hows: Sequence[str],
    ranges: Mapping[str, tuple[float, float]],
    options: Options,
) -> Iterator[dict[str, Any]]:
    if not ranges:
        return
    returns = frame[frame["measure"] == RETURN]
    low, high = np.array([ranges[task] for task in tasks]).T
    for (algo, variant), rows in groups(returns, ("algo", "variant")):
        for how in hows:
            matrix = normalize(score_matrix(rows, tasks, how), low, high)
            there = ~np.isnan(matrix)
            for name, statistic in AGGREGATES.items():
                found = interval(
                    matrix, statistic, options.confidence, options.resamples, options.seed
                )
                yield {
                    "how": how,
                    "algo": algo,
                    "variant": variant,
                    "statistic": name,
                    "estimate": found.estimate,
                    "low": found.low,
                    "high": found.high,
                    "runs": int(there.sum()),
                    "tasks": int(there.any(0).sum()),
                }


def _improvement(
    frame: "pd.DataFrame",
    tasks: Sequence[str],
    hows: Sequence[str],
    baseline: str,
    options: Options,
) -> Iterator[dict[str, Any]]:
    for (measure, algo), rows in groups(frame, ("measure", "algo")):
        if (best := best_of(measure)) is None:
            continue
        theirs = rows[rows["variant"] == baseline]
        for (variant,), ours in groups(rows[rows["variant"] != baseline], ("variant",)):
            for how in hows if len(theirs) else ():
                x, y = (_goodness(score_matrix(part, tasks, how), best) for part in (ours, theirs))
                found = probability_of_improvement(
                    x, y, options.confidence, options.resamples, options.seed
                )
                yield {
                    "measure": measure,
                    "how": how,
                    "algo": algo,
                    "variant": variant,
                    "baseline": baseline,
                    "probability": found.estimate,
                    "low": found.low,
                    "high": found.high,
                }


def _goodness(scores: Scores, best: float) -> Scores:
    return scores if math.isinf(best) else -np.abs(scores - best)
