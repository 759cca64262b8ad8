"""The callback on composed critics: training is untouched, and measures see all parts."""

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import SAC, TD3
from torch import nn

import snrl  # noqa: F401
from snrl import ValueStabilityCallback
from snrl.values.probe import Probe

from .states import assert_same, seeded, state

TINY = {"learning_starts": 20, "batch_size": 16, "buffer_size": 500, "gamma": 0.9}
TINY |= {"seed": 0, "device": "cpu"}
CRITICS = [
    *("dropout+layer_norm", "weight_norm", "sn+hyperspherical", "simba+unit_norm", "sn+bro"),
    "redq",
]


def build(critic: str, kind: Any = SAC) -> Any:
    kwargs = {"net_arch": [16, 16], "critic": critic}
    if critic == "redq":
        kwargs["n_critics"] = 3
    return kind("SNMlpPolicy", "Pendulum-v1", policy_kwargs=kwargs, **TINY)


@pytest.mark.parametrize("critic", CRITICS)
def test_training_is_the_same_and_all_measures_are_there(critic: str, log: Any) -> None:
    kind = TD3 if critic in ("weight_norm", "sn+bro") else SAC
    seeded()
    plain = build(critic, kind)
    plain.learn(50)
    expected = state(plain)
    said: list[str] = []
    seeded()
    model = build(critic, kind)
    callback = ValueStabilityCallback("Pendulum-v1", "full", 50, say=said.append)
    lines = log(model, 50, callback)
    callback.close()
    assert_same(state(model), expected)
    last = {key.removeprefix("values/"): v for key, v in lines[-1].items() if "values/" in key}
    assert {
        *("q_mean", "dormant_0.1", "srank", "lipschitz_state", "lipschitz_action", "churn"),
        *("weight_norm", "grad_norm", "effective_lr", "curvature", "plasticity", "target_drift"),
    } <= set(last)
    assert all(np.isfinite(value) for value in last.values())
    if critic in ("weight_norm", "redq"):
        assert 0 < last["lipschitz_action_tightness"] <= 1
    elif critic != "dropout+layer_norm":
        assert "lipschitz_action_tightness" not in last


def test_measures_of_a_unit_normed_critic_see_what_the_output_reads() -> None:
    model = build("unit_norm")
    probe = Probe(model)
    states = torch.randn(30, 3)
    with probe.quiet():
        features = probe.activations(states, torch.zeros(30, 1))[0].features
    torch.testing.assert_close(features.norm(dim=1), torch.ones(30))


def test_every_layer_inside_a_block_is_seen() -> None:
    model = build("simba")
    probe = Probe(model)
    linear = [x for x in model.critic.qf0.modules() if isinstance(x, nn.Linear)]
    seen = probe.activations(torch.randn(30, 3), torch.zeros(30, 1))[0]
    assert [x.shape[1] for x in seen.hidden] == [x.in_features for x in linear[1:]]


def test_weights_are_the_applied_ones() -> None:
    model = build("weight_norm")
    probe = Probe(model)
    before = {name: x.clone() for name, x in probe.effective_weights(model.critic).items()}
    with torch.no_grad():
        for layer in probe.layers(model.critic).values():
            layer.weight.mul_(3)
    after = probe.effective_weights(model.critic)
    for name, weight in before.items():
        torch.testing.assert_close(after[name], weight)
