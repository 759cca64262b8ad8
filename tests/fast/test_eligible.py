"""What keeps a model from the fast way."""

from typing import Any

import pytest
import torch
from stable_baselines3.common.policies import ContinuousCritic
from torch import nn

from snrl.spectral import native

from .pairs import FAST, make_one

pytestmark = pytest.mark.skipif(not native.is_available(), reason="no compiler")


@pytest.fixture(params=["sac", "td3"])
def model(request: pytest.FixtureRequest) -> Any:
    return make_one(FAST[request.param], "SNMlpPolicy")


def reason_of(model: Any) -> Any:
    return type(model).update_classes["cpu"].why_not(model)


def test_none(model: Any) -> None:
    assert reason_of(model) is None


def test_another_device(model: Any) -> None:
    model.device = torch.device("mps")
    assert model._prepared(16) is None
    assert model._reason == "the device is mps"


def test_no_compiler(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "is_available", lambda _: False)
    assert "no C compiler" in reason_of(model)


def test_another_critic(model: Any) -> None:
    class Mine(ContinuousCritic):
        pass

    model.critic_target.__class__ = Mine
    assert reason_of(model) == "the critic is a Mine"


def test_another_actor(model: Any) -> None:
    class Mine(type(model.actor)):  # type: ignore[misc]
        pass

    model.actor.__class__ = Mine
    assert reason_of(model) == "the actor is a Mine"


def test_another_extractor(model: Any) -> None:
    model.critic_target.features_extractor = nn.Flatten()
    assert reason_of(model) == "the features extractor is a Flatten"


def test_several_dtypes(model: Any) -> None:
    model.actor.double()
    assert "several dtypes: torch.float32, torch.float64" in reason_of(model)


def test_vectors_of_another_dtype(model: Any) -> None:
    model.critic.double()
    assert "singular vectors of another dtype" in reason_of(model)


def test_frozen_parameters(model: Any) -> None:
    model.actor.requires_grad_(False)
    assert "not trained" in reason_of(model)


def test_a_mean_of_several_layers() -> None:
    model = make_one(FAST["sac"])
    model.actor.mu = nn.Sequential(nn.Linear(16, 1))
    assert reason_of(model) is not None


def test_a_mean_without_bias() -> None:
    model = make_one(FAST["sac"])
    model.actor.mu = nn.Linear(16, 1, bias=False)
    assert reason_of(model) is not None


def test_another_distribution() -> None:
    model = make_one(FAST["sac"])
    model.actor.action_dist.epsilon = 1e-2
    assert reason_of(model) is not None


def test_heads_of_unequal_depth(model: Any) -> None:
    head = nn.Sequential(nn.Linear(4, 1))
    model.critic.q_networks[1] = model.critic.qf1 = head.to(torch.float32)
    assert reason_of(model) is not None
