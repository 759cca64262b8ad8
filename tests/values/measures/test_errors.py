import numpy as np
import pytest
from scipy import stats

from snrl.values.measures import estimate_errors

NAN = float("nan")


def test_errors_of_a_handful_of_states():
    found = estimate_errors([1.0, 5.0, 2.0, 4.0], [2.0, 2.0, 2.0, 2.0])
    assert found.bias_mean == 1.0
    assert found.bias_std == pytest.approx(np.sqrt((4 + 4 + 1 + 1) / 4))
    assert found.overestimation_rate == 0.5  # An exact estimate is not above.
    assert found.absolute_discrepancy == 1.5
    assert np.isnan(found.rank_correlation)


@pytest.mark.parametrize(("level", "scale"), [(200.0, 200.0), (-50.0, 50.0), (-3.0, 10.0)])
def test_normalised_by_the_mean_return_or_ten(level, scale):
    returns = level + np.array([-1.0, 0.0, 1.0])
    found = estimate_errors(returns + np.array([1.0, 2.0, 6.0]), returns)
    assert found.scale == pytest.approx(scale)
    assert found.bias_mean_normalised == pytest.approx(3.0 / scale)
    assert found.bias_std_normalised == pytest.approx(found.bias_std / scale)


def test_a_known_error_is_given_back():
    rng = np.random.default_rng(0)
    n, shift, spread = 20_000, 3.0, 2.0
    returns = rng.normal(100, 30, n)
    error = rng.normal(shift, spread, n)
    found = estimate_errors(returns + error, returns)
    assert abs(found.bias_mean - shift) < 4 * found.bias_standard_error
    assert found.bias_standard_error == pytest.approx(spread / np.sqrt(n), rel=0.05)
    assert found.bias_std == pytest.approx(spread, abs=4 * spread / np.sqrt(2 * n))
    rate = stats.norm.cdf(shift / spread)
    assert found.overestimation_rate == pytest.approx(rate, abs=4 * np.sqrt(rate / n))
    folded = stats.foldnorm(shift / spread, scale=spread)
    sampling = 4 * folded.std() / np.sqrt(n)
    assert found.absolute_discrepancy == pytest.approx(folded.mean(), abs=sampling)
    pearson = 30 / np.hypot(30, spread)
    rank = 6 / np.pi * np.arcsin(pearson / 2)  # Of a normal pair.
    assert found.rank_correlation == pytest.approx(rank, abs=0.001)


def test_a_wrong_critic_is_told_so():
    returns = np.random.default_rng(0).normal(-150, 40, 500)
    reversed_ = estimate_errors(-returns, returns)
    assert reversed_.rank_correlation == pytest.approx(-1.0)
    assert reversed_.overestimation_rate == 1.0
    assert reversed_.bias_mean == pytest.approx(300, rel=0.05)
    ignorant = estimate_errors(np.random.default_rng(1).permutation(returns), returns)
    assert abs(ignorant.bias_mean) < 1e-10  # Its mean is right; the rest gives it away.
    assert abs(ignorant.rank_correlation) < 0.15
    assert ignorant.absolute_discrepancy > 30


@pytest.mark.parametrize("levels", [3, 10, 1000])
def test_rank_correlation_is_scipys_with_ties(levels):
    rng = np.random.default_rng(levels)
    x = rng.integers(levels, size=300).astype(float)
    y = np.round(x / 3 + rng.normal(size=300))
    found = estimate_errors(x, y).rank_correlation
    assert found == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


def test_ranks_see_no_difference_of_scale():
    x = np.random.default_rng(0).normal(size=50)
    assert estimate_errors(np.exp(x), 1e6 * x).rank_correlation == pytest.approx(1.0)
    assert estimate_errors([1.0, np.inf, 2.0], [1.0, 3.0, 2.0]).rank_correlation == 1.0


def test_the_standard_error_of_independent_states_is_that_of_a_mean():
    rng = np.random.default_rng(0)
    q, returns = rng.normal(size=(2, 40))
    found = estimate_errors(q, returns).bias_standard_error
    assert found == pytest.approx(stats.sem(q - returns))


def test_repeating_states_within_their_episode_adds_no_certainty():
    rng = np.random.default_rng(0)
    q, returns = rng.normal(size=(2, 40))
    once = estimate_errors(q, returns)
    names = np.array([f"episode {i}" for i in range(40)])
    repeated = [np.tile(x, 7) for x in (q, returns, names)]
    found = estimate_errors(*repeated[:2], clusters=repeated[2])
    assert found.bias_standard_error == pytest.approx(once.bias_standard_error)
    naive = estimate_errors(*repeated[:2])
    assert naive.bias_standard_error < 0.5 * once.bias_standard_error


def test_the_standard_error_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(30), rng.integers(5, 60, size=30))
    clustered, naive = [], []
    for _ in range(500):
        shared = rng.normal(size=30)[clusters]  # What the states of an episode have in common.
        q = 2.0 + shared + 0.5 * rng.normal(size=len(clusters))
        returns = np.zeros(len(clusters))
        with_them = estimate_errors(q, returns, clusters=clusters)
        clustered.append((with_them.bias_mean - 2.0) / with_them.bias_standard_error)
        without = estimate_errors(q, returns)
        naive.append((without.bias_mean - 2.0) / without.bias_standard_error)
    assert np.std(clustered) == pytest.approx(1.0, abs=0.15)
    assert np.std(naive) > 3


def test_one_episode_has_no_standard_error():
    found = estimate_errors([1.0, 2.0], [0.0, 0.0], clusters=[7, 7])
    assert np.isnan(found.bias_standard_error)
    assert found.bias_mean == 1.5


def test_small_errors_of_large_float32_values_are_not_lost():
    q = np.full(1000, 2.0**20, dtype=np.float32)
    found = estimate_errors(q, q.astype(np.float64) - 0.001)
    assert found.bias_mean == pytest.approx(0.001, rel=1e-6)


@pytest.mark.parametrize("value", [NAN, np.inf, -np.inf])
def test_values_that_are_not_finite_carry_through(value):
    found = estimate_errors([1.0, value], [0.0, 1.0])
    assert not np.isfinite(found.bias_mean)
    assert not np.isfinite(found.absolute_discrepancy)
    assert np.isnan(found.bias_std)
    assert np.isnan(found.bias_standard_error)
    assert np.isnan(found.overestimation_rate) == np.isnan(value)


@pytest.mark.parametrize(
    ("q", "returns", "clusters"),
    [([], [], None), ([1.0], [1.0, 2.0], None), ([[1.0]], [[1.0]], None), ([1.0], [1.0], [1, 2])],
)
def test_other_shapes_are_refused(q, returns, clusters):
    with pytest.raises(ValueError, match="one shape"):
        estimate_errors(q, returns, clusters=clusters)
