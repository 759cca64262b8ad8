"""The choice of threads, with times that are made up."""

from collections.abc import Callable

import pytest

from snrl.passes.pace import Pace


def chosen(cost: Callable[[int, int], float], calls: int, threads: int = 4) -> list[int]:
    """What is chosen in as many calls, if a step costs so much by call and threads."""
    pace, choices = Pace(), []
    for call in range(calls):
        count = pace.choose(threads)
        pace.took(count, cost(call, count))
        choices.append(count)
    return choices


@pytest.mark.parametrize("better", [1, 4])
def test_what_is_faster_is_taken(better: int) -> None:
    choices = chosen(lambda _, count: 1.0 if count == better else 2.0, 2000)
    assert sum(count == better for count in choices[100:]) >= 0.99 * len(choices[100:])
    assert {*choices} == {1, 4}


def test_a_load_that_comes_and_goes_is_followed() -> None:
    choices = chosen(
        lambda call, count: 2.0 if count == 1 else (9.0 if 1000 <= call < 3000 else 1.1), 6000
    )
    assert choices[500:1000].count(4) >= 495
    assert choices[1200:3000].count(1) >= 1790
    assert choices[4000:].count(4) >= 1990


def test_steps_that_are_slow_by_chance_change_little() -> None:
    choices = chosen(lambda call, count: (5.0 if call % 10 == 0 else 1.0) * (3 - count / 2), 3000)
    assert choices.count(4) >= 0.95 * len(choices)


def test_one_thread_is_no_choice() -> None:
    assert {*chosen(lambda *_: 1.0, 50, threads=1)} == {1}
