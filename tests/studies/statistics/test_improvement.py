import numpy as np
import pytest

from snrl.studies.statistics.improvement import probability_of_improvement

from .oracle import library, metrics


@pytest.mark.parametrize(("runs_x", "runs_y", "tasks"), [(1, 1, 1), (5, 5, 1), (4, 7, 3)])
def test_equals_rliables(runs_x: int, runs_y: int, tasks: int) -> None:
    generator = np.random.default_rng(0)
    # Rounded, so that there are ties.
    x, y = (generator.normal(size=(runs, tasks)).round(0) for runs in (runs_x, runs_y))
    found = probability_of_improvement(x, y, resamples=10)
    expected = metrics.probability_of_improvement(x, y)
    assert found.estimate == pytest.approx(expected, abs=1e-12)


def test_interval_equals_rliables() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(6, 2)), generator.normal(size=(7, 2)) - 0.3
    np.random.seed(0)

    def share(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.array([(x[:, None] > y[None]).mean()])

    _, theirs = library.get_interval_estimates({"x": [x, y]}, share, reps=50_000)
    ours = probability_of_improvement(x, y, resamples=50_000)
    # Shares of 84: quantiles of both may fall on neighbouring multiples of 1/84.
    assert [ours.low, ours.high] == pytest.approx(theirs["x"][:, 0], abs=1 / 84 + 1e-9)


def test_by_hand() -> None:
    found = probability_of_improvement([[1.0, 5.0], [2.0, np.nan]], [[1.0, 9.0]])
    assert found.estimate == (0.75 + 0) / 2
    assert probability_of_improvement([[1.0]], [[1.0]]).estimate == 0.5
    assert np.isnan(probability_of_improvement([[1.0]], [[1.0]]).low)
    # Tasks that one of them has no runs of are left out.
    assert probability_of_improvement([[2.0, np.nan]], [[1.0, 1.0]]).estimate == 1
    assert np.isnan(probability_of_improvement([[np.nan]], [[1.0]]).estimate)
    with pytest.raises(ValueError, match="same tasks"):
        probability_of_improvement([[1.0]], [[1.0, 2.0]])
