"""Estimates of time: from what was timed, and sensible where nothing was."""

from collections.abc import Callable
from pathlib import Path

import pytest

from snrl.studies.definition import load_study
from snrl.studies.estimate import Rates, basis, guess, total
from snrl.studies.plan import Plan

Write = Callable[..., Path]


def test_what_was_timed_decides(write_study: Write) -> None:
    cells = load_study(write_study()).cells
    rates = Rates()
    rates.add(cells[0], 100, 1.0)
    rates.add(cells[0], 100, 3.0)
    assert rates.seconds(cells[0], 1000, cells) == 20.0


def test_what_was_timed_of_the_like_scales_the_guess(write_study: Write) -> None:
    variants = {"plain": {}, "more": {"gradient_steps": 8}}
    cells = load_study(write_study(variants=variants)).cells
    sac, more, td3, _ = cells
    rates = Rates()
    rates.add(td3, 1000, 50 * guess(td3.config, 1000))
    # The other algorithm, while nothing nearer is known.
    assert rates.seconds(sac, 500, cells) == pytest.approx(50 * guess(sac.config, 500))
    rates.add(sac, 1000, 2 * guess(sac.config, 1000))
    assert rates.seconds(more, 500, cells) == pytest.approx(2 * guess(more.config, 500))


def test_nothing_done_teaches_nothing(write_study: Write) -> None:
    cells = load_study(write_study()).cells
    rates = Rates()
    rates.add(cells[0], 0, 3.0)
    rates.add(cells[0], 3, 0.0)
    assert rates.timed == {}


def test_a_guess_grows_with_the_work(write_study: Write) -> None:
    variants = {
        "plain": {},
        "longer": {"total_timesteps": 100_000},
        "more": {"gradient_steps": 8},
        "every": {"train_freq": [1, "episode"], "gradient_steps": -1},
        "wide": {"net_arch": [512, 512]},
        "two": {"net_arch": {"pi": [8], "qf": [1024, 1024]}},
    }
    cells = load_study(write_study(variants=variants, algorithms="sac")).cells
    guesses = {x.variant: guess(x.config, x.config.total_timesteps) for x in cells}
    assert guesses["plain"] == guesses["every"]
    for name in ("longer", "more", "wide", "two"):
        assert guesses[name] > guesses["plain"]


def test_the_time_of_several_at_once() -> None:
    assert total([], 4) == 0
    assert total([3.0, 3.0, 3.0, 3.0], 2) == 6
    assert total([1.0, 9.0], 4) == 9


def test_what_an_estimate_rests_on_is_said(write_study: Write) -> None:
    plan = Plan(load_study(write_study()), Path("out"))
    rates = Rates()
    assert "a guess" in basis(rates, plan.runs)
    rates.add(plan.study.cells[0], 1, 1.0)
    assert "for 1 of 4 combinations" in basis(rates, plan.runs)
    assert "of this study's own runs" in basis(rates, plan.runs[:1])
    assert "scaled" not in basis(rates, plan.runs[:1])
