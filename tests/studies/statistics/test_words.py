import math

import pytest

from snrl.studies.statistics.pairs import PairedDifference
from snrl.studies.statistics.words import best_of, grade, in_words

NAMES = {
    "how": "final",
    "variant": "SN",
    "baseline": "plain",
    "where": "sac on Hopper-v5",
    "measure": "eval/mean_reward",
}


def _difference(
    estimate: float, low: float, high: float, p: float = 0.01, pairs: int = 10
) -> PairedDifference:
    smallest = 2.0 ** (1 - pairs) if pairs else math.nan
    return PairedDifference(estimate, low, high, p, smallest, pairs, 0.95, 1000)


def test_established() -> None:
    assert in_words(_difference(120, 30, 210), 0.02, 2, **NAMES) == (
        "SN raises the return of sac on Hopper-v5 at the last evaluation by 120 against plain "
        "(95% interval 30 to 210, 10 pairs, p = 0.01, after Holm for 2 comparisons 0.02)."
    )


def test_not_established() -> None:
    said = in_words(_difference(-120, -230, 10, 0.2), 0.2, 1, **NAMES)
    assert said == (
        "Not established: SN lowers the return of sac on Hopper-v5 at the last evaluation by 120 "
        "against plain (95% interval -230 to 10, 10 pairs, p = 0.2); the interval contains 0."
    )


def test_suggested_says_what_few_pairs_can_show() -> None:
    said = in_words(_difference(120, 30, 210, 0.0625, 5), 0.25, 4, **NAMES)
    assert said.startswith("Suggested, not established: SN raises")
    assert said.endswith("p-value exceeds 0.05, and 5 pairs allow none below 0.062 before the "
                         "correction.")  # fmt: skip
    said = in_words(_difference(120, 30, 210, 0.25, 3), 0.25, 1, **NAMES)
    assert said.startswith("Not established: SN raises")
    assert said.endswith("p = 0.25). With fewer than 5 seeds, the interval means little.")


def test_measures_and_their_best() -> None:
    names = NAMES | {"measure": "values/overestimation_rate", "how": "auc"}
    said = in_words(_difference(-0.2, -0.3, -0.1), 0.01, 1, **names)
    assert said.startswith(
        "SN lowers, for the better, the distance of values/overestimation_rate from 0.5 of sac on "
        "Hopper-v5 on average along training by 0.2 against plain"
    )
    names = NAMES | {"measure": "values/q_mean", "how": "last_tenth"}
    said = in_words(_difference(2, 1, 3), 0.01, 1, **names)
    assert said.startswith("SN raises the values/q_mean of sac on Hopper-v5 over the last tenth")


def test_nothing_known() -> None:
    nan = math.nan
    said = in_words(_difference(nan, nan, nan, nan, 0), nan, 1, **NAMES)
    assert said.startswith("Nothing is known of the return of sac on Hopper-v5")
    said = in_words(_difference(2, nan, nan, 1.0, 1), 1.0, 1, **NAMES)
    assert said.startswith("Not established: SN raises the return")
    assert said.endswith("by 2 against plain, in 1 pair.")


@pytest.mark.parametrize(
    ("low", "high", "adjusted", "expected"),
    [
        (1, 2, 0.05, "established"),
        (-2, -1, 0.05, "established"),
        (1, 2, 0.051, "suggested"),
        (0, 2, 0.01, "not established"),
        (-1, 2, 0.01, "not established"),
        (math.nan, math.nan, 0.01, "not established"),
    ],
)
def test_grades(low: float, high: float, adjusted: float, expected: str) -> None:
    assert grade(_difference(1, low, high), adjusted) == expected


def test_few_pairs_establish_and_suggest_nothing() -> None:
    assert grade(_difference(1, 1, 2, 0.01, 4), 0.01) == "not established"
    assert grade(_difference(1, 1, 2, 0.01, 5), 0.01) == "established"


def test_best() -> None:
    assert best_of("eval/mean_reward") == math.inf
    assert best_of("values/bias_mean") == 0
    assert best_of("values/rank_correlation") == 1
    assert best_of("values/q_mean") is None
    assert best_of("sn/sigma_max") is None
    assert best_of("values/unheard_of") is None
