import numpy as np
import pytest
from scipy import stats

from snrl.values.measures import return_stability, seed_stability


def by_brute_force(returns):
    falls = [returns[i] - returns[j] for j in range(len(returns)) for i in range(j + 1)]
    fallen = []
    for j in range(len(returns)):
        best = max(returns[: j + 1])
        fallen.append(returns[j] < (0.8 * best if best >= 0 else 1.2 * best))
    return max(falls), np.mean(fallen)


@pytest.mark.parametrize("level", [-500.0, 0.0, 500.0])
def test_is_what_all_pairs_say(level):
    returns = np.random.default_rng(0).normal(level, 150, 60)
    found = return_stability(returns)
    assert (found.drawdown, found.fallen_share) == pytest.approx(by_brute_force(returns))
    assert 0 < found.fallen_share < 1


def test_a_run_that_only_rises_is_steady():
    for returns in ([-300.0, -200.0, -200.0, -1.0, 5.0], [-7.0]):
        found = return_stability(returns)
        assert (found.drawdown, found.fallen_share) == (0.0, 0.0)


@pytest.mark.parametrize(
    "order", [[10.0, 100.0, 90.0, 70.0, 100.0], [10.0, 100.0, 70.0, 81.0, 79.0]]
)
def test_the_fall_counts_from_the_best_so_far(order):
    found = return_stability(order)
    assert found.drawdown == 30.0
    assert found.fallen_share == np.mean(np.array(order[2:]) < 80) * 3 / 5


def test_a_negative_best_is_no_fall_from_itself():
    found = return_stability([-100.0, -110.0, -119.0, -121.0])
    assert found.fallen_share == 0.25
    assert found.drawdown == 21.0


def test_the_drawdown_does_not_depend_on_the_zero_of_the_returns():
    returns = np.random.default_rng(0).normal(size=30)
    shifted = return_stability(returns + 1000)
    assert shifted.drawdown == pytest.approx(return_stability(returns).drawdown)
    assert shifted.fallen_share == 0.0 < return_stability(returns).fallen_share


def test_the_variation_over_seeds_is_scipys():
    for level in (50.0, -50.0):
        returns = np.random.default_rng(0).normal(level, 10, 8)
        found = seed_stability(returns)
        assert found.coefficient_of_variation == pytest.approx(
            abs(stats.variation(returns, ddof=1))
        )
        assert found.worst_over_mean == pytest.approx(returns.min() / returns.mean())
        assert (found.worst_over_mean < 1) == (level > 0)


def test_equal_seeds_do_not_vary():
    found = seed_stability([-20.0, -20.0, -20.0])
    assert (found.coefficient_of_variation, found.worst_over_mean) == (0.0, 1.0)


def test_what_is_undefined_is_nan():
    assert np.isnan(seed_stability([3.0]).coefficient_of_variation)
    assert seed_stability([3.0]).worst_over_mean == 1.0
    both = [return_stability([1.0, np.nan]), seed_stability([1.0, np.nan]), seed_stability([1, -1])]
    assert all(np.isnan(value) for found in both for value in vars(found).values())


@pytest.mark.parametrize("measure", [return_stability, seed_stability])
@pytest.mark.parametrize("returns", [[], [[1.0]], 3.0])
def test_other_shapes_are_refused(measure, returns):
    with pytest.raises(ValueError, match="shape"):
        measure(returns)
