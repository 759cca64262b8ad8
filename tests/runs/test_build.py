import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
from gymnasium import spaces
from sb3_contrib import TQC, CrossQ
from stable_baselines3 import DQN
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

import snrl
from snrl.critics import SpectralPolicy
from snrl.runs.build import build_model
from snrl.runs.config import resolve
from snrl.runs.envs import make_envs
from snrl.runs.errors import ConfigError


class Observing(gym.Env[Any, np.ndarray]):
    """A task that has a given observation space and nothing else."""

    action_space = spaces.Box(-1, 1, (1,))

    def __init__(self, observation_space: spaces.Space[Any]) -> None:
        self.observation_space = observation_space


def build(algo: str = "sac", **flags: Any) -> Any:
    config = resolve(algo, {"buffer_size": 100, "device": "cpu"} | flags)
    return build_model(config, make_envs(config)[0])


def test_values_reach_sb3() -> None:
    model = build(
        learning_rate="lin_1e-3",
        train_freq="2 episode",
        ent_coef="auto_0.1",
        noise_type="ornstein-uhlenbeck",
        noise_std=0.3,
        net_arch=["pi=8", "qf=16,16"],
        activation_fn="tanh",
        n_critics=3,
        use_sde=True,
        clip_mean=1.0,
        seed=5,
        optimize_memory_usage=True,
        handle_timeout_termination=False,
    )
    assert [model.lr_schedule(left) for left in (1, 0.5, 0)] == [1e-3, 5e-4, 0]
    assert model.train_freq == TrainFreq(2, TrainFrequencyUnit.EPISODE)
    assert np.isclose(model.log_ent_coef.exp().item(), 0.1)
    assert isinstance(model.action_noise, OrnsteinUhlenbeckActionNoise)
    assert model.action_noise._sigma == 0.3
    assert [m.out_features for m in model.actor.latent_pi if isinstance(m, nn.Linear)] == [8]
    assert len(model.critic.q_networks) == 3
    assert isinstance(model.critic.q_networks[0][1], nn.Tanh)
    assert model.use_sde
    assert model.actor.clip_mean == 1.0
    assert model.seed == 5
    assert model.replay_buffer.optimize_memory_usage


@pytest.mark.parametrize("algo", ["sac", "td3", "ddpg"])
def test_the_fast_algorithm_is_the_default(algo: str) -> None:
    assert type(build(algo)) is getattr(snrl, algo.upper())
    assert type(build(algo, fast=False)) is getattr(stable_baselines3, algo.upper())


@pytest.mark.parametrize(("algo", "algorithm"), [("tqc", TQC), ("crossq", CrossQ), ("dqn", DQN)])
def test_the_others_are_those_that_there_are(algo: str, algorithm: type) -> None:
    assert type(build(algo)) is algorithm


def test_values_reach_sb3_contrib_and_dqn() -> None:
    tqc = build("tqc", n_quantiles=7, n_critics=3, top_quantiles_to_drop_per_net=1, net_arch=[8])
    assert tqc.top_quantiles_to_drop_per_net == 1
    assert (tqc.critic.quantiles_total, tqc.critic.n_critics) == (21, 3)
    crossq = build("crossq", batch_norm_momentum=0.2, renorm_warmup_steps=5, policy_delay=4)
    assert (crossq.policy_delay, crossq.tau) == (4, 1.0)
    norm = crossq.critic.q_networks[0][0]
    assert (norm.momentum, norm.warmup_steps) == (0.2, 5)
    plain = build("crossq", batch_norm=False).critic.q_networks[0]
    assert [type(layer) for layer in plain[:2]] == [nn.Linear, nn.ReLU]
    dqn = build("dqn", exploration_final_eps=0.2, max_grad_norm=3, tau=0.5, n_envs=2, net_arch=[9])
    assert (dqn.exploration_final_eps, dqn.max_grad_norm, dqn.tau) == (0.2, 3.0, 0.5)
    assert dqn.q_net.q_net[0].out_features == 9
    assert dqn.action_noise is None
    assert len(build("ddpg").critic.q_networks) == 1
    assert len(build("ddpg", n_critics=2).critic.q_networks) == 2


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    for algo in ("tqc", "crossq"):
        expected = rf'^{algo} needs sb3-contrib: pip install "snrl\[contrib\]"$'
        with pytest.raises(ConfigError, match=expected):
            build(algo)
    assert type(build("dqn")) is DQN


@pytest.mark.parametrize("algo", ["tqc", "crossq", "dqn"])
def test_sn_reaches_sb3_contrib_and_dqn(algo: str) -> None:
    model = build(algo, sn=True, sn_coef=["3"], sn_layers=["-1", "-2"], net_arch=[8, 8])
    assert type(model.policy).__module__ == f"snrl.{algo}.policies"
    n_networks = {"tqc": 4, "crossq": 2, "dqn": 2}[algo]
    sigmas = model.policy.spectral.exact_sigmas().numpy()
    assert sigmas == pytest.approx([3.0] * 2 * n_networks)


@pytest.mark.parametrize(
    ("space", "policy"),
    [
        (spaces.Box(0, 255, (3, 36, 36), np.uint8), "CnnPolicy"),
        (spaces.Dict({"a": spaces.Box(-1, 1, (3,))}), "MultiInputPolicy"),
    ],
)
def test_observations_that_an_algorithm_has_no_policy_for(
    space: spaces.Space[Any], policy: str
) -> None:
    config = resolve("crossq", {"buffer_size": 10, "device": "cpu"})
    with pytest.raises(ConfigError, match=f"crossq cannot .* takes a {policy}; it has MlpPolicy$"):
        build_model(config, DummyVecEnv([lambda: Observing(space)]))


def test_every_option_of_sn_reaches_the_policy() -> None:
    model = build(
        "td3",
        sn=True,
        sn_layers=["-1"],
        sn_coef=["3", "1", "1e3"],
        sn_mode="bidirectional",
        sn_mode_options=["detach=true"],
        n_power_iterations=2,
        block_size=1,
    )
    assert isinstance(model.policy, SpectralPolicy)
    assert model.policy.own_kwargs == {
        "critic": "sn",
        "critic_options": None,
        "sn_layers": (-1,),
        "sn_coef": (3.0, 1.0, 1000),
        "sn_mode": "bidirectional",
        "sn_mode_options": {"detach": True},
        "n_power_iterations": 2,
        "block_size": 1,
        "sn_features": False,
    }
    assert repr(model.policy.spectral.mode) == "Bidirectional(detach=True)"


@pytest.mark.parametrize("sn", [False, True])
@pytest.mark.parametrize(
    ("space", "policy"),
    [
        (spaces.Box(-1, 1, (3,)), "Policy"),
        (spaces.Box(0, 255, (3, 36, 36), np.uint8), "CnnPolicy"),
        (spaces.Dict({"a": spaces.Box(-1, 1, (3,))}), "MultiInputPolicy"),
    ],
)
def test_the_policy_follows_from_the_observations(
    space: spaces.Space[Any], policy: str, sn: bool
) -> None:
    config = resolve("sac", {"sn": sn, "buffer_size": 10, "device": "cpu"})
    model = build_model(config, DummyVecEnv([lambda: Observing(space)]))
    assert type(model.policy).__name__.endswith(policy)
    assert isinstance(model.policy, SpectralPolicy) == sn


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"sn": True, "sn_layers": ["-9"]}, "layer -9 is outside the network"),
        ({"sn": True, "net_arch": [16], "sn_layers": "hidden"}, "selects none"),
        ({"sn": True, "sn_mode_options": {"k": 1}}, "mode 'normalize' has no option 'k'; it has"),
        (
            {"sn": True, "sn_mode": "penalty", "sn_mode_options": {"strength": 0}},
            "strength must be a number greater than 0, got 0",
        ),
        ({"sn": True, "sn_mode": "penalty", "sn_coef": 2}, "no use for a coefficient, got 2"),
        ({"device": "cuda:99"}, "device cuda:99 is not available"),
        ({"device": "abacus"}, "device abacus is not available"),
        ({"buffer_size": 10**16}, "Unable to allocate"),
        ({"net_arch": [10**8, 10**8]}, "networks do not fit into memory; make them smaller"),
    ],
)
def test_what_cannot_be_built(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**flags)
