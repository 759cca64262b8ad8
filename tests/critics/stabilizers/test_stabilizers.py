"""How a critic is described by stabilisers, and what holds of all of them."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import configure
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.utils import set_random_seed
from torch import Tensor, nn

import snrl  # noqa: F401
from snrl.critics.head import Head
from snrl.critics.stabilizers import STABILIZERS, Place, Stabilizer, describe, resolve_critic
from snrl.spectral.layers import applied_weight

Make = Callable[..., Any]
ALGOS = ["sac", "td3"]
# Batch statistics are for CrossQ: tests of theirs are in test_batch_norm.py.
ALONE = [name for name in STABILIZERS if name not in ("sn", "batch_norm", "batch_renorm")]
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
def test_actors_exploration_and_what_is_not_drawn_anew_start_as_sb3s(
    make: Make, algo: str, critic: str
) -> None:
    plain = make(algo, "MlpPolicy")
    drawn = torch.rand(3)
    composed = make(algo, "SNMlpPolicy", policy_kwargs={"critic": critic})
    assert torch.equal(torch.rand(3), drawn)
    for own, other in zip(composed.actor.parameters(), plain.actor.parameters(), strict=True):
        assert torch.equal(own, other)
    if any(stabilizer.place is Place.BLOCKS for stabilizer in composed.policy.stabilizers):
        return
    for head, other in zip(composed.critic.q_networks, plain.critic.q_networks, strict=True):
        layer = next(x for x in head.modules() if isinstance(x, nn.Linear))
        torch.testing.assert_close(applied_weight(layer), other[0].weight)


def resumed(model: Any, other: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state dicts of two models after some more updates from the same draws."""
    for part in (model, other):
        part.set_logger(configure(None, []))
        set_random_seed(1)
        part.train(4, batch_size=16)
    return model.policy.state_dict(), other.policy.state_dict()


@pytest.mark.parametrize("critic", CRITICS)
@pytest.mark.parametrize("algo", ALGOS)
def test_each_trains_is_saved_loaded_goes_on_and_predicts_the_same(
    make: Make, watch: Make, tmp_path: Path, algo: str, critic: str
) -> None:
    model = make(algo, policy_kwargs={"critic": critic, "net_arch": [16, 16]})
    seen = watch(model) if "sn" in critic.split("+") else None
    before = {name: x.clone() for name, x in model.critic.named_parameters()}
    model.learn(32)
    assert all(not torch.equal(before[name], x) for name, x in model.critic.named_parameters())
    if seen is not None:
        assert seen.count("critic_target") >= 10
        assert seen.count("critic") >= 10
    model.save(tmp_path / "model.zip")
    loaded = type(model).load(tmp_path / "model.zip", device="cpu")
    loaded.replay_buffer = copy.deepcopy(model.replay_buffer)
    obs = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    for part in ("critic", "critic_target"):
        values = [
            torch.cat(getattr(x.policy, part)(torch.as_tensor(obs), torch.zeros(5, 1)))
            for x in (model, loaded)
            if not x.policy.set_training_mode(False)
        ]
        assert values[0].isfinite().all()
        assert torch.equal(*values)
    actions = [x.predict(obs, deterministic=True)[0] for x in (model, loaded)]
    np.testing.assert_array_equal(*actions)
    own, other = resumed(model, loaded)
    assert list(own) == list(other)
    assert all(torch.equal(own[name], other[name]) for name in own)


@pytest.mark.parametrize("name", ["batch_norm", "batch_renorm"])
@pytest.mark.parametrize("algo", ["sac", "td3", "ddpg"])
def test_batch_statistics_are_refused_where_they_mean_nothing(
    make: Make, algo: str, name: str
) -> None:
    with pytest.raises(ValueError, match=rf"critic '{name}': it needs .* as CrossQ does, got SN"):
        make(algo, policy_kwargs={"critic": name})


@dataclass(frozen=True)
class Damping(Stabilizer):
    """The example of the contributing notes: features are multiplied by a number."""

    name: ClassVar[str] = "damping"
    summary: ClassVar[str] = "multiply the features"
    source: ClassVar[str] = "nowhere"
    place: ClassVar[Place] = Place.FEATURES
    factor: float = 0.5

    def build(self, head: Head) -> None:
        head.features.append(Scaled(self.factor))


class Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def test_a_stabiliser_is_added_from_outside_by_one_class_and_one_line(
    make: Make, watch: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STABILIZERS, "damping", Damping)
    options = {"critic": "sn+damping", "critic_options": {"damping": {"factor": 0.25}}}
    model = make("sac", policy_kwargs=options)
    plain = make("sac", policy_kwargs={"critic": "sn"})
    obs, actions = torch.randn(6, 3), torch.randn(6, 1)
    own, other = (
        (torch.cat(x.critic(obs, actions)), x.critic.qf0[-1].bias) for x in (model, plain)
    )
    torch.testing.assert_close((own[0] - own[1])[:6], 0.25 * (other[0] - other[1])[:6])
    watch(model)
    model.learn(30).save(tmp_path / "model.zip")
    loaded = type(model).load(tmp_path / "model.zip", device="cpu")
    assert isinstance(loaded.critic.qf1[-2], Scaled)
    assert torch.equal(
        torch.cat(loaded.critic(obs, actions)), torch.cat(model.critic(obs, actions))
    )
    with pytest.raises(ValueError, match="'damping' has no option 'x'; it has factor"):
        resolve_critic("damping", {"damping": {"x": 1}})


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
        ("weight_norm+hyperspherical", None, "not both"),
        ("simba+bro", None, "not both"),
        ("batch_norm+layer_norm", None, "not both"),
        ("bro+dropout", None, "norms of its own"),
        ("simba", {"simba": {"expansion": 0}}, "whole number"),
        ("unit_norm", {"unit_norm": {"eps": 0}}, "greater than 0"),
        ("hyperspherical", {"hyperspherical": {"unit_features": 1}}, "true or false"),
        ("batch_renorm", {"batch_renorm": {"momentum": 2}}, "at most 1"),
        ("batch_renorm", {"batch_renorm": {"warmup_steps": -1}}, "at least 0"),
        ("sn", {"sn": {"coef": 2}}, "it has none"),
    ],
)
def test_a_wrong_description_is_refused(critic: str, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_critic(critic, options)


@pytest.mark.parametrize("options", [{"dropout": 0.5}, ["dropout.p=0.5"], "dropout", 1])
def test_options_are_by_name_of_a_stabiliser(options: Any) -> None:
    message = r'options by name of a stabiliser, such as \{"dropout": \{"p": 0.1\}\}, got '
    with pytest.raises(ValueError, match=message):
        resolve_critic("dropout", options)


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm", "dropout", "hyperspherical"])
@pytest.mark.parametrize("algo", ["sac", "dqn"])
def test_what_would_do_nothing_without_hidden_layers_is_refused(
    make: Make, algo: str, name: str
) -> None:
    message = f"^critic '{name}' acts on hidden layers, of which .* none .*set net_arch"
    with pytest.raises(ValueError, match=message):
        make(algo, policy_kwargs={"critic": name, "net_arch": []})
