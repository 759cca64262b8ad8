import math

import numpy as np
import pytest

from snrl.values.measures import divergence, squared_loss_bound, value_bound

from .test_known_truths import GAMMA, Table


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("alpha", [0.0, 0.7])
def test_no_value_of_a_table_exceeds_the_bound(seed, alpha):
    task = Table(alpha, np.random.default_rng(seed))
    entropy = -alpha * np.log(task.policy)
    bound = value_bound(
        task.reward.min(),
        task.reward.max(),
        GAMMA,
        entropy_min=entropy.min(),
        entropy_max=entropy.max(),
    )
    assert np.abs(task.q).max() <= bound


@pytest.mark.parametrize("reward", [-3.0, 3.0])
def test_a_constant_reward_reaches_the_bound(reward):
    assert value_bound(reward, reward, 0.99) == pytest.approx(abs(reward) / 0.01)
    steps = np.arange(5000)
    later = (0.99**steps * -0.5)[1:].sum()  # Of later actions, with an entropy term of -0.5.
    worth = (0.99**steps * -3.0).sum() + later
    assert value_bound(-3.0, -3.0, 0.99, entropy_min=-0.5) == pytest.approx(-worth)


def test_the_larger_side_counts():
    assert value_bound(-1.0, 4.0, 0.5) == value_bound(-4.0, 1.0, 0.5) == 8.0
    assert value_bound(-1.0, 1.0, 0.5, entropy_min=-6, entropy_max=2) == 2 + 6
    assert value_bound(-1.0, 1.0, 0.0, entropy_max=2) == 1
    assert value_bound(-1.0, 1.0, 1.0) == math.inf


@pytest.mark.parametrize("gamma", [-0.1, 1.01, math.nan])
def test_a_discount_out_of_range_is_refused(gamma):
    with pytest.raises(ValueError, match="gamma"):
        value_bound(-1.0, 1.0, gamma)


def test_a_smallest_above_a_largest_is_refused():
    with pytest.raises(ValueError, match="smallest above largest"):
        value_bound(2.0, 1.0, 0.9)
    with pytest.raises(ValueError, match="smallest above largest"):
        value_bound(0.0, 1.0, 0.9, entropy_max=-1.0)


@pytest.mark.parametrize("critics", [1, 2, 10])
def test_values_and_targets_within_the_bound_keep_the_loss_within_its_own(critics):
    rng = np.random.default_rng(0)
    q, targets = rng.uniform(-7, 7, (2, critics, 64))
    assert (q - targets).__pow__(2).mean(1).sum() < squared_loss_bound(7.0, critics)
    worst = np.full((critics, 64), 7.0)
    assert ((worst + 7.0) ** 2).mean(1).sum() == squared_loss_bound(7.0, critics)


def test_a_healthy_critic_has_not_diverged():
    assert divergence(q_abs_max=99.0, q_bound=100.0, loss=3.0, loss_bound=10.0) is None
    assert divergence(q_abs_max=1e30, q_bound=math.inf, loss=1e30, loss_bound=math.inf) is None


@pytest.mark.parametrize(
    ("q", "loss", "reason"),
    [
        (math.nan, 1.0, "|Q| is nan"),
        (1.0, math.nan, "critic loss is nan"),
        (math.inf, 1.0, "|Q| is inf"),
        (1.0, math.inf, "critic loss is inf"),
        (101.0, 1.0, "|Q| is 101, past its bound of 100"),
        (1.0, 12.5, "critic loss is 12.5, past its bound of 10"),
    ],
)
def test_the_reason_is_told(q, loss, reason):
    assert divergence(q_abs_max=q, q_bound=100.0, loss=loss, loss_bound=10.0) == reason
    unbounded = divergence(q_abs_max=q, q_bound=math.inf, loss=loss, loss_bound=math.inf)
    assert (unbounded is None) == (math.isfinite(q) and math.isfinite(loss))
