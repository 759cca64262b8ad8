"""Tasks, policies and critics whose values are known exactly: Gymnasium tasks, SB3 models.

A model here is SB3's, with an actor and critics that hold the truth plus a known error.
"""

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from scipy.linalg import solve_discrete_lyapunov
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from stable_baselines3.sac.policies import Actor as SACActor
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import Actor as TD3Actor
from stable_baselines3.td3.policies import TD3Policy
from torch import Tensor, nn

Function = Callable[[Tensor], Tensor]


class Head(nn.Module):
    """A head that gives what a function of state and action gives, in float64."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function
        self.offset = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x.double())[:, None] + self.offset


def set_critic(model: Any, *functions: Function, target: bool = True) -> None:
    """Replace the critics' heads, of the target too if asked, by functions of state and action."""
    for critic in (model.critic, *([model.critic_target] if target else [])):
        assert isinstance(critic, ContinuousCritic)
        for name in [name for name, _ in critic.named_children() if name.startswith("qf")]:
            delattr(critic, name)
        critic.q_networks = [nn.Sequential(Head(function)) for function in functions]
        for index, network in enumerate(critic.q_networks):
            setattr(critic, f"qf{index}", network)


class LinearGaussianActor(SACActor):
    """``u = K x + sigma ε``, not squashed."""

    gain: Tensor
    sigma: float

    def action_log_prob(self, obs: Any) -> tuple[Tensor, Tensor]:
        mean = obs.double() @ self.gain.T
        noise = torch.randn_like(mean)
        log = -0.5 * noise.square() - math.log(self.sigma) - 0.5 * math.log(2 * math.pi)
        return (mean + self.sigma * noise).float(), log.sum(1).float()


class LinearGaussianPolicy(SACPolicy):
    def make_actor(self, features_extractor: Any = None) -> SACActor:
        kwargs = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return LinearGaussianActor(**kwargs).to(self.device)


class FunctionActor(TD3Actor):
    """The action that a function of the observation gives."""

    function: Function

    def forward(self, obs: Any) -> Tensor:
        return self.function(self.extract_features(obs, self.features_extractor))


class FunctionPolicy(TD3Policy):
    def make_actor(self, features_extractor: Any = None) -> TD3Actor:
        kwargs = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return FunctionActor(**kwargs).to(self.device)


def vectorised(make: Callable[[], gym.Env[Any, Any]], limit: int | None, n: int = 100) -> VecEnv:
    def one() -> gym.Env[Any, Any]:
        return make() if limit is None else TimeLimit(make(), limit)

    return DummyVecEnv([one] * n)


class ConstantReward(gym.Env[Any, Any]):
    """The same reward at every step, for ever."""

    observation_space = spaces.Box(-1, 1, (2,))
    action_space = spaces.Box(-1, 1, (1,))

    def __init__(self, reward: float = 1.5) -> None:
        self.reward = reward

    def reset(self, **kwargs: Any) -> Any:
        super().reset(**kwargs)
        return self.observation_space.sample() * 0, {}

    def step(self, _: Any) -> Any:
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), self.reward, False, False, {}


class LinearQuadratic(gym.Env[Any, Any]):
    """``x' = A x + B u + w`` with reward ``-(xᵀ Q x + uᵀ R u)``.

    Episodes begin in the distribution that the linear policy settles in, so that states at any age
    are alike. ``cut``: the task itself cuts its episodes after so many steps.
    """

    A = np.array([[0.9, 0.2], [-0.1, 0.8]])
    B = np.array([[0.1], [0.3]])
    Q = np.diag([1.0, 0.5])
    R = np.array([[0.2]])
    K = np.array([[-0.3, -0.5]])
    observation_space = spaces.Box(-np.inf, np.inf, (2,))
    action_space = spaces.Box(-1, 1, (1,))

    def __init__(self, noise: float = 0.1, sigma: float = 0.3, cut: int | None = None) -> None:
        self.noise, self.sigma, self.cut = noise, sigma, cut

    @property
    def settled(self) -> np.ndarray:
        """Covariance of the stationary distribution."""
        closed = self.A + self.B @ self.K
        spread = self.sigma**2 * self.B @ self.B.T + self.noise**2 * np.eye(2)
        return solve_discrete_lyapunov(closed, spread)

    def reset(self, **kwargs: Any) -> Any:
        super().reset(**kwargs)
        self.age = 0
        self.x = self.np_random.multivariate_normal(np.zeros(2), self.settled)
        return self.x.astype(np.float32), {}

    def step(self, action: Any) -> Any:
        u = np.asarray(action, dtype=float)
        reward = -(self.x @ self.Q @ self.x + u @ self.R @ u)
        self.x = self.A @ self.x + self.B @ u + self.noise * self.np_random.normal(size=2)
        self.age += 1
        return self.x.astype(np.float32), float(reward), False, self.age == self.cut, {}

    def truth(self, gamma: float, alpha: float = 0.0) -> Function:
        """The exact Q of ``u = K x + sigma ε``, from the discrete Lyapunov equation."""
        closed = self.A + self.B @ self.K
        cost = -(self.Q + self.K.T @ self.R @ self.K)
        P = solve_discrete_lyapunov(math.sqrt(gamma) * closed.T, cost)
        spread = self.sigma**2 * self.B @ self.B.T + self.noise**2 * np.eye(2)
        entropy = 0.0
        if self.sigma:
            entropy = 0.5 * math.log(2 * math.pi * math.e * self.sigma**2)
        reward = -np.trace(self.R) * self.sigma**2 + gamma * np.trace(P @ spread)
        constant = (reward + alpha * entropy) / (1 - gamma)
        rest = gamma * (self.noise**2 * np.trace(P) + constant)
        parts = [torch.as_tensor(part) for part in (self.A, self.B, self.Q, self.R, P)]

        def q(z: Tensor) -> Tensor:
            A, B, Q, R, P = parts
            x, u = z[:, :2], z[:, 2:]
            following = x @ A.T + u @ B.T
            now = ((x @ Q) * x).sum(1) + ((u @ R) * u).sum(1)
            return -now + gamma * ((following @ P) * following).sum(1) + rest

        return q


class Tabular(gym.Env[Any, Any]):
    """Five states, two actions (the sign of one number), chance, and an end.

    ``transitions[s, a]`` are the probabilities of the next state; the last state ends the episode.
    """

    observation_space = spaces.Discrete(5)
    action_space = spaces.Box(-1, 1, (1,))

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        self.transitions = rng.dirichlet(np.full(5, 0.6), size=(4, 2))
        self.rewards = rng.normal(size=(4, 2))

    def reset(self, **kwargs: Any) -> Any:
        super().reset(**kwargs)
        self.s = int(self.np_random.integers(4))
        return self.s, {}

    def step(self, action: Any) -> Any:
        a = int(action[0] > 0)
        reward = float(self.rewards[self.s, a])
        self.s = int(self.np_random.choice(5, p=self.transitions[self.s, a]))
        return self.s, reward, self.s == 4, False, {}

    def truth(self, gamma: float, policy: np.ndarray) -> np.ndarray:
        """``Q[s, a]`` of the policy ``a = policy[s]``, by a linear system."""
        rows = np.arange(4)
        following = self.transitions[rows, policy][:, :4]
        value = np.linalg.solve(np.eye(4) - gamma * following, self.rewards[rows, policy])
        return self.rewards + gamma * self.transitions[:, :, :4] @ value


def td3(env: VecEnv, action: Function, gamma: float, **kwargs: Any) -> TD3:
    """A TD3 model whose policy is the given function."""
    model = TD3(FunctionPolicy, env, gamma=gamma, buffer_size=10, device="cpu", seed=0, **kwargs)
    for actor in (model.actor, model.actor_target):
        actor.function = action
    return model


def linear_sac(env: VecEnv, gain: np.ndarray, sigma: float, gamma: float, alpha: float) -> SAC:
    """A SAC model whose policy is linear-Gaussian."""
    model = SAC(
        LinearGaussianPolicy, env, gamma=gamma, ent_coef=alpha, buffer_size=10, device="cpu", seed=0
    )
    model.actor.gain, model.actor.sigma = torch.as_tensor(gain), sigma
    return model
