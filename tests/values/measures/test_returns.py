import numpy as np
import pytest

from snrl.values.measures import discounted_returns, entropy_terms, tail_length


def by_definition(rewards, gamma, final=0.0):
    length = len(rewards)
    return np.array(
        [
            sum(gamma ** (k - t) * rewards[k] for k in range(t, length))
            + gamma ** (length - t) * final
            for t in range(length)
        ]
    )


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.99, 1.0])
@pytest.mark.parametrize("shape", [(1,), (2,), (7,), (64,), (65,), (33, 4)])
def test_is_the_discounted_sum(shape, gamma):
    rng = np.random.default_rng(0)
    rewards, final = rng.normal(size=shape), rng.normal(size=shape[1:])
    kept = rewards.copy()
    found = discounted_returns(rewards, gamma, final=final)
    np.testing.assert_allclose(found, by_definition(rewards, gamma, final), atol=1e-12)
    np.testing.assert_array_equal(rewards, kept)
    assert found.dtype == np.float64


def test_a_constant_reward_is_worth_its_perpetuity():
    gamma, reward = 0.97, -2.5
    worth = reward / (1 - gamma)
    ended = discounted_returns(np.full(40, reward), gamma)
    cut = discounted_returns(np.full(40, reward), gamma, final=worth)
    np.testing.assert_allclose(cut, worth)
    np.testing.assert_allclose(ended, worth * (1 - gamma ** np.arange(40, 0, -1)))


def test_a_small_discount_over_a_long_episode_stays_finite():
    rewards = np.random.default_rng(0).normal(size=5000)
    found = discounted_returns(rewards, 0.5)
    np.testing.assert_allclose(found[:-1], rewards[:-1] + 0.5 * found[1:], atol=1e-12)


def test_no_rewards_no_returns():
    assert discounted_returns([], 0.9).shape == (0,)


def test_a_cut_episode_with_the_value_at_its_end_is_the_whole_one():
    rewards = np.random.default_rng(0).normal(size=60) + 1
    whole = discounted_returns(rewards, 0.9)
    cut = discounted_returns(rewards[:20], 0.9, final=whole[20])
    np.testing.assert_allclose(cut, whole[:20])
    short = discounted_returns(rewards[:20], 0.9)
    np.testing.assert_allclose(whole[:20] - short, 0.9 ** np.arange(20, 0, -1) * whole[20])


def test_soft_returns_have_the_entropy_of_later_actions_alone():
    rng = np.random.default_rng(1)
    rewards, logs = rng.normal(size=(2, 12))
    gamma, alpha, end = 0.9, 0.4, 3.0
    found = discounted_returns(rewards + entropy_terms(logs, alpha, gamma), gamma, final=end)
    for t in range(12):
        later = sum(gamma ** (k - t) * (rewards[k] - alpha * logs[k]) for k in range(t + 1, 12))
        assert found[t] == pytest.approx(rewards[t] + later + gamma ** (12 - t) * end)


def test_entropy_terms_of_many_episodes_are_those_of_each():
    logs = np.random.default_rng(2).normal(size=(9, 3))
    for episode, found in zip(logs.T, entropy_terms(logs, 0.2, 0.99).T, strict=True):
        np.testing.assert_array_equal(found, entropy_terms(episode, 0.2, 0.99))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.9, 0.98, 0.999])
@pytest.mark.parametrize("tolerance", [1.0, 0.5, 0.25, 0.01, 1e-6])
def test_the_tail_is_as_long_as_it_must_be_and_no_longer(gamma, tolerance):
    n = tail_length(gamma, tolerance)
    assert gamma**n <= tolerance
    assert n == 0 or gamma ** (n - 1) > tolerance


@pytest.mark.parametrize("gamma", [0.1, 0.5, 0.9, 0.98])
@pytest.mark.parametrize("n", [1, 2, 10, 100])
def test_a_tolerance_that_is_a_power_of_the_discount_is_met_exactly(gamma, n):
    power = gamma**n
    assert tail_length(gamma, power) == n
    assert tail_length(gamma, np.nextafter(power, 0)) == n + 1
    assert tail_length(gamma, np.nextafter(power, 1)) == n


def test_behind_the_tail_little_is_cut_off():
    gamma, tolerance = 0.95, 0.01
    n = tail_length(gamma, tolerance)
    rewards = np.ones(3000)  # The largest a return can be is 1/(1-γ), and this one is.
    cut = discounted_returns(rewards[:200], gamma)
    missing = 1 - cut * (1 - gamma)
    assert (missing[: 200 - n + 1] <= tolerance).all()
    assert missing[200 - n + 1] > tolerance


@pytest.mark.parametrize("gamma", [-0.1, 1.1, float("nan")])
def test_a_discount_out_of_range_is_refused(gamma):
    with pytest.raises(ValueError, match="gamma"):
        discounted_returns([1.0], gamma)
    with pytest.raises(ValueError, match="gamma"):
        entropy_terms([1.0], 0.1, gamma)
    with pytest.raises(ValueError, match="gamma"):
        tail_length(gamma, 0.1)


def test_a_tail_that_can_not_fade_is_refused():
    with pytest.raises(ValueError, match="gamma"):
        tail_length(1.0, 0.1)
    for tolerance in (0.0, 1.5):
        with pytest.raises(ValueError, match="tolerance"):
            tail_length(0.9, tolerance)
