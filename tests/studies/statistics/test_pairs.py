import numpy as np
import pytest
from scipy import stats

from snrl.studies.statistics.pairs import holm, paired_difference


def test_by_hand() -> None:
    found = paired_difference([[3.0], [5.0], [9.0]], [[1.0], [4.0], [np.nan]])
    assert (found.estimate, found.pairs, found.p_value) == (1.5, 2, 0.5)
    assert found.smallest_p == 0.5
    assert (found.low, found.high) == (1.0, 2.0)


def test_what_seeds_share_cancels() -> None:
    """The same difference in every pair is known exactly, however much the runs differ."""
    noise = np.random.default_rng(0).normal(size=(5, 2)) * 100
    found = paired_difference(noise + 2, noise)
    assert [found.estimate, found.low, found.high] == pytest.approx([2, 2, 2], abs=1e-9)
    assert found.p_value == found.smallest_p == 2**-9


@pytest.mark.parametrize("pairs", [2, 5, 9])
def test_exact_p_equals_scipys(pairs: int) -> None:
    differences = np.random.default_rng(pairs).normal(0.5, 1, size=pairs)
    expected = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    found = paired_difference(differences[:, None], np.zeros((pairs, 1)))
    assert found.p_value == pytest.approx(expected, abs=1e-12)


def test_random_signs_for_many_pairs_agree_with_the_t_test() -> None:
    differences = np.random.default_rng(0).normal(0.3, 1, size=(40, 1))
    found = paired_difference(differences, np.zeros((40, 1)))
    expected = stats.ttest_1samp(differences[:, 0], 0).pvalue
    assert found.p_value == pytest.approx(expected, abs=0.01)
    assert found == paired_difference(differences, np.zeros((40, 1)))


def test_tasks_weigh_the_same_whatever_their_pairs() -> None:
    x = np.array([[1.0, 10.0], [3.0, np.nan]])
    found = paired_difference(x, np.zeros((2, 2)))
    assert (found.estimate, found.pairs) == (6.0, 3)


def test_p_values_of_no_difference_are_uniform() -> None:
    generator = np.random.default_rng(0)
    draws = [
        paired_difference(generator.normal(size=(8, 1)), np.zeros((8, 1)), resamples=1).p_value
        for _ in range(400)
    ]
    assert stats.kstest(draws, "uniform").pvalue > 0.01
    zero = paired_difference(np.ones((4, 1)), np.ones((4, 1)))
    assert (zero.estimate, zero.p_value) == (0.0, 1.0)


def test_no_pairs_and_bad_input() -> None:
    found = paired_difference([[1.0], [np.nan]], [[np.nan], [1.0]])
    assert found.pairs == 0
    assert np.isnan([found.estimate, found.low, found.high, found.p_value]).all()
    with pytest.raises(ValueError, match="the same shape"):
        paired_difference([[1.0]], [[1.0, 2.0]])


def test_holm_by_hand() -> None:
    found = holm([0.01, np.nan, 0.04, 0.03, 0.5])
    np.testing.assert_allclose(found, [0.04, np.nan, 0.09, 0.09, 0.5])
    assert holm([0.6, 0.9]).tolist() == [1.0, 1.0]
    assert holm([]).size == 0
