import copy
import random
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import TQC, CrossQ
from stable_baselines3 import DDPG, DQN, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

import snrl
from snrl.runs.checkpoint.episode import RecordedEpisode
from snrl.runs.checkpoint.model import model_state, restore_model
from snrl.values.generators import capture, install

from .conftest import _equal, _flat

CPU = torch.device("cpu")
SHORT = {"learning_starts": 20, "batch_size": 16, "buffer_size": 200, "device": "cpu"}
OPTIONS = {**SHORT, "seed": 0}
MODELS: list[tuple[Any, str, str]] = [
    (DQN, "MlpPolicy", "CartPole-v1"),
    (TQC, "MlpPolicy", "Pendulum-v1"),
    (CrossQ, "MlpPolicy", "Pendulum-v1"),
    (DDPG, "SNMlpPolicy", "Pendulum-v1"),
    (snrl.SAC, "SNMlpPolicy", "Pendulum-v1"),
]


class At(BaseCallback):
    """Does something between two rollouts, once."""

    def __init__(self, steps: int, act: Any) -> None:
        super().__init__()
        self.steps, self.act = steps, act

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps == self.steps and self.act:
            act, self.act = self.act, None
            act(self.model)

    def _on_step(self) -> bool:
        return True


def make(algorithm: Any, policy: str, env: str) -> Any:
    envs = make_vec_env(env, 1, 0, wrapper_class=RecordedEpisode)
    options = {**OPTIONS, "policy_kwargs": {"net_arch": [16, 16]}}
    if algorithm is DQN:
        options |= {"train_freq": 1, "target_update_interval": 30}
    return algorithm(policy, envs, **options)


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind[0].__name__)
def test_any_algorithm_goes_on_from_its_state(kind: Any) -> None:
    kept: dict[str, Any] = {}

    def keep(model: Any) -> None:
        kept["model"] = copy.deepcopy(model_state(model))
        kept["buffer"] = copy.deepcopy(model.replay_buffer)
        kept["episode"] = copy.deepcopy(model.get_env().envs[0].state())
        kept["generators"] = capture(CPU)

    def take(model: Any) -> None:
        restore_model(model, kept["model"])
        vars(model.replay_buffer).update(vars(kept["buffer"]))
        assert model.get_env().envs[0].rebuild(kept["episode"])
        install(kept["generators"], CPU)

    first = make(*kind).learn(110, At(70, keep))
    second = make(*kind)
    np.random.seed(9)
    torch.manual_seed(9)
    random.seed(9)
    second.learn(110, At(0, take))
    found = [_flat(model.get_parameters()) for model in (first, second)]
    assert [key for key in found[0] if not _equal(found[0][key], found[1][key])] == []
    assert second.num_timesteps == 110
    assert second._n_updates == first._n_updates
    if kind[0] is DQN:
        assert second.exploration_rate == first.exploration_rate
        assert second._n_calls == first._n_calls


def test_norms_that_were_found_are_kept() -> None:
    """Computed anew from the same weights and vectors, they may differ in their last bits."""
    first, second = (make(*MODELS[-1]) for _ in range(2))
    first.learn(40)
    second.learn(1)
    restore_model(second, copy.deepcopy(model_state(first)))
    (found,) = first.policy.spectral.carried().values()
    (carried,) = second.policy.spectral.carried().values()
    assert np.isfinite(found["sigmas"]).all()
    assert carried["sigmas"] == found["sigmas"]
    assert second.is_prepared


def test_random_actions_go_on() -> None:
    first, second = (make(*MODELS[1]) for _ in range(2))
    for model in (first, second):
        model.learn(1)
    first.action_space.sample()
    restore_model(second, model_state(first))
    assert second.action_space.sample() == first.action_space.sample()


def test_what_critics_draw_privately_goes_on() -> None:
    options = {"critic": "redq+dropout", "n_critics": 3, "net_arch": [16]}
    first, second = (
        SAC("SNMlpPolicy", gym.make("Pendulum-v1"), policy_kwargs=options, seed=seed, **SHORT)
        for seed in (0, 1)
    )
    first.learn(30)
    second.learn(1)
    restore_model(second, copy.deepcopy(model_state(first)))
    inputs = torch.ones(4, 3), torch.ones(4, 1)
    for model in (first, second):
        model.policy.set_training_mode(True)
    for name in ("critic", "critic_target"):
        ours, theirs = (getattr(model, name)(*inputs) for model in (first, second))
        assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))


def test_another_network_is_refused() -> None:
    states = []
    for width in (16, 8):
        model = SAC("MlpPolicy", gym.make("Pendulum-v1"), policy_kwargs={"net_arch": [width]})
        model.learn(1)
        states.append(model_state(model))
    with pytest.raises(RuntimeError, match=r"has the shape \(8,"):
        restore_model(model, states[0])
    states[0]["parts"]["policy"].popitem()
    with pytest.raises(KeyError, match="parameters"):
        restore_model(model, states[0])
