import math

import numpy as np
import pytest

from snrl.studies.statistics.scores import curve_array, normalize, run_scores, score_matrix

from .tables import RETURN, Made, table_of


def _curve(*values: float) -> dict[str, tuple[float, ...]]:
    return {RETURN: values}


def test_three_scores_of_a_run() -> None:
    curve = [float(value) for value in range(40)]
    frame = run_scores(table_of([Made("t", "plain", 0, {RETURN: curve})])).frame
    (row,) = frame.to_dict("records")
    # At steps 10 to 400: the last tenth begins after 360.
    assert (row["final"], row["last_tenth"], row["auc"]) == (39, 37.5, 19.5)
    assert (row["run"], row["task"], row["variant"], row["seed"]) == ("run0", "t", "plain", 0)


def test_a_diverged_run_counts_with_its_worst_evaluation() -> None:
    table = table_of(
        [
            Made("t", "plain", 0, {RETURN: (5, 9, math.nan), "values/churn": (1, 2, 3)}),
            Made("t", "plain", 1, _curve(4, 8), "failed", "diverged: a reward is nan"),
            Made("t", "plain", 2, {}, "failed", "diverged: a loss is inf"),
            Made("t", "sn", 0, _curve(7, 3, 6)),
        ]
    )
    scored = run_scores(table)
    returns = scored.frame[scored.frame["measure"] == RETURN].set_index("run")
    assert returns["final"].to_dict() == {"run0": 5, "run1": 4, "run2": 3, "run3": 6}
    assert returns["diverged"].to_dict() == {"run0": 1, "run1": 1, "run2": 1, "run3": 0}
    assert set(scored.frame["measure"]) == {RETURN}
    (notice,) = scored.notices
    assert notice.startswith("3 of 4 runs diverged (3 of t sac plain): each counts with the return")


def test_runs_that_are_not_finished_are_left_out() -> None:
    table = table_of(
        [
            Made("t", "plain", 0, _curve(1, 2), "running"),
            Made("t", "plain", 1, _curve(1, 2), "interrupted", "SIGTERM"),
            Made("t", "plain", 2, _curve(1, 2), "failed", "MemoryError"),
            Made("t", "plain", 3, _curve(1, 2), "unknown"),
            Made("t", "plain", 4, _curve(*range(10)), "unknown"),
        ]
    )
    scored = run_scores(table)
    assert scored.frame["seed"].tolist() == [4]
    assert scored.notices == ("4 of 5 runs are not finished, and left out",)


def test_which_measures() -> None:
    curves = dict.fromkeys((RETURN, "values/churn", "sn/sigma_max", "train/ent_coef"), (1.0,))
    table = table_of([Made("t", "plain", 0, {**curves, "values/grad_norm/qf0.0": (1.0,)})])
    found = set(run_scores(table).frame["measure"])
    assert found == {RETURN, "values/churn", "sn/sigma_max"}
    chosen = ["train/ent_coef", "values/grad_norm/qf0.0"]
    assert set(run_scores(table, chosen).frame["measure"]) == set(chosen)


def test_matrices() -> None:
    table = table_of(
        [
            Made("a", "plain", 7, _curve(1)),
            Made("a", "plain", 3, _curve(2)),
            Made("b", "plain", 7, _curve(3)),
            Made("b", "plain", None, _curve(4)),
            Made("b", "plain", 7, _curve(5)),
        ]
    )
    for run in table.runs.index:
        table.runs.loc[run, "total_timesteps"] = 10
    frame = run_scores(table).frame
    nan = math.nan
    found = score_matrix(frame, ["b", "a"])
    np.testing.assert_equal(np.sort(found, axis=0), [[3, 1], [4, 2], [5, nan]])
    # By seed: those of a seed are averaged, those without one left out.
    found = score_matrix(frame, ["b", "a", "c"], by_seed=True)
    np.testing.assert_equal(found, [[nan, 2, nan], [4, 1, nan]])


def test_curves() -> None:
    table = table_of(
        [
            Made("a", "plain", 0, _curve(0, 10, 20)),
            Made("a", "plain", 1, _curve(0, 20)),
            Made("b", "plain", 0, _curve(1, 1, 1)),
            Made("b", "sn", 0, _curve(9, 9, 9)),
        ]
    )
    nan = math.nan
    found = curve_array(table, "sac", "plain", ["a", "b"], [10, 15, 30])
    expected = [[[0, 5, 20], [1, 1, 1]], [[0, 10, nan], [nan, nan, nan]]]
    np.testing.assert_equal(found, expected)
    ranges = {"a": (0.0, 20.0), "b": (0.0, 2.0)}
    found = curve_array(table, "sac", "plain", ["a", "b"], [0.5, 1.0], normalised=ranges)
    np.testing.assert_equal(found[0], [[0.25, 1.0], [0.5, 0.5]])


def test_normalize() -> None:
    found = normalize([[0.0, 5.0], [10.0, 7.0]], [0.0, 5.0], [10.0, 7.0])
    assert found.tolist() == [[0, 0], [1, 1]]
    with pytest.raises(ValueError, match="must be finite and differ"):
        normalize([1.0], 2, 2)
