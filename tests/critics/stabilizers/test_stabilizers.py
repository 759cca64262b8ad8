"""How a critic is described by stabilisers, and what holds of all of them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from stable_baselines3.common.policies import ContinuousCritic
from torch import nn

import snrl  # noqa: F401
from snrl.critics.stabilizers import STABILIZERS, describe, resolve_critic

Make = Callable[..., Any]
ALGOS = ["sac", "td3"]
ALONE = [name for name in STABILIZERS if name != "sn"]
CRITICS = [*ALONE, *(f"sn+{name}" for name in ALONE)]


@pytest.mark.parametrize("algo", ALGOS)
def test_a_plain_critic_is_sb3s_bit_for_bit(make: Make, algo: str) -> None:
    plain = make(algo, "MlpPolicy", learn=60)
    composed = make(algo, "SNMlpPolicy", learn=60, policy_kwargs={"critic": "plain"})
    assert type(composed.critic) is ContinuousCritic
    assert composed.policy.spectral is None
    own, other = (model.policy.state_dict() for model in (plain, composed))
    assert list(own) == list(other)
    assert all(torch.equal(own[name], other[name]) for name in own)


@pytest.mark.parametrize("critic", CRITICS)
@pytest.mark.parametrize("algo", ALGOS)
def test_first_layers_actors_and_exploration_start_as_sb3s(
    make: Make, algo: str, critic: str
) -> None:
    plain = make(algo, "MlpPolicy")
    drawn = torch.rand(3)
    composed = make(algo, "SNMlpPolicy", policy_kwargs={"critic": critic})
    assert torch.equal(torch.rand(3), drawn)
    for head, other in zip(composed.critic.q_networks, plain.critic.q_networks, strict=True):
        layer = next(x for x in head.modules() if isinstance(x, nn.Linear))
        assert torch.equal(layer.weight, other[0].weight)
    for own, other in zip(composed.actor.parameters(), plain.actor.parameters(), strict=True):
        assert torch.equal(own, other)


@pytest.mark.parametrize(
    ("description", "order"),
    [
        ("plain", "plain"),
        ("layer_norm+sn+dropout", "dropout+layer_norm+sn"),
        ("sn", "sn"),
    ],
)
def test_a_description_is_composed_in_a_fixed_order(description: str, order: str) -> None:
    stabilizers = resolve_critic(description)
    assert describe(stabilizers) == order
    assert resolve_critic(order) == stabilizers


@pytest.mark.parametrize(
    ("critic", "options", "message"),
    [
        ("layernorm", None, "did you mean 'layer_norm'"),
        ("", None, "joined by"),
        ("plain+sn", None, "unknown critic 'plain'"),
        ("sn+sn", None, "twice"),
        ("layer_norm+rms_norm", None, "not both"),
        ("layer_norm", {"dropout": {}}, "does not name"),
        ("dropout", {"dropout": {"q": 1}}, "no option 'q'; it has p"),
        ("dropout", {"dropout": {"p": 1}}, "less than 1"),
        ("dropout", {"dropout": {"p": 0}}, "greater than 0"),
        ("layer_norm", {"layer_norm": {"eps": -1}}, "eps must be"),
        ("sn", {"sn": {"coef": 2}}, "it has none"),
    ],
)
def test_a_wrong_description_is_refused(critic: str, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_critic(critic, options)
