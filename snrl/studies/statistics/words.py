"""What a comparison establishes, in words."""

import math
from typing import Literal

from snrl.runs.words import counted
from snrl.studies.statistics.bootstrap import FEW
from snrl.studies.statistics.pairs import PairedDifference
from snrl.studies.statistics.scores import RETURN
from snrl.values.keys import find

Grade = Literal["established", "suggested", "not established"]

LEVEL = 0.05
HOW_WORDS = {
    "final": "at the last evaluation",
    "last_tenth": "over the last tenth of training",
    "auc": "on average along training",
}
FEW_SEEDS = f"with fewer than {FEW} seeds, the interval means little"
METHOD = (
    "Differences are between runs with the same task and seed; intervals are percentiles of a "
    "bootstrap over pairs, stratified by task; p-values are of the sign-flip test, corrected after "
    "Holm for all comparisons of the same measure, those pooled over tasks apart. Established: the "
    f"interval leaves out 0, and the corrected p-value is at most {LEVEL}. Suggested: the interval "
    f"leaves out 0, but the corrected p-value is larger. Neither with fewer than {FEW} pairs."
)


def best_of(measure: str) -> float | None:
    """The best number of a measure: infinity for the return, None where no number is better."""
    if measure == RETURN:
        return math.inf
    key = find(measure) if measure.startswith("values/") else None
    return key.best if key else None


def grade(difference: PairedDifference, adjusted: float) -> Grade:
    """Judge a difference by its interval and its corrected p-value."""
    if not _leaves_out_0(difference) or difference.pairs < FEW:
        return "not established"
    return "established" if adjusted <= LEVEL else "suggested"


def in_words(
    difference: PairedDifference,
    adjusted: float,
    comparisons: int,
    *,
    measure: str,
    how: str,
    variant: str,
    baseline: str,
    where: str,
) -> str:
    """Say what a paired difference establishes and what it does not.

    Args:
        difference: Variant minus baseline; where the measure has a finite best number, of the
            distances from it.
        adjusted: The p-value, corrected for the number of comparisons.
        comparisons: That number.
        measure: What is compared, by its logger key.
        how: What stands for a run: ``final``, ``last_tenth`` or ``auc``.
        variant: Its name.
        baseline: Its name.
        where: Task and algorithm, such as ``sac on Hopper-v5``.

    Returns:
        One or two sentences.
    """
    best = best_of(measure)
    what = f"the {_label(measure, best)} of {where} {HOW_WORDS[how]}"
    if not difference.pairs:
        return f"Nothing is known of {what}: no seed has a run of {variant} and one of {baseline}."
    d = difference
    pairs = counted(d.pairs, "pair")
    verb = _verb(d.estimate, best)
    by = f" by {abs(d.estimate):.3g}" if d.estimate else ""
    if math.isnan(d.low):
        return f"Not established: {variant} {verb} {what}{by} against {baseline}, in {pairs}."
    interval = f"{d.confidence:.0%} interval {d.low:.3g} to {d.high:.3g}"
    corrected = f", after Holm for {comparisons} comparisons {adjusted:.2g}" * (comparisons > 1)
    figures = f"({interval}, {pairs}, p = {d.p_value:.2g}{corrected})"
    claim = f"{variant} {verb} {what}{by} against {baseline} {figures}"
    found = grade(d, adjusted)
    if found == "not established":
        why = "" if _leaves_out_0(d) else "; the interval contains 0"
        return f"Not established: {claim}{why}." + _few(d)
    if found == "established":
        return f"{claim}." + _few(d)
    why = f"the corrected p-value exceeds {LEVEL}"
    if d.smallest_p * comparisons > LEVEL:
        why += f", and {pairs} allow none below {d.smallest_p:.2g} before the correction"
    return f"Suggested, not established: {claim}; {why}." + _few(d)


def _leaves_out_0(difference: PairedDifference) -> bool:
    return difference.low > 0 or difference.high < 0


def _few(difference: PairedDifference) -> str:
    return f" {FEW_SEEDS.capitalize()}." if difference.pairs < FEW else ""


def _label(measure: str, best: float | None) -> str:
    if measure == RETURN:
        return "return"
    return measure if best is None else f"distance of {measure} from {best:g}"


def _verb(estimate: float, best: float | None) -> str:
    if not estimate:
        return "leaves"
    better = best is not None and (estimate > 0) == (best == math.inf)
    verb = "raises" if estimate > 0 else "lowers"
    return f"{verb}{', for the better,' if better and best != math.inf else ''}"
