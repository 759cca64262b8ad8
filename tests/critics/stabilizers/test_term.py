"""What holds of every stabiliser of the loss and the ensemble, alone and together, in training."""

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import torch
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ContinuousCritic
from torch import Tensor

from snrl import ValueStabilityCallback
from snrl.spectral import fold_spectral_norm, native
from snrl.spectral.steps import live

from ...fast.pairs import FAST, STOCK, assert_equal, is_fast, make_one, train
from ..test_sb3_scenarios import CLASSES

Make = Callable[..., Any]
THROUGH_BATCH = ["gradient_penalty", "feature_penalty"]
LOSS = [*THROUGH_BATCH, "weight_decay", "l2_penalty"]
ALL = "+".join(["sn", "dropout", *LOSS, "redq"])
OPTIONS = {
    "gradient_penalty": {"target": 0.01},
    "feature_penalty": {"strength": 0.1},
    "weight_decay": {"decay": 1.0},
    "l2_penalty": {"strength": 0.1},
    "dropout": {"p": 0.2},
    "redq": {"subset": 2},
}


def kwargs_of(critic: str) -> dict[str, Any]:
    named = critic.split("+")
    options = {name: value for name, value in OPTIONS.items() if name in named}
    return {"critic": critic, "critic_options": options, "n_critics": 3}


def state(model: Any) -> dict[str, Tensor]:
    found = {key: x.clone() for key, x in model.policy.state_dict().items()}
    for name, moments in model.critic.optimizer.state_dict()["state"].items():
        found[f"moments {name}"] = moments["exp_avg"].clone()
    return found


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


def go_on(model: Any) -> dict[str, Tensor]:
    model.set_logger(Logger(None, []))
    train([model], 5, 2)
    return state(model)


@pytest.mark.parametrize("algo", ["sac", "td3"])
@pytest.mark.parametrize("critic", [*LOSS, "redq", ALL])
def test_training_goes_on_bit_for_bit_where_it_was_saved(
    make: Make, algo: str, critic: str, tmp_path: Path
) -> None:
    model = make(algo, learn=40, learning_rate=1e-3, policy_kwargs=kwargs_of(critic))
    model.save(tmp_path / "model.zip")
    loaded = CLASSES[algo].load(tmp_path / "model.zip", device="cpu")
    parameters = make(algo, learning_rate=1e-3, seed=5, policy_kwargs=kwargs_of(critic))
    parameters.set_parameters(tmp_path / "model.zip")
    copied = copy.deepcopy(model)
    others = (loaded, parameters, copied)
    for other in others:
        other.replay_buffer = copy.deepcopy(model.replay_buffer)
        other._n_updates = model._n_updates
        if getattr(model, "log_ent_coef", None) is not None:
            other.log_ent_coef.data.copy_(model.log_ent_coef.data)
    obs = model.observation_space.sample()
    assert model.predict(obs, deterministic=True)[0] == loaded.predict(obs, deterministic=True)[0]
    start, expected = state(model), go_on(model)
    assert not torch.equal(start["critic.qf0.0.weight"], expected["critic.qf0.0.weight"])
    for other in others:
        assert_same(go_on(other), expected)


@pytest.mark.parametrize("critic", LOSS)
def test_copies_pickles_and_other_optimisers_are_followed(make: Make, critic: str) -> None:
    model = make("sac", policy_kwargs=kwargs_of(critic))
    plain = make("sac", policy_kwargs=kwargs_of("layer_norm"))

    def moved(policy: Any) -> Tensor:
        """By an optimiser of no moments, from a loss that has no gradient."""
        critic = policy.critic.train()
        critic.optimizer = torch.optim.SGD(critic.parameters(), lr=0.1)
        before = critic.qf0[0].weight.detach().clone()
        torch.manual_seed(0)
        obs, actions = torch.randn(8, 3), torch.rand(8, 1)
        (0.0 * sum(value.sum() for value in critic(obs, actions))).backward()
        critic.optimizer.step()
        return critic.qf0[0].weight.detach() - before

    copies = [
        copy.deepcopy(model.policy),
        cloudpickle.loads(cloudpickle.dumps(model.policy)),
        copy.deepcopy(cloudpickle.loads(cloudpickle.dumps(model.policy))),
    ]
    expected = moved(model.policy)
    assert expected.abs().max() > 1e-6
    assert all(torch.equal(moved(policy), expected) for policy in copies)
    assert not moved(plain.policy).any()


def test_what_is_folded_keeps_the_others_and_can_be_trained(make: Make) -> None:
    model = make("sac", learn=25, policy_kwargs=kwargs_of(ALL))
    model.policy.set_training_mode(False)
    obs, actions = torch.randn(4, 3), torch.rand(4, 1)
    expected = model.critic(obs, actions)
    folded = fold_spectral_norm(model)
    assert {*folded.policy.own_kwargs["critic"].split("+")} == {*ALL.split("+")} - {"sn"}
    torch.testing.assert_close(folded.critic(obs, actions), expected)
    assert set(folded.policy.followers) == set(LOSS)
    go_on(folded)
    assert not torch.equal(folded.critic(obs, actions)[0], expected[0])
    critic = pickle.loads(pickle.dumps(fold_spectral_norm(model.critic)))
    assert type(critic) is ContinuousCritic
    torch.testing.assert_close(critic(obs, actions), expected)
    assert len(critic.train()(obs, actions.requires_grad_())) == len(expected)


def test_a_follower_goes_with_its_policy(make: Make) -> None:
    gc.collect()
    before = len(live)
    model = make("sac", policy_kwargs=kwargs_of(ALL))
    followers = [weakref.ref(x) for x in model.policy.followers.values()]
    assert len(followers) == 4
    assert len(live) == before + 5
    del model
    gc.collect()
    assert all(ref() is None for ref in followers)
    assert len(live) == before


@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_sns_contract_holds_with_all_of_them(make: Make, algo: str, watch: Make) -> None:
    model = make(algo, learning_rate=1e-3, policy_kwargs=kwargs_of(ALL))
    seen = watch(model)
    model.learn(60)
    assert {*seen} == {"critic", "critic_target"}


@pytest.mark.parametrize("critic", ["redq", ALL])
def test_training_is_the_same_with_the_values_measured(make: Make, critic: str) -> None:
    states = []
    for measured in (False, True):
        model = make("sac", learning_rate=1e-3, policy_kwargs=kwargs_of(critic))
        callback = ValueStabilityCallback("Pendulum-v1", "full", 20) if measured else None
        states.append(state(model.learn(50, callback)))
    assert_same(*states)


@pytest.mark.parametrize("algo", ["sac", "td3"])
@pytest.mark.parametrize("critic", THROUGH_BATCH)
@pytest.mark.skipif(not native.is_available(), reason="no compiler")
def test_the_fast_algorithms_say_that_they_update_as_sb3(
    algo: str, critic: str, caplog: pytest.LogCaptureFixture
) -> None:
    pair = [
        make_one(kind[algo], "SNMlpPolicy", policy_kwargs=kwargs_of(f"sn+{critic}"))
        for kind in (FAST, STOCK)
    ]
    train(pair, 3, 2)
    assert not is_fast(pair[0])
    assert f"the critic has {critic}" in caplog.text
    assert_equal(*pair, rtol=0.0)


@pytest.mark.parametrize("algo", ["sac", "td3"])
@pytest.mark.parametrize("n_critics", [1, 10])
@pytest.mark.parametrize("critic", ["sn", "layer_norm", "redq"])
@pytest.mark.parametrize("kind", ["fast", "stock"])
def test_ensembles_of_1_to_10(algo: str, n_critics: int, critic: str, kind: str) -> None:
    kwargs = {"critic": critic, "n_critics": n_critics, "net_arch": [8, 8]}
    if critic == "redq":
        kwargs["critic_options"] = {"redq": {"subset": min(2, n_critics)}}
    model = make_one(
        {"fast": FAST, "stock": STOCK}[kind][algo], "SNMlpPolicy", policy_kwargs=kwargs
    )
    before = [x.clone() for x in model.critic.parameters()]
    train([model], 2, 2)
    assert len(model.critic.q_networks) == len(model.critic_target.q_networks) == n_critics
    if kind == "fast" and critic != "layer_norm" and native.is_available():
        assert is_fast(model)
    after = list(model.critic.parameters())
    assert not any(map(torch.equal, before, after))
    assert all(bool(x.isfinite().all()) for x in after)
    model.predict(model.observation_space.sample())


def test_terms_come_before_what_scales_gradients_and_that_before_decay(make: Make) -> None:
    model = make("sac", policy_kwargs=kwargs_of(ALL))
    told: list[str] = []
    followers = {**model.policy.followers, "sn": model.policy.spectral}
    for name, follower in followers.items():
        step = follower.before_step
        follower.before_step = lambda *args, name=name, step=step: told.append(name) or step(*args)
    model.critic.optimizer.step()
    assert told == ["l2_penalty", "feature_penalty", "gradient_penalty", "sn", "weight_decay"]
