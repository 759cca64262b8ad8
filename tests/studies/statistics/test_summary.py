import numpy as np
import pytest

from snrl.studies.statistics import interval, iqm, mean, paired_difference
from snrl.studies.statistics.bootstrap import Options
from snrl.studies.statistics.summary import Summary, summarise
from snrl.values.measures.stability import seed_stability

from .tables import RETURN, Made, table_of

STUDY = {
    "baseline": "plain",
    "references": {"a": {"low": 0, "high": 10}, "b": {"low": -100, "high": 100}},
}
BIAS, RATE, Q = "values/bias_mean", "values/overestimation_rate", "values/q_mean"
SEEDS = range(7)
OPTIONS = Options(resamples=800)


def _numbers() -> dict[tuple[str, str], np.ndarray]:
    """Returns by task and variant: SN adds to what the seed gives."""
    generator = np.random.default_rng(0)
    shared = generator.normal(size=(2, len(SEEDS)))
    return {
        ("a", "plain"): 5 + shared[0],
        ("a", "sn"): 7 + shared[0] + 0.1 * generator.normal(size=len(SEEDS)),
        ("b", "plain"): 20 * shared[1],
        ("b", "sn"): 20 * shared[1] + generator.normal(size=len(SEEDS)),
    }


@pytest.fixture(scope="module")
def summary() -> Summary:
    made = [
        Made(
            task,
            variant,
            seed,
            {
                RETURN: [0.0] * 9 + [returns[seed]],
                BIAS: [0.0] * 9 + [(-3.0 if variant == "plain" else 1.0) + 0.01 * seed],
                RATE: [0.9] * 9 + [0.1 if variant == "plain" else 0.6],
                Q: [0.0] * 9 + [float(seed)],
            },
        )
        for (task, variant), returns in _numbers().items()
        for seed in reversed(SEEDS)
    ]
    return summarise(table_of(made, STUDY), options=OPTIONS)


def test_cells(summary: Summary) -> None:
    keys = ["measure", "how", "task", "algo", "variant"]
    cells = summary.cells.set_index(keys)
    # 4 measures, 3 scores, 2 tasks, 2 variants.
    assert len(cells) == 48
    assert cells.index.is_unique
    for (task, variant), returns in _numbers().items():
        row = cells.loc[RETURN, "final", task, "sac", variant]
        # The runs are drawn in the order of their seeds, whatever that of their folders.
        column = returns[:, None]
        for name, statistic in (("mean", mean), ("iqm", iqm)):
            found = interval(column, statistic, resamples=OPTIONS.resamples)
            expected = [found.estimate, found.low, found.high]
            got = [row[name], row[f"{name}_low"], row[f"{name}_high"]]
            assert got == pytest.approx(expected, abs=1e-9)
        assert row["n"] == len(SEEDS)
        assert row["std"] == pytest.approx(returns.std(ddof=1))
        assert row["worst_over_mean"] == pytest.approx(seed_stability(returns).worst_over_mean)


def test_aggregates(summary: Summary) -> None:
    found = summary.aggregates.set_index(["how", "variant", "statistic"])
    numbers = _numbers()
    for variant in ("plain", "sn"):
        scores = np.stack([numbers["a", variant] / 10, (numbers["b", variant] + 100) / 200], 1)
        row = found.loc["final", variant, "iqm"]
        assert row["estimate"] == pytest.approx(float(iqm(scores)))
        assert row["low"] < row["estimate"] < row["high"]
        assert (row["runs"], row["tasks"]) == (14, 2)


def test_differences(summary: Summary) -> None:
    found = summary.differences.set_index(["measure", "how", "task"])
    numbers = _numbers()
    row = found.loc[RETURN, "final", "a"]
    expected = paired_difference(
        numbers["a", "sn"][:, None], numbers["a", "plain"][:, None], resamples=OPTIONS.resamples
    )
    got = [row["difference"], row["low"], row["high"], row["p"], row["pairs"]]
    assert got == pytest.approx(
        [expected.estimate, expected.low, expected.high, expected.p_value, expected.pairs]
    )
    assert (row["comparisons"], row["grade"], row["best"]) == (2, "established", np.inf)
    assert row["p_holm"] == 2 * row["p"] == 2 / 2**6
    assert found.loc[RETURN, "final", "b"]["grade"] == "not established"

    # Over both tasks, normalised.
    row = found.loc[RETURN, "final", "all"]
    of_a = (numbers["a", "sn"] - numbers["a", "plain"]).mean() / 10
    of_b = (numbers["b", "sn"] - numbers["b", "plain"]).mean() / 200
    assert row["difference"] == pytest.approx((of_a + of_b) / 2)
    assert (row["pairs"], row["comparisons"]) == (14, 1)

    # Distances from the best: from 3 - 0.01 s to 1 + 0.01 s, and from 0.4 to 0.1.
    row = found.loc[BIAS, "final", "a"]
    assert row["difference"] == pytest.approx(-2 + 0.02 * np.mean(SEEDS))
    assert row["sentence"].startswith("sn lowers, for the better, the distance of values/bias_mean")
    assert found.loc[RATE, "final", "all"]["difference"] == pytest.approx(-0.3)
    # A bias has the returns' unit, and is not pooled.
    assert (BIAS, "final", "all") not in found.index
    row = found.loc[Q, "final", "b"]
    assert (row["difference"], row["grade"]) == (0, "not established")
    assert np.isnan(row["best"])


def test_improvement(summary: Summary) -> None:
    found = summary.improvement.set_index(["measure", "how"])
    assert set(found.index.get_level_values(0)) == {RETURN, BIAS, RATE}
    assert found.loc[(BIAS, "final"), "probability"] == 1
    assert found.loc[(RATE, "final"), "probability"] == 1
    # On average along training 0.86 is nearer to 0.5 than 0.885.
    assert found.loc[(RATE, "auc"), "probability"] == 0
    assert 0.5 < found.loc[(RETURN, "final"), "probability"] < 1


def test_the_same_seed_gives_the_same_tables(summary: Summary) -> None:
    made = [
        Made(task, variant, seed, {RETURN: [returns[seed]] * 10})
        for (task, variant), returns in _numbers().items()
        for seed in SEEDS
    ]
    first, again = (summarise(table_of(made, STUDY), options=OPTIONS) for _ in range(2))
    other = summarise(table_of(made, STUDY), options=Options(resamples=800, seed=1))
    for name in ("cells", "aggregates", "differences", "improvement"):
        assert getattr(first, name).equals(getattr(again, name))
    assert not first.cells.equals(other.cells)
    assert summary.notices == first.notices == ()
    # A constant curve has one score.
    finals = first.cells.set_index(["how", "task", "variant"])["mean"]
    np.testing.assert_allclose(finals["final"], finals["auc"])


def test_ragged_few_and_missing() -> None:
    curve = {RETURN: [1.0] * 10}
    made = [
        Made("a", "plain", 0, curve),
        Made("a", "plain", 1, curve),
        Made("a", "sn", 1, {RETURN: [3.0] * 10, BIAS: [1.0] * 10}),
        Made("a", "sn", 2, {RETURN: [5.0] * 10}),
        Made("b", "sn", 0, curve),
    ]
    found = summarise(table_of(made), options=OPTIONS)
    rows = found.differences.set_index(["measure", "how", "task"])
    row = rows.loc[RETURN, "final", "a"]
    assert (row["pairs"], row["difference"]) == (1, 2)
    assert np.isnan(row["low"])
    assert row["grade"] == "not established"
    assert (RETURN, "final", "b") not in rows.index
    assert found.aggregates.empty
    assert found.notices == (
        "returns are not aggregated over tasks: no references for a, b",
        "as few as 1 seed: with fewer than 5 seeds, the interval means little",
    )
    alone = summarise(table_of([Made("a", "sn", 0, curve)]), options=OPTIONS)
    assert alone.baseline is None
    assert alone.notices[0] == "nothing is compared: there are no runs of the baseline, plain"
    assert alone.differences.empty
    assert alone.improvement.empty
    assert summarise(table_of([]), options=OPTIONS).cells.empty


def test_without_returns() -> None:
    """Of runs that were never evaluated, or where only other measures are asked for."""
    curves = {RETURN: [1.0] * 10, BIAS: [2.0] * 10}
    made = [Made("a", variant, seed, curves) for variant in ("plain", "sn") for seed in (0, 1)]
    unevaluated = [run._replace(curves={BIAS: curves[BIAS]}) for run in made]
    for found in (
        summarise(table_of(made), measures=[BIAS], options=OPTIONS),
        summarise(table_of(unevaluated), options=OPTIONS),
    ):
        assert set(found.cells["measure"]) == set(found.differences["measure"]) == {BIAS}
        assert any(notice.startswith("as few as 2 seeds") for notice in found.notices)
