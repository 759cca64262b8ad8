import pytest

from snrl.values.moments import Moments


@pytest.mark.parametrize("n_envs", [1, 3, 4, 150])
def test_every_freq_steps_and_not_at_the_end(n_envs: int) -> None:
    moments = Moments(100, 1000)
    due = [t for t in range(n_envs, 1200, n_envs) if moments.is_due(t, n_envs)]
    # The first step at or after each hundred, before the end.
    expected = sorted({-(-hundred // n_envs) * n_envs for hundred in range(100, 1000, 100)})
    assert due == [t for t in expected if t < 1000]


def test_until_the_next() -> None:
    moments = Moments(100, 250)
    assert [moments.until_next(t) for t in (0, 1, 99, 100, 210, 249, 250, 300)] == [
        *(100, 99, 1, 100, 40, 1, 0, 0)
    ]
