"""All paired comparisons of a set of runs, as a table."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from snrl.studies.statistics.aggregates import Scores
from snrl.studies.statistics.bootstrap import Options
from snrl.studies.statistics.pairs import PairedDifference, holm, paired_differences
from snrl.studies.statistics.scores import RETURN, groups, normalize
from snrl.studies.statistics.words import best_of, grade, in_words
from snrl.values.keys import find

if TYPE_CHECKING:
    import pandas as pd

ALL_TASKS = "all"
_ORDER = ["measure", "how", "task", "algo", "variant"]


def paired_table(
    frame: "pd.DataFrame",
    tasks: Sequence[str],
    hows: Sequence[str],
    baseline: str,
    ranges: Mapping[str, tuple[float, float]],
    options: Options,
) -> "pd.DataFrame":
    """Compare variants with the baseline, seed by seed: the ``differences`` of a summary.

    Args:
        frame: Rows of a :class:`RunScores`.
        tasks: All tasks.
        hows: What stands for a run.
        baseline: The variant to compare with.
        ranges: References of all tasks; empty if returns are not to be normalised.
        options: How the intervals are made.

    Returns:
        A row per comparison, corrected for the number of comparisons of its measure.
    """
    import pandas as pd

    found = list(_paired(frame, tasks, hows, baseline, ranges, options))
    families: dict[tuple[str, str, bool], list[int]] = {}
    for index, (row, _) in enumerate(found):
        # What is pooled over tasks is one question, what is true of each task another.
        family = row["measure"], row["how"], row["task"] == ALL_TASKS
        families.setdefault(family, []).append(index)
    for members in families.values():
        adjusted = holm([found[index][1].p_value for index in members])
        for index, p_holm in zip(members, adjusted, strict=True):
            row, difference = found[index]
            where = "all tasks, normalised" if row["task"] == ALL_TASKS else str(row["task"])
            row["p_holm"] = float(p_holm)
            row["comparisons"] = len(members)
            row["grade"] = grade(difference, float(p_holm))
            row["sentence"] = in_words(
                difference,
                float(p_holm),
                len(members),
                measure=row["measure"],
                how=row["how"],
                variant=row["variant"],
                baseline=baseline,
                where=f"{row['algo']} on {where}",
            )
    table = pd.DataFrame([row for row, _ in found])
    return table.sort_values(_ORDER, ignore_index=True) if len(table) else table


def _paired(
    frame: "pd.DataFrame",
    tasks: Sequence[str],
    hows: Sequence[str],
    baseline: str,
    ranges: Mapping[str, tuple[float, float]],
    options: Options,
) -> Iterator[tuple[dict[str, Any], PairedDifference]]:
    seeded = frame[frame["seed"].notna()]
    for (algo,), rows in groups(seeded, ("algo",)):
        keys = ["variant", "seed", "task", "measure"]
        wide = rows.groupby(keys)[list(hows)].mean().unstack(["task", "measure"])
        if baseline not in wide.index.get_level_values("variant"):
            continue
        for variant in wide.index.get_level_values("variant").unique().drop(baseline):
            ours, base = (_of_variant(wide, name) for name in (variant, baseline))
            both = ours.index.intersection(base.index)
            ours, base = ours.loc[both], base.loc[both]
            names = flat(wide.columns)
            named = {"algo": algo, "variant": variant, "baseline": baseline}
            for task, columns in _comparable(names, tasks, ranges):
                used = [task] if task != ALL_TASKS else list(tasks)
                measures = [(how, measure) for how, measure in columns]
                cube = np.stack(
                    [_difference(ours, base, column, used, ranges) for column in measures], axis=-1
                )
                for kept in patterns(cube.reshape(-1, cube.shape[-1])):
                    differences = paired_differences(
                        cube[..., kept], options.confidence, options.resamples, options.seed
                    )
                    for place, difference in zip(kept, differences, strict=True):
                        how, measure = measures[place]
                        row = {"measure": measure, "how": how, "task": task, **named}
                        row |= {
                            "pairs": difference.pairs,
                            "difference": difference.estimate,
                            "low": difference.low,
                            "high": difference.high,
                            "p": difference.p_value,
                            "best": best_of(measure),
                        }
                        yield row, difference


def _comparable(
    columns: Sequence[tuple[str, ...]],
    tasks: Sequence[str],
    ranges: Mapping[str, tuple[float, float]],
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """What is compared on each task, and, if it has the same unit on all of them, on all."""
    for task in tasks:
        if found := [(how, measure) for how, at, measure in columns if at == task]:
            yield task, found
    if len(tasks) > 1:
        pooled = [
            (how, measure)
            for how, measure in dict.fromkeys((how, measure) for how, _, measure in columns)
            if (ranges and measure == RETURN) or _is_unitless(measure)
        ]
        if pooled:
            yield ALL_TASKS, pooled


def _is_unitless(measure: str) -> bool:
    key = find(measure) if measure.startswith("values/") else None
    return key is not None and key.unit == "1" and key.best is not None


def _difference(
    ours: "pd.DataFrame",
    theirs: "pd.DataFrame",
    column: tuple[str, str],
    tasks: Sequence[str],
    ranges: Mapping[str, tuple[float, float]],
) -> Scores:
    """Of one measure, shape ``(n_seeds, n_tasks)``."""
    how, measure = column
    best = best_of(measure)
    result = np.full((len(ours), len(tasks)), np.nan)
    for index, task in enumerate(tasks):
        if (how, task, measure) not in ours.columns:
            continue
        x, y = (part[how, task, measure].to_numpy(dtype=np.float64) for part in (ours, theirs))
        if best is not None and math.isfinite(best):
            x, y = np.abs(x - best), np.abs(y - best)
        if measure == RETURN and len(tasks) > 1:
            x, y = normalize(x, *ranges[task]), normalize(y, *ranges[task])
        result[:, index] = x - y
    return result


def _of_variant(wide: Any, variant: str) -> "pd.DataFrame":
    rows: pd.DataFrame = wide[wide.index.get_level_values("variant") == variant]
    return rows.droplevel("variant")


def flat(columns: "pd.Index[Any]") -> list[tuple[str, ...]]:
    """The names of columns with several levels, as tuples of texts."""
    return [tuple(str(part) for part in name) for name in columns]


def patterns(numbers: Scores) -> Iterator[list[int]]:
    """Columns that lack the same rows, together; those that lack all are left out."""
    groups: dict[bytes, list[int]] = {}
    missing = np.isnan(numbers)
    for column in np.flatnonzero(~missing.all(0)).tolist():
        groups.setdefault(missing[:, column].tobytes(), []).append(column)
    yield from groups.values()
