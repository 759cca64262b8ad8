"""Where each algorithm keeps its critics, and what can be said of any of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import TQC, CrossQ
from stable_baselines3 import DDPG, DQN, PPO, SAC, TD3

from snrl.critics import critic_lipschitz, sigma_max
from snrl.critics.access import heads, online_critic, reads_action, target_critic

SMALL = {"buffer_size": 10, "device": "cpu", "seed": 0}
ALGORITHMS: dict[str, tuple[Any, int]] = {
    "sac": (SAC, 2),
    "td3": (TD3, 2),
    "ddpg": (DDPG, 1),
    "tqc": (TQC, 2),
    "crossq": (CrossQ, 2),
    "dqn": (DQN, 1),
}


def build(algo: str) -> Any:
    env = "CartPole-v1" if algo == "dqn" else "Pendulum-v1"
    return ALGORITHMS[algo][0]("MlpPolicy", env, policy_kwargs={"net_arch": [12, 8]}, **SMALL)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_the_critics_are_those_that_training_changes(algo: str) -> None:
    model = build(algo)
    online, target = online_critic(model), target_critic(model)
    optimizer = model.policy.optimizer if algo == "dqn" else model.critic.optimizer
    (group,) = optimizer.param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in online.parameters()}
    assert (target is None) == (algo == "crossq")
    assert target is not online
    assert reads_action(online) == (algo != "dqn")


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_heads_make_the_critics_values(algo: str) -> None:
    model = build(algo)
    model.policy.set_training_mode(False)
    for critic in filter(None, (online_critic(model), target_critic(model))):
        assert len(heads(critic)) == ALGORITHMS[algo][1]
        state = torch.randn(5, *model.observation_space.shape)
        action = [] if algo == "dqn" else [torch.rand(5, 1)]
        values: Any = critic(state, *action)
        values = [values] if algo == "dqn" else values.unbind(1) if algo == "tqc" else values
        for head, value in zip(heads(critic), values, strict=True):
            torch.testing.assert_close(head(torch.cat([state, *action], 1)), value)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_sigma_of_a_plain_critic_is_the_svds(algo: str, applied: Callable[..., Any]) -> None:
    model = build(algo)
    for critic in filter(None, (online_critic(model), target_critic(model))):
        layers = [
            [layer for layer in head if isinstance(layer, torch.nn.Linear)]
            for head in heads(critic)
        ]
        expected = max(np.linalg.svd(applied(head[1]))[1][0] for head in layers)
        assert sigma_max(critic) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("algo", ["ddpg", "tqc", "dqn"])
def test_certified_bounds_are_products_of_norms(algo: str) -> None:
    critic = online_critic(build(algo))
    expected: dict[str, float] = {}
    for head in heads(critic):
        first, second, last = (x.weight.detach().double() for x in head if hasattr(x, "weight"))
        n = first.shape[1] - reads_action(critic)
        parts = {"state": first[:, :n], "action": first[:, n:], "state_action": first}
        rest = np.linalg.norm(second, 2) * np.linalg.norm(last, 2)
        for name, part in parts.items():
            bound = float(np.linalg.norm(part, 2) * rest) if part.numel() else 0.0
            expected[name] = max(expected.get(name, 0.0), bound)
    if algo == "dqn":
        expected = {"state": expected["state"]}
    assert critic_lipschitz(critic) == pytest.approx(expected, rel=1e-5)


def test_batch_norm_has_no_certified_constant() -> None:
    assert critic_lipschitz(online_critic(build("crossq"))) == {}


def test_a_model_without_such_a_critic_is_refused() -> None:
    model = PPO("MlpPolicy", "Pendulum-v1", device="cpu")
    assert target_critic(model) is None
    with pytest.raises(ValueError, match="PPO has no critic of state and action; SAC, TD3"):
        online_critic(model)
