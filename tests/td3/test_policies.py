"""What is TD3's own: delayed policy updates, target actors, DDPG, and the policies' names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DDPG, TD3
from stable_baselines3.td3 import policies as sb3

import snrl.td3

Make = Callable[..., Any]


@pytest.mark.parametrize("algorithm", [TD3, DDPG])
@pytest.mark.parametrize(
    ("name", "policy", "plain"),
    [
        ("SNMlpPolicy", snrl.td3.MlpPolicy, sb3.MlpPolicy),
        ("SNCnnPolicy", snrl.td3.CnnPolicy, sb3.CnnPolicy),
        ("SNMultiInputPolicy", snrl.td3.MultiInputPolicy, sb3.MultiInputPolicy),
    ],
)
def test_names_resolve_to_subclasses_of_sb3s_policies(
    algorithm: type[TD3], name: str, policy: type, plain: type
) -> None:
    assert algorithm.policy_aliases[name] is policy
    assert issubclass(policy, plain)
    assert algorithm.policy_aliases[name.removeprefix("SN")] is plain


@pytest.mark.parametrize("delay", [1, 2, 3])
def test_actor_and_targets_move_every_delayed_update_alone(
    make: Make, delay: int, assert_normalised: Make
) -> None:
    model = make("td3", policy_delay=delay, tau=0.5, learn=21)
    watched = [
        model.critic_target.qf0[2].weight,
        model.actor.mu[0].weight,
        model.actor_target.mu[0].weight,
    ]
    for _ in range(7):
        before = [weight.detach().clone() for weight in watched]
        online = model.critic.qf0[2].weight.detach().clone()
        model.train(1, batch_size=16)
        moved = [not torch.equal(a, b) for a, b in zip(before, watched, strict=True)]
        assert moved == [model._n_updates % delay == 0] * 3
        assert not torch.equal(online, model.critic.qf0[2].weight)
        assert_normalised(model)


def test_the_actor_and_its_target_are_not_normalised(make: Make) -> None:
    plain, normalised = make("td3", "MlpPolicy"), make("td3", policy_kwargs={"sn_layers": "all"})
    obs = torch.randn(5, 3)
    for part in ("actor", "actor_target"):
        assert torch.equal(getattr(plain, part)(obs), getattr(normalised, part)(obs))


def test_ddpg_has_one_normalised_critic_and_loads(
    make: Make, tmp_path: Path, assert_normalised: Make
) -> None:
    model = make("ddpg", policy_kwargs={"sn_coef": 0.5}, learn=50)
    assert len(model.critic.q_networks) == len(model.critic_target.q_networks) == 1
    assert_normalised(model, coef=0.5)
    model.save(tmp_path / "ddpg.zip")
    loaded = DDPG.load(tmp_path / "ddpg.zip", env=gym.make("Pendulum-v1"), device="cpu")
    assert_normalised(loaded, coef=0.5)
    obs = model.get_env().reset()
    np.testing.assert_array_equal(
        model.predict(obs, deterministic=True)[0], loaded.predict(obs, deterministic=True)[0]
    )
    loaded.learn(30)
    assert_normalised(loaded, coef=0.5)
