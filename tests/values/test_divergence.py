import math
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import SAC, TD3, HerReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecNormalize

from snrl.values.divergence import DivergenceWatch
from snrl.values.probe import Probe


def watch(algorithm: Any = TD3, env: Any = "Pendulum-v1", gamma: float = 0.9) -> Any:
    model = algorithm("MlpPolicy", env, gamma=gamma, buffer_size=10, device="cpu", seed=0)
    model.set_logger(configure(None, []))
    return model, DivergenceWatch(Probe(model))


def test_the_bound_follows_the_rewards() -> None:
    _, divergences = watch()
    assert divergences.bound() == math.inf
    divergences.see_rewards(np.array([-3.0, 4.0]))
    assert divergences.bound() == pytest.approx(2 * 4 / 0.1)
    divergences.see_rewards(np.array([-5.0]))
    assert divergences.bound() == pytest.approx(2 * 5 / 0.1)


def test_rewards_of_zero_leave_values_their_start() -> None:
    _, divergences = watch()
    divergences.see_rewards(np.zeros(1))
    assert divergences.bound() == 10
    assert divergences.check(9.0) is None


def test_the_entropy_counts_with_the_largest_alpha_so_far() -> None:
    model, divergences = watch(SAC)
    divergences.see_rewards(np.zeros(1))
    for alpha in (0.5, 0.1):
        model.logger.record("train/ent_coef", alpha)
        divergences.check()
    assert divergences.bound() == pytest.approx(2 * 0.9 * 0.5 * 10 / 0.1)


def test_normalised_rewards_bound_normalised_values() -> None:
    env = VecNormalize(make_vec_env("Pendulum-v1", seed=0))
    _, divergences = watch(env=env)
    env.reset()
    env.step(np.zeros((1, 1)))
    reward = env.get_original_reward()
    assert divergences.see_rewards(np.array([123.0]))
    expected = abs(float(env.normalize_reward(reward)[0]))
    assert divergences.bound() == pytest.approx(max(10, 2 * expected / 0.1))


@pytest.mark.parametrize(
    ("recorded", "reason"),
    [
        ({}, None),
        ({"critic_loss": 2 * 4 * 80**2 * 0.99, "actor_loss": 79.0}, None),
        ({"critic_loss": 2 * 4 * 80**2 * 1.01}, "critic loss is 51712, past its bound of 51200"),
        ({"critic_loss": float("nan")}, "critic loss is nan"),
        ({"critic_loss": float("inf")}, "critic loss is inf"),
        ({"actor_loss": float("nan")}, "|Q| is nan"),
        ({"actor_loss": -81.0}, "|Q| is 81, past its bound of 80"),
    ],
)
def test_what_the_last_update_recorded(recorded: dict[str, float], reason: str | None) -> None:
    model, divergences = watch()
    divergences.see_rewards(np.array([-4.0, 1.0]))
    for name, value in recorded.items():
        model.logger.record(f"train/{name}", value)
    assert divergences.check() == reason


def test_values_that_are_known_besides() -> None:
    _, divergences = watch()
    divergences.see_rewards(np.array([-4.0, 1.0]))
    assert divergences.check(81.0) == "|Q| is 81, past its bound of 80"


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_a_reward_that_is_not_finite_is_not_forgotten(odd: float) -> None:
    _, divergences = watch()
    for rewards in ([1.0, odd], [2.0, 3.0]):
        divergences.see_rewards(np.array(rewards))
    assert divergences.check() == f"a reward is {odd}"


@pytest.mark.parametrize("name", ["critic_loss", "actor_loss"])
def test_infinity_is_past_an_infinite_bound(name: str) -> None:
    model, divergences = watch(gamma=1.0)
    divergences.see_rewards(np.ones(1))
    model.logger.record(f"train/{name}", 1e30)
    assert divergences.check() is None
    model.logger.record(f"train/{name}", math.inf)
    assert str(divergences.check()).endswith(" is inf")


def test_rewards_of_a_replay_buffer_from_before_count() -> None:
    model, divergences = watch()
    step = [np.zeros((1, 3)), np.zeros((1, 3)), np.zeros((1, 1))]
    for reward in (-7.0, 2.0):
        model.replay_buffer.add(*step, np.array([reward]), np.zeros(1), [{}])
    divergences.begin()
    divergences.see_rewards(np.zeros(1))
    assert divergences.bound() == pytest.approx(2 * 7 / 0.1)


def test_hindsight_trains_on_rewards_that_nobody_has_seen() -> None:
    model = SAC(
        "MultiInputPolicy",
        BitFlippingEnv(n_bits=2, continuous=True),
        replay_buffer_class=HerReplayBuffer,
        buffer_size=100,
        device="cpu",
    )
    model.set_logger(configure(None, []))
    divergences = DivergenceWatch(Probe(model))
    divergences.see_rewards(np.zeros(1))
    assert divergences.bound() == math.inf
    assert divergences.check(50.0) is None
    assert divergences.check(math.inf) is not None
