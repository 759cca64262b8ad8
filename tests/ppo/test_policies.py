"""PPO with a normalised value network, against SB3's PPO and against the SVD."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.envs import FakeImageEnv, SimpleMultiObsEnv
from torch import nn

import snrl
from snrl.spectral import SpectralLayer

SMALL = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "seed": 0, "device": "cpu"}


def make(policy: str = "SNMlpPolicy", env: Any = "Pendulum-v1", **kwargs: Any) -> PPO:
    return PPO(policy, env, **(SMALL | kwargs))


def norms(model: PPO) -> list[float]:
    """The norm that each layer of the value network applies."""
    layers = [x for x in model.policy.mlp_extractor.value_net if isinstance(x, nn.Linear)]
    found = []
    for layer in [*layers, model.policy.value_net]:
        with torch.no_grad():
            applied = layer(torch.eye(layer.in_features)) - layer(torch.zeros(layer.in_features))
        found.append(np.linalg.norm(applied.double().numpy(), 2))
    return found


@pytest.mark.parametrize(
    ("layers", "coef", "held"),
    [((-2,), 1.0, [1]), ((-1,), 0.5, [2]), ("all", 2.0, [0, 1, 2])],
)
def test_every_value_is_of_normalised_layers(layers: Any, coef: float, held: list[int]) -> None:
    model = make(policy_kwargs={"sn_layers": layers, "sn_coef": coef}, learning_rate=1e-2)
    seen: list[list[float]] = []
    busy: list[bool] = []

    def before(*_: Any) -> None:
        if not busy:
            busy.append(True)
            seen.append(norms(model))
            busy.clear()

    model.policy.value_net.register_forward_pre_hook(before)
    model.learn(64)
    assert len(seen) > 64 + 8  # values of rollouts, and of 8 updates
    np.testing.assert_allclose(np.array(seen)[:, held], coef, rtol=1e-3)
    assert sum(isinstance(x, SpectralLayer) for x in model.policy.modules()) == len(held)


def test_it_starts_and_acts_as_sb3s_with_the_same_seed() -> None:
    plain = make("MlpPolicy")
    drawn = torch.rand(3)
    model = make()
    assert torch.equal(torch.rand(3), drawn)
    state = model.policy.state_dict()
    for name, value in plain.policy.state_dict().items():
        assert torch.equal(state[name], value)
    obs = plain.observation_space.sample()
    for one, other in zip(
        plain.predict(obs, deterministic=True), model.predict(obs, deterministic=True), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_a_layer_that_has_the_norm_already_gives_sb3s_values() -> None:
    plain, model = make("MlpPolicy"), make()
    with torch.no_grad():
        weight = plain.policy.mlp_extractor.value_net[2].weight
        weight /= torch.linalg.matrix_norm(weight.double(), 2)
    model.set_parameters(plain.get_parameters())
    obs = torch.randn(9, 3)
    torch.testing.assert_close(model.policy.predict_values(obs), plain.policy.predict_values(obs))


@pytest.mark.parametrize("mode", ["normalize", "gain", "project", "penalty"])
def test_saved_loaded_and_continued(tmp_path: Path, mode: str) -> None:
    model = make(policy_kwargs={"sn_mode": mode}).learn(32)
    model.save(tmp_path / "model.zip")
    loaded = PPO.load(tmp_path / "model.zip", env=model.get_env(), device="cpu")
    assert loaded.policy.own_kwargs == model.policy.own_kwargs
    for one in (model, loaded):
        one.set_random_seed(1)
        one.learn(32, reset_num_timesteps=True)
    own, other = model.policy.state_dict(), loaded.policy.state_dict()
    assert all(torch.equal(own[name], other[name]) for name in own)


def test_a_plain_zip_loads(tmp_path: Path) -> None:
    make("MlpPolicy").learn(32).save(tmp_path / "plain.zip")
    model = make()
    model.set_parameters(tmp_path / "plain.zip")
    assert norms(model)[1] == pytest.approx(1.0, rel=1e-5)


FOLDED = """
import sys
sys.modules["snrl"] = None
import numpy as np
from stable_baselines3 import PPO
model = PPO.load(sys.argv[1], device="cpu")
assert type(model.policy).__module__ == "stable_baselines3.common.policies"
obs = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
values = model.policy.predict_values(model.policy.obs_to_tensor(obs)[0])
print(*values.flatten().tolist())
"""


def test_folded_it_loads_where_snrl_is_not(tmp_path: Path) -> None:
    model = make().learn(32)
    folded = snrl.fold_spectral_norm(model)
    folded.save(tmp_path / "folded.zip")
    words = [sys.executable, "-W", "ignore", "-c", FOLDED, str(tmp_path / "folded.zip")]
    out = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    obs = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    values = model.policy.predict_values(model.policy.obs_to_tensor(obs)[0]).flatten()
    np.testing.assert_allclose([float(x) for x in out.split()], values.tolist(), rtol=1e-5)
    assert isinstance(model.policy.mlp_extractor.value_net[2], SpectralLayer)
    folded.learn(32)


@pytest.mark.parametrize(
    ("policy", "env"),
    [
        ("SNMlpPolicy", "CartPole-v1"),
        ("SNMultiInputPolicy", SimpleMultiObsEnv),
        ("SNCnnPolicy", lambda: FakeImageEnv(screen_height=36, screen_width=36)),
    ],
)
def test_other_spaces(policy: str, env: Any) -> None:
    options = {"net_arch": [8, 8]}
    model = make(policy, env if isinstance(env, str) else env(), policy_kwargs=options)
    model.learn(32)
    assert norms(model)[1] == pytest.approx(1.0, rel=1e-3)


def test_a_network_without_hidden_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="layer -2 is outside the network"):
        make(policy_kwargs={"net_arch": []})
    with pytest.raises(ValueError, match="unknown mode"):
        make(env=gym.make("CartPole-v1"), policy_kwargs={"sn_mode": "none"})
