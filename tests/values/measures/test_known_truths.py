"""Returns and errors together, where the value is known: a table, and a linear-quadratic system."""

import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from snrl.values.measures import discounted_returns, entropy_terms, estimate_errors, tail_length

GAMMA = 0.9
EPISODES = 400
ALPHAS = [0.0, 0.7]


class Table:
    """A random Markov decision process with a random policy; state 0 ends the episode."""

    def __init__(self, alpha, rng):
        self.alpha = alpha
        states, actions = 6, 3
        self.next = rng.dirichlet(np.ones(states), (states, actions))
        self.next[:, :, 0] *= 0.05
        self.next /= self.next.sum(-1, keepdims=True)
        self.reward = rng.normal(2.0, 1.0, (states, actions))
        self.policy = rng.dirichlet(np.ones(actions), states)
        alive = np.arange(states) > 0
        # Q = r + γ P (Σ_a π (Q - α log π)), solved as one linear system.
        flow = np.einsum("sat,tb->satb", self.next * alive, self.policy)
        flow = flow.reshape(states * actions, states * actions)
        entropy = -np.log(self.policy)
        reward = self.reward.ravel() + GAMMA * alpha * flow @ entropy.ravel()
        self.q = np.linalg.solve(np.eye(len(flow)) - GAMMA * flow, reward)
        self.q = self.q.reshape(states, actions)
        self.v = alive * (self.policy * (self.q + alpha * entropy)).sum(1)

    def episode(self, rng, steps):
        state, q, rewards, logs = rng.integers(1, len(self.policy)), [], [], []
        while len(q) < steps and state:
            action = rng.choice(self.policy.shape[1], p=self.policy[state])
            q.append(self.q[state, action])
            rewards.append(self.reward[state, action])
            logs.append(np.log(self.policy[state, action]))
            state = rng.choice(len(self.policy), p=self.next[state, action])
        return np.array(q), np.array(rewards), np.array(logs), self.v[state]


class LinearQuadratic:
    """x' = A x + B u + w with u normal around -K x, at a quadratic cost."""

    def __init__(self, alpha, _rng):
        self.alpha = alpha
        self.a = np.array([[1.0, 0.1], [-0.2, 0.9]])
        self.b = np.array([[0.0], [0.4]])
        self.k = np.array([[0.5, 0.6]])
        self.cost_x, self.cost_u = np.diag([1.0, 0.3]), np.array([[0.2]])
        self.spread, self.noise = 0.5, 0.1
        closed = np.sqrt(GAMMA) * (self.a - self.b @ self.k)
        # P = C + KᵀRK + γ (A-BK)ᵀ P (A-BK), the value of a state being -xᵀPx - c.
        cost = self.cost_x + self.k.T @ self.cost_u @ self.k
        self.p = solve_discrete_lyapunov(closed.T, cost)
        stirred = self.spread**2 * self.b @ self.b.T + self.noise**2 * np.eye(2)
        entropy = 0.5 * np.log(2 * np.pi * np.e * self.spread**2)
        per_step = (
            self.cost_u.item() * self.spread**2
            + GAMMA * np.trace(self.p @ stirred)
            - alpha * entropy
        )
        self.c = per_step / (1 - GAMMA)

    def v(self, x):
        return -(x @ self.p @ x) - self.c

    def q(self, x, u):
        reward = -(x @ self.cost_x @ x) - u @ self.cost_u @ u
        mean = self.a @ x + self.b @ u
        return reward, reward + GAMMA * (self.v(mean) - self.noise**2 * np.trace(self.p))

    def episode(self, rng, steps):
        x, q, rewards, logs = rng.normal(size=2), [], [], []
        for _ in range(steps):
            draw = rng.normal(size=1)
            u = -self.k @ x + self.spread * draw
            reward, value = self.q(x, u)
            q.append(value)
            rewards.append(reward)
            logs.append(-0.5 * draw.item() ** 2 - np.log(self.spread * np.sqrt(2 * np.pi)))
            x = self.a @ x + self.b @ u + self.noise * rng.normal(size=2)
        return np.array(q), np.array(rewards), np.array(logs), self.v(x)


def errors(task, *, steps=60, alpha=None, bootstrap=True, keep=None, shift=0.0, noise=0.0):
    """Errors of the true values, plus a known error, on fresh episodes."""
    rng = np.random.default_rng(7)
    alpha = task.alpha if alpha is None else alpha
    q, returns, clusters = [], [], []
    for i in range(EPISODES):
        values, rewards, logs, end = task.episode(rng, steps)
        soft = rewards + entropy_terms(logs, alpha, GAMMA)
        kept = slice(0, keep)
        q.append(values[kept])
        returns.append(discounted_returns(soft, GAMMA, final=end if bootstrap else 0.0)[kept])
        clusters.append(np.full(len(q[-1]), i))
    q, returns, clusters = map(np.concatenate, (q, returns, clusters))
    q = q + shift + noise * rng.normal(size=len(q))
    return estimate_errors(q, returns, clusters=clusters)


@pytest.fixture(scope="module", params=[Table, LinearQuadratic])
def kind(request):
    return request.param


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_true_value_has_no_bias_and_a_known_error_is_given_back(kind, alpha):
    task = kind(alpha, np.random.default_rng(3))
    true = errors(task)
    assert abs(true.bias_mean) < 4 * true.bias_standard_error
    shifted = errors(task, shift=1.3)
    assert shifted.bias_mean == pytest.approx(true.bias_mean + 1.3)
    assert abs(shifted.bias_mean) > 4 * shifted.bias_standard_error
    noisy = errors(task, noise=5.0)
    assert noisy.bias_std == pytest.approx(np.hypot(true.bias_std, 5.0), rel=0.05)
    assert noisy.rank_correlation < true.rank_correlation


def test_another_entropy_coefficient_is_another_value(kind):
    task = kind(0.7, np.random.default_rng(3))
    for wrong in (0.2, 0.0):
        found = errors(task, alpha=wrong)
        assert abs(found.bias_mean) > 6 * found.bias_standard_error


@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_time_limit_does_not_change_the_bias(kind, alpha):
    task = kind(alpha, np.random.default_rng(3))
    tolerance = 1e-3
    n = tail_length(GAMMA, tolerance)
    found = {
        "long": errors(task, steps=150, keep=15, shift=1.3),
        "value at the cut": errors(task, steps=10, shift=1.3),
        "without the tail": errors(task, steps=n + 14, bootstrap=False, keep=15, shift=1.3),
    }
    for name, one in found.items():
        within = 4 * one.bias_standard_error + tolerance * one.scale
        assert one.bias_mean == pytest.approx(1.3, abs=within), name
    naive = errors(task, steps=10, bootstrap=False, shift=1.3)
    assert abs(naive.bias_mean - 1.3) > 6 * naive.bias_standard_error
