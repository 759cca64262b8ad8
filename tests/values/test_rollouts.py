"""Monte-Carlo returns against exact values."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import SAC
from torch import Tensor

from snrl.values.environment import own_env
from snrl.values.measures import estimate_errors
from snrl.values.measures.errors import EstimateErrors
from snrl.values.probe import Probe
from snrl.values.rollouts import MAX_TAIL, Roller, Rollouts

from .truths import (
    ConstantReward,
    LinearQuadratic,
    Tabular,
    linear_sac,
    set_critic,
    td3,
    vectorised,
)

GAMMA = 0.9
K = torch.as_tensor(LinearQuadratic.K)


def roll(
    model: Any, env: Any, steps: int = 200, tolerance: float = 0.01, states: int = 10_000
) -> Rollouts:
    torch.manual_seed(0)
    np.random.seed(0)
    own = own_env(env, model)
    own.seed(0)
    return Roller(Probe(model), own, steps, states, tolerance).roll()


def judge(model: Any, rollouts: Rollouts) -> tuple[EstimateErrors, float]:
    """Errors of the model's own values, and the interval of their mean (three standard errors)."""
    states = rollouts.transitions
    q = Probe(model).q(states.observations, states.actions).detach().double().numpy()
    returns = rollouts.corrected(q)
    assert returns is not None
    errors = estimate_errors(q, returns, clusters=rollouts.episodes)
    return errors, 3 * errors.bias_standard_error / (1 - rollouts.weights.mean())


def linear(z: Tensor) -> Tensor:
    return (z.double() @ K.T).float()


# --- constant reward: Q = r / (1 - gamma) ---------------------------------------------------------


@pytest.mark.parametrize("limit", [5, 50, None])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("error", [0.0, -3.0])
def test_constant_reward(gamma: float, limit: int | None, error: float) -> None:
    env = vectorised(ConstantReward, limit, n=2)
    model = td3(env, lambda x: x[:, :1], gamma)
    truth = 1.5 / (1 - gamma)
    set_critic(model, lambda z: torch.full((len(z),), truth + error, dtype=torch.float64))
    rollouts = roll(model, vectorised(ConstantReward, limit, n=2), steps=20)
    errors, _ = judge(model, rollouts)
    # The completion is exact where the critic errs alike everywhere.
    assert errors.bias_mean == pytest.approx(error, abs=1e-9 * truth)
    assert errors.bias_std == pytest.approx(0, abs=1e-9 * truth)


# --- a linear-quadratic system, exact by the Lyapunov equation ------------------------------------


def quadratic(alpha: float, *, noise: float = 0.1, sigma: float = 0.3, **kwargs: Any) -> Any:
    """A SAC model with a linear-Gaussian policy, its task, and the true Q."""

    def make() -> LinearQuadratic:
        return LinearQuadratic(noise, sigma, **kwargs)

    model = linear_sac(vectorised(make, 50, n=1), LinearQuadratic.K, sigma, GAMMA, alpha)
    return model, make, make().truth(GAMMA, alpha)


@pytest.mark.parametrize("alpha", [0.0, 0.2, 1.0])
def test_the_true_critic_has_no_bias(alpha: float) -> None:
    model, make, truth = quadratic(alpha)
    set_critic(model, truth)
    errors, interval = judge(model, roll(model, vectorised(make, 50)))
    assert abs(errors.bias_mean) < interval < 0.1 + 0.2 * alpha
    # What is left is the chance of the returns.
    assert 0.4 < errors.overestimation_rate < 0.65


@pytest.mark.parametrize("alpha", [0.0, 0.2])
def test_a_known_error_comes_back(alpha: float) -> None:
    model, make, truth = quadratic(alpha)
    set_critic(model, lambda z: truth(z) + 0.7)
    errors, interval = judge(model, roll(model, vectorised(make, 50)))
    assert errors.bias_mean == pytest.approx(0.7, abs=interval)
    assert interval < 0.1
    set_critic(model, lambda z: 3 * truth(z))
    rollouts = roll(model, vectorised(make, 50))
    errors, interval = judge(model, rollouts)
    observations, actions = rollouts.transitions.observations, rollouts.transitions.actions
    true = truth(torch.cat([observations, actions], 1).double()).numpy()
    assert errors.bias_mean == pytest.approx(2 * true.mean(), abs=interval)


def test_the_entropy_at_a_cut_counts() -> None:
    """With a tail so short that what completes the returns weighs much, and much entropy in it."""
    model, make, truth = quadratic(1.0, sigma=0.01)
    set_critic(model, truth)
    rollouts = roll(model, vectorised(make, 20), tolerance=0.5)
    assert rollouts.weights.mean() > 0.15
    errors, interval = judge(model, rollouts)
    assert abs(errors.bias_mean) < interval < 0.5


def test_a_wrong_entropy_is_told() -> None:
    """Negative control: a critic that is true but for its entropy, or its entropy's sign."""
    model, make, _ = quadratic(1.0)
    for wrong in (0.0, -1.0, 0.8):
        set_critic(model, make().truth(GAMMA, wrong))
        errors, interval = judge(model, roll(model, vectorised(make, 50)))
        entropy = 0.5 * np.log(2 * np.pi * np.e * 0.3**2)
        expected = GAMMA / (1 - GAMMA) * entropy * (wrong - 1)
        assert errors.bias_mean == pytest.approx(expected, abs=interval)
        assert abs(errors.bias_mean) > 2 * interval


def test_without_chance_the_errors_are_exact() -> None:
    """Mean, spread, rate and rank of a known error, where returns have no chance in them."""

    def make() -> LinearQuadratic:
        return LinearQuadratic(0.1, 0.0, cut=None)

    def still() -> LinearQuadratic:
        task = make()
        start = task.reset

        def reset(**kwargs: Any) -> Any:
            result = start(**kwargs)
            task.noise = 0.0
            return result

        task.reset = reset  # type: ignore[method-assign]
        return task

    truth = LinearQuadratic(0.0, 0.0).truth(GAMMA)

    def error(z: Tensor) -> Tensor:
        return 0.3 + torch.sin(7 * z[:, 0])

    model = td3(vectorised(still, 30, n=1), linear, GAMMA)
    set_critic(model, lambda z: truth(z) + error(z))
    rollouts = roll(model, vectorised(still, 30, n=8), steps=30, tolerance=1e-9)
    errors, _ = judge(model, rollouts)
    z = torch.cat([rollouts.transitions.observations, rollouts.transitions.actions], 1).double()
    known, true = error(z).numpy(), truth(z).numpy()
    assert errors.bias_mean == pytest.approx(known.mean(), rel=1e-5)
    assert errors.bias_std == pytest.approx(known.std(), rel=1e-5)
    assert errors.absolute_discrepancy == pytest.approx(np.abs(known).mean(), rel=1e-5)
    assert errors.overestimation_rate == pytest.approx((known > 0).mean(), abs=1 / len(known))
    expected = estimate_errors(true + known, true).rank_correlation
    assert errors.rank_correlation == pytest.approx(expected, abs=1e-3)


# --- a tabular task, exact by a linear system -----------------------------------------------------


@pytest.mark.parametrize("limit", [7, None])
@pytest.mark.parametrize("error", [0.0, 0.5])
def test_tabular(limit: int | None, error: float) -> None:
    policy = np.array([0, 1, 1, 0])
    table = torch.as_tensor(Tabular().truth(GAMMA, policy))
    signs = torch.as_tensor([*(2.0 * policy - 1), 1.0])
    model = td3(vectorised(Tabular, limit, n=1), lambda x: (x @ signs.float())[:, None], GAMMA)

    def q(z: Tensor) -> Tensor:
        state = z[:, :5].argmax(1).clamp(max=3)
        return table[state, (z[:, 5] > 0).long()] + error

    set_critic(model, q)
    errors, interval = judge(model, roll(model, vectorised(Tabular, limit), steps=100))
    assert errors.bias_mean == pytest.approx(error, abs=interval)
    assert interval < 0.25


# --- time limits ----------------------------------------------------------------------------------


def biases(alpha: float, error: Any, steps: int = 300) -> dict[str, tuple[float, float]]:
    found = {}
    for name, limit, cut in (("50", 50, None), ("5000", 5000, None), ("own 50", None, 50)):
        model, make, truth = quadratic(alpha, cut=cut)
        set_critic(model, lambda z, truth=truth: truth(z) + error(z))
        rollouts = roll(model, vectorised(make, limit), steps=steps)
        errors, interval = judge(model, rollouts)
        found[name] = (errors.bias_mean, interval)
        # The first half of an episode, where there is no tail behind a whole one.
        assert rollouts.weights.max() <= max(0.01, GAMMA**26)
    return found


@pytest.mark.parametrize("alpha", [0.0, 0.2])
def test_a_time_limit_adds_no_bias(alpha: float) -> None:
    """Limits of 50 and of 5,000, and a task that cuts by itself, with an error of every kind."""
    found = biases(alpha, lambda z: 1 + 2 * torch.tanh(3 * z[:, 0]) - 0.5 * z[:, 2].square())
    for name in ("5000", "own 50"):
        difference = found["50"][0] - found[name][0]
        assert abs(difference) < np.hypot(found["50"][1], found[name][1])
        assert np.hypot(found["50"][1], found[name][1]) < 0.2
    assert found["50"][0] > 0.5


def test_a_return_that_ends_at_the_limit_would_miss() -> None:
    """Negative control: the same critic, with the limit taken for an end, is far off."""
    model, make, truth = quadratic(0.0)
    set_critic(model, truth)
    model.replay_buffer.handle_timeout_termination = False
    errors, interval = judge(model, roll(model, vectorised(make, 10)))
    assert errors.bias_mean < -10 * interval


def test_a_limit_that_ends_in_earnest() -> None:
    """Where training takes the limit for an end, so do the returns: no tail, no completion."""
    env = vectorised(ConstantReward, 3, n=2)
    model = td3(env, lambda x: x[:, :1], GAMMA)
    model.replay_buffer.handle_timeout_termination = False
    rollouts = roll(model, vectorised(ConstantReward, 3, n=2), steps=3)
    assert rollouts.weights.max() == 0
    np.testing.assert_allclose(
        np.sort(rollouts.returns.reshape(3, 2).mean(1)),
        [1.5, 1.5 * 1.9, 1.5 * 2.71],
    )
    assert rollouts.transitions.dones.reshape(3, 2).tolist() == [[0, 0], [0, 0], [1, 1]]


def test_only_states_before_the_limit_are_judged() -> None:
    class Clock(ConstantReward):
        """Observes its age."""

        observation_space = gym.spaces.Box(0, 1e6, (2,))

        def reset(self, **kwargs: Any) -> Any:
            super().reset(**kwargs)
            self.age = 0
            return np.zeros(2, np.float32), {}

        def step(self, _: Any) -> Any:
            self.age += 1
            return np.full(2, self.age, np.float32), 1.0, False, False, {}

    model = td3(vectorised(Clock, 30, n=1), lambda x: x[:, :1] * 0, GAMMA)
    rollouts = roll(model, vectorised(Clock, 30, n=2), steps=1000, states=25)
    ages = rollouts.transitions.observations[:, 0]
    assert ages.max() < 30
    # Evenly spaced, as many as asked for, and every return seen for a tail.
    assert 25 <= len(ages) < 50
    assert set(np.diff(np.unique(ages))) == {2.0}
    assert rollouts.weights.max() <= 0.01
    following = rollouts.transitions.next_observations[:, 0]
    assert torch.equal(following, ages + 1)


def test_nothing_is_said_where_gamma_is_one() -> None:
    model = td3(vectorised(ConstantReward, 5, n=1), lambda x: x[:, :1], 1.0)
    rollouts = roll(model, vectorised(ConstantReward, 5, n=1), steps=5)
    assert rollouts.weights.min() == 1.0
    assert rollouts.corrected(np.zeros(len(rollouts.weights))) is None
    assert MAX_TAIL == 1000


def test_normalised_rewards_are_what_counts() -> None:
    """Units: of normalised reward, by the training environment's current statistics."""
    from stable_baselines3.common.vec_env import VecNormalize

    env = VecNormalize(vectorised(lambda: gym.make("Pendulum-v1"), None, n=1), gamma=GAMMA)
    model = SAC("MlpPolicy", env, gamma=GAMMA, learning_starts=50, buffer_size=200, seed=0)
    model.learn(60)
    rollouts = roll(model, gym.make("Pendulum-v1"), steps=50)
    scale = np.sqrt(env.ret_rms.var + env.epsilon)
    low, high = rollouts.reward_range
    assert -16.3 / scale - 1e-6 <= low < high <= 0
    assert low < -1 / scale
    sample = model.replay_buffer.sample(50, env=env)
    assert low - 0.5 < sample.rewards.mean() < high
