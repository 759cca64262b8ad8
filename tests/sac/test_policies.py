"""What is SAC's own: gSDE, the entropy coefficient, and the policies' names."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import SAC
from stable_baselines3.sac import policies as sb3

import snrl.sac

Make = Callable[..., Any]


@pytest.mark.parametrize(
    ("name", "policy", "plain"),
    [
        ("SNMlpPolicy", snrl.sac.MlpPolicy, sb3.MlpPolicy),
        ("SNCnnPolicy", snrl.sac.CnnPolicy, sb3.CnnPolicy),
        ("SNMultiInputPolicy", snrl.sac.MultiInputPolicy, sb3.MultiInputPolicy),
    ],
)
def test_names_resolve_to_subclasses_of_sb3s_policies(name: str, policy: type, plain: type) -> None:
    assert SAC.policy_aliases[name] is policy
    assert issubclass(policy, plain)
    assert SAC.policy_aliases[name.removeprefix("SN")] is plain


@pytest.mark.parametrize("use_expln", [False, True])
@pytest.mark.parametrize("warmup", [False, True])
def test_gsde_trains_and_loads(
    make: Make, use_expln: bool, warmup: bool, tmp_path: Path, assert_normalised: Make
) -> None:
    model = make(
        "sac",
        use_sde=True,
        use_sde_at_warmup=warmup,
        sde_sample_freq=4,
        ent_coef=0.00001,
        policy_kwargs={"log_std_init": -2, "use_expln": use_expln},
    )
    model.learn(60)
    assert_normalised(model)
    model.save(tmp_path / "gsde.zip")
    loaded = SAC.load(tmp_path / "gsde.zip", env=gym.make("Pendulum-v1"), device="cpu")
    obs = model.get_env().reset()
    np.testing.assert_array_equal(
        model.predict(obs, deterministic=True)[0], loaded.predict(obs, deterministic=True)[0]
    )
    loaded.learn(30)
    assert_normalised(loaded)


def test_gsde_draws_as_the_plain_policy_does(make: Make) -> None:
    states = []
    for policy in ("MlpPolicy", "SNMlpPolicy"):
        model = make("sac", policy, use_sde=True, use_sde_at_warmup=True, learn=20)
        states.append((model.replay_buffer.actions[:20].copy(), torch.get_rng_state()))
    np.testing.assert_array_equal(states[0][0], states[1][0])
    assert torch.equal(states[0][1], states[1][1])


@pytest.mark.parametrize("ent_coef", ["auto", 0.01, "auto_0.01"])
def test_any_entropy_coefficient_trains_and_loads(
    make: Make, ent_coef: Any, tmp_path: Path, assert_normalised: Make
) -> None:
    model = make("sac", ent_coef=ent_coef, learn=50)
    model.save(tmp_path / "model.zip")
    loaded = SAC.load(tmp_path / "model.zip", env=gym.make("Pendulum-v1"), device="cpu")
    assert_normalised(loaded)
    if isinstance(ent_coef, str):
        assert torch.equal(loaded.log_ent_coef, model.log_ent_coef)
    else:
        assert loaded.log_ent_coef is None
        assert torch.equal(loaded.ent_coef_tensor, model.ent_coef_tensor)


@pytest.mark.parametrize("interval", [1, 4])
def test_the_target_moves_at_its_interval_alone(
    make: Make, interval: int, assert_normalised: Make
) -> None:
    model = make("sac", target_update_interval=interval, tau=1.0, learn=25)
    weight = model.critic_target.qf0[2].weight
    moved = []
    sample = model.replay_buffer.sample

    def observed(*args: Any, **kwargs: Any) -> Any:
        moved.append(weight.detach().clone())
        assert_normalised(model)
        return sample(*args, **kwargs)

    model.replay_buffer.sample = observed
    model.train(9, batch_size=16)
    changes = [not torch.equal(a, b) for a, b in pairwise(moved)]
    assert changes == [step % interval == 0 for step in range(8)]
