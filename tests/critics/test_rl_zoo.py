"""RL Zoo's own trainer, in a process of its own, with our policies in its YAML."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import SAC, TD3

import snrl
from snrl.critics import SpectralCritic

YAML = """
Pendulum-v1:
  n_timesteps: 300
  policy: '{policy}'
  learning_starts: 150
  train_freq: 4
  batch_size: 32
  buffer_size: 500
  policy_kwargs: "dict(net_arch=[32, 32], sn_layers=(-1, -2), sn_coef=2.0)"
"""


@pytest.mark.parametrize(
    ("algo", "policy", "algorithm", "policy_class"),
    [
        ("sac", "snrl.sac.MlpPolicy", SAC, snrl.SNSACPolicy),
        ("td3", "snrl.td3.MlpPolicy", TD3, snrl.SNTD3Policy),
    ],
)
def test_rl_zoo_trains_saves_and_the_model_loads(
    tmp_path: Path,
    algo: str,
    policy: str,
    algorithm: Any,
    policy_class: type,
    assert_normalised: Callable[..., None],
) -> None:
    conf = tmp_path / "zoo.yml"
    conf.write_text(YAML.format(policy=policy))
    command = [sys.executable, "-m", "rl_zoo3.train", "--algo", algo, "--env", "Pendulum-v1"]
    command += ["--gym-packages", "snrl", "-P", "-conf", str(conf), "-n", "300"]
    command += ["-f", str(tmp_path / "logs"), "--eval-freq", "-1", "--seed", "1"]
    command += ["--device", "cpu", "--num-threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]

    saved = tmp_path / "logs" / algo / "Pendulum-v1_1" / "Pendulum-v1.zip"
    model = algorithm.load(saved, device="cpu")
    assert type(model.policy) is model.policy_class is policy_class
    assert type(model.critic) is type(model.critic_target) is SpectralCritic
    assert model.num_timesteps == 300
    assert model._n_updates > 10
    assert_normalised(model, (-1, -2), 2.0)
