"""Point estimates against rliable's, and by hand."""

import numpy as np
import pytest

from snrl.studies.statistics.aggregates import iqm, mean, median, optimality_gap

from .oracle import metrics

PAIRS = [
    (mean, metrics.aggregate_mean),
    (median, metrics.aggregate_median),
    (iqm, metrics.aggregate_iqm),
    (optimality_gap, metrics.aggregate_optimality_gap),
]
SHAPES = [(1, 1), (3, 1), (1, 4), (5, 3), (10, 6), (7, 2)]


def _scores(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).lognormal(size=shape) - 0.5


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize("shape", SHAPES)
def test_equal_rliables(ours, theirs, shape) -> None:
    scores = _scores(shape)
    assert float(ours(scores)) == pytest.approx(float(theirs(scores)), abs=1e-12)


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_axes_before_the_last_two_are_independent(ours, theirs) -> None:
    scores = _scores((2, 3, 5, 4))
    expected = [[float(theirs(part)) for part in row] for row in scores]
    np.testing.assert_allclose(ours(scores), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_rows_of_missing_runs_and_tasks_without_runs_change_nothing(ours, theirs) -> None:
    scores = _scores((6, 3))
    padded = np.full((9, 5), np.nan)
    # In any rows, task by task, and with two tasks that have no runs.
    for task, column in enumerate((0, 2, 3)):
        rows = np.random.default_rng(task).permutation(9)[:6]
        padded[rows, column] = scores[:, task]
    assert float(ours(padded)) == pytest.approx(float(theirs(scores)), abs=1e-12)


def test_with_different_numbers_of_runs_each_task_weighs_the_same() -> None:
    scores = np.array([[0.0, 10.0], [2.0, np.nan], [4.0, np.nan], [6.0, np.nan]])
    assert mean(scores) == median(scores) == 6.5
    assert optimality_gap(scores, 10.0) == 3.5
    # Weights 1/8 four times and 1/2; floor(5/4) / 5 = 1/5 of the weight goes at either end: of 0
    # all, of 2 the first 0.075, of 10 the last 0.2.
    expected = (0.05 * 2 + 0.125 * 4 + 0.125 * 6 + 0.3 * 10) / 0.6
    assert iqm(scores) == pytest.approx(expected, abs=1e-12)


def test_by_hand() -> None:
    scores = np.array([[1.0, 20.0], [2.0, 30.0], [3.0, 40.0], [6.0, 10.0]])
    assert mean(scores) == (3 + 25) / 2
    assert median(np.hstack([scores, [[7.0]] * 4])) == 7
    assert iqm(scores) == (3 + 6 + 10 + 20) / 4
    assert optimality_gap(scores, 3) == 3 - (1 + 2 + 3 * 6) / 8


@pytest.mark.parametrize("statistic", [mean, median, iqm, optimality_gap])
def test_no_runs_and_bad_input(statistic) -> None:
    assert np.isnan(statistic(np.full((3, 2), np.nan)))
    with pytest.raises(ValueError, match="shape"):
        statistic([1.0, 2.0])
    with pytest.raises(ValueError, match="finite"):
        statistic([[1.0, -np.inf]])
