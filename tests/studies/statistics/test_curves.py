import numpy as np
import pytest

from snrl.studies.statistics.aggregates import iqm
from snrl.studies.statistics.curves import align, area, performance_profile, sample_efficiency

from .oracle import library, metrics


def test_profiles_equal_rliables() -> None:
    scores = np.random.default_rng(0).normal(size=(8, 4)).round(1)
    taus = np.linspace(-2, 2, 41).round(1)
    np.random.seed(0)
    theirs, ends = library.create_performance_profile({"x": scores}, taus, reps=2000)
    ours = performance_profile(scores, taus)
    np.testing.assert_allclose(ours.estimate, theirs["x"], atol=1e-12, rtol=0)
    # Shares of 32 runs: quantiles of both may fall on neighbouring multiples of 1/32.
    assert np.abs(np.stack([ours.low, ours.high]) - ends["x"]).max() <= 1 / 32 + 1e-9
    assert (ours.low <= ours.estimate).all()
    assert (ours.estimate <= ours.high).all()


def test_profile_by_hand_with_a_missing_run() -> None:
    scores = [[0.5, 1.0], [1.5, np.nan]]
    profile = performance_profile(scores, [0.0, 0.5, 0.75, 1.0, 2.0])
    assert profile.estimate.tolist() == [1.0, 0.75, 0.75, 0.25, 0.0]


def test_sample_efficiency_equals_rliables() -> None:
    curves = np.random.default_rng(0).normal(size=(5, 3, 6)).cumsum(-1)
    theirs = [metrics.aggregate_iqm(curves[..., point]) for point in range(6)]
    ours = sample_efficiency(np.arange(6) * 10, curves)
    np.testing.assert_allclose(ours.estimate, theirs, atol=1e-12, rtol=0)
    assert ours.at.tolist() == [0, 10, 20, 30, 40, 50]
    # A run that ends earlier counts as far as it is.
    curves[0, :, 4:] = np.nan
    ours = sample_efficiency(np.arange(6), curves)
    assert ours.estimate[5] == pytest.approx(iqm(curves[1:, :, 5]), abs=1e-12)
    assert np.isfinite(ours.low).all()


def test_align_and_area() -> None:
    steps, values = [0, 10, 20, 30], [0.0, 1.0, np.nan, 3.0]
    np.testing.assert_allclose(align(steps, values, [5, 20, 30, 31]), [0.5, 2, 3, np.nan])
    assert area(steps, values) == pytest.approx((5 + 40) / 30)
    assert area([10], [4.0]) == 4
    assert np.isnan(area([10], [np.nan]))
    assert np.isnan(align([10], [np.nan], [10])).all()
