"""Intervals against rliable's, and what they cover."""

import numpy as np
import pytest

from snrl.studies.statistics.aggregates import iqm, mean, median
from snrl.studies.statistics.bootstrap import band, bounds, interval

from .oracle import library, metrics


def test_equals_rliables_within_bootstrap_error() -> None:
    """Both ends are quantiles of bootstrap samples; they differ by the error of such quantiles."""
    scores = np.random.default_rng(0).normal(size=(6, 3)).cumsum(axis=1)
    reps = 50_000

    def both(sample: np.ndarray) -> np.ndarray:
        return np.array([sample.mean(), np.median(sample.mean(0))])

    np.random.seed(0)
    _, theirs = library.get_interval_estimates({"x": scores}, both, reps=reps)
    for index, statistic in enumerate((mean, median)):
        ours = interval(scores, statistic, resamples=reps, seed=1)
        expected = pytest.approx(theirs["x"][:, index], abs=5 * _quantile_error(scores))
        assert [ours.low, ours.high] == expected


def _quantile_error(scores: np.ndarray) -> float:
    """Standard error of a 2.5% quantile of 50,000 draws, of a normal of this width, twice."""
    width = scores.std(0).max() / np.sqrt(len(scores))
    density = 0.0584 / width
    return float(np.sqrt(2 * 0.025 * 0.975 / 50_000) / density)


def test_iqm_interval_equals_rliables() -> None:
    scores = np.random.default_rng(1).normal(size=(5, 2))
    np.random.seed(0)
    point, theirs = library.get_interval_estimates(
        {"x": scores}, lambda x: np.array([metrics.aggregate_iqm(x)]), reps=4000
    )
    found = interval(scores, iqm, resamples=50_000)
    assert found.estimate == pytest.approx(point["x"][0], abs=1e-12)
    # The error of rliable's 4,000 draws.
    error = _quantile_error(scores) * np.sqrt(50_000 / 4000)
    assert [found.low, found.high] == pytest.approx(theirs["x"][:, 0], abs=5 * error)


def test_the_same_seed_gives_the_same_interval() -> None:
    scores = np.random.default_rng(0).normal(size=(5, 3))
    assert interval(scores, iqm, seed=3) == interval(scores.copy(), iqm, seed=3)
    assert interval(scores, iqm, seed=3) != interval(scores, iqm, seed=4)
    # Several points at once get the draws that each gets alone.
    curves = np.random.default_rng(0).normal(size=(5, 3, 4))
    together = band(range(4), curves, iqm, resamples=700)
    for point in range(4):
        alone = interval(curves[..., point], iqm, resamples=700)
        expected = pytest.approx([together.low[point], together.high[point]], abs=1e-12)
        assert [alone.low, alone.high] == expected


def test_the_product_for_means_is_the_mean_of_resamples() -> None:
    scores = np.random.default_rng(0).normal(size=(2, 6, 3))
    # A task with fewer runs, and one without.
    scores[:, 4:, 1] = np.nan
    scores[:, :, 2] = np.nan
    fast = bounds(scores, mean, 0.9, 1200, 5)
    plain = bounds(scores, lambda sample: mean(sample), 0.9, 1200, 5)
    np.testing.assert_allclose(fast, plain, atol=1e-12, rtol=0)


def test_all_samples_of_two_runs() -> None:
    """Of the means of two draws from {0, 1}, a quarter is 0, a half 1/2, a quarter 1."""
    found = interval([[0.0], [1.0]], mean, confidence=0.4, resamples=20_000)
    assert (found.estimate, found.low, found.high) == (0.5, 0.5, 0.5)
    found = interval([[0.0], [1.0]], mean, confidence=0.6, resamples=20_000)
    assert (found.low, found.high) == (0, 1)


def test_draws_stay_within_their_task_and_its_number_of_runs() -> None:
    seen = []

    def spy(sample: np.ndarray) -> np.ndarray:
        seen.append(sample)
        return mean(sample)

    scores = np.array([[1.0, 10.0], [2.0, np.nan], [3.0, np.nan], [np.nan, 20.0]])
    bounds(scores[None], spy, 0.95, 500, 0)
    (sample,) = seen
    assert sample.shape == (1, 500, 3, 2)
    assert set(np.unique(sample[..., 0])) == {1.0, 2.0, 3.0}
    assert (np.isnan(sample[..., 1]).sum(-1) == 1).all()
    assert set(np.unique(sample[..., :2, 1])) == {10.0, 20.0}


def test_coverage_of_the_mean_of_many_runs_is_nominal_and_of_five_too_small() -> None:
    """As the docstring says: with 5 runs about 83%."""
    generator = np.random.default_rng(0)
    covered = {}
    for number in (5, 60):
        draws = generator.normal(size=(1000, number, 1))
        low, high = bounds(draws, mean, 0.95, 1000, 0)
        covered[number] = ((low <= 0) & (high >= 0)).mean()
    # Three standard errors of a share of 1,000.
    assert covered[60] == pytest.approx(0.94, abs=0.023)
    assert covered[5] == pytest.approx(0.83, abs=0.036)


def test_one_run_has_no_interval() -> None:
    found = interval([[1.0, 2.0]], mean)
    assert found.estimate == 1.5
    assert np.isnan([found.low, found.high]).all()
    # One task with two is enough.
    assert np.isfinite(interval([[1.0, 2.0], [np.nan, 3.0]], mean).low)


def test_bad_input() -> None:
    scores = [[1.0], [2.0]]
    with pytest.raises(ValueError, match="confidence must be in"):
        interval(scores, mean, confidence=95)
    with pytest.raises(ValueError, match="resamples must be at least 1"):
        interval(scores, mean, resamples=0)
    with pytest.raises(ValueError, match="n_runs, n_tasks"):
        interval([[scores]], mean)
    with pytest.raises(ValueError, match="n_points = 3"):
        band([1, 2, 3], [[[1.0, 2.0]]], mean)
