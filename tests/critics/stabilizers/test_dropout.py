"""Dropout in critic and target."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from snrl.critics.stabilizers.dropout import PrivateDropout

Make = Callable[..., Any]
HALF = {"dropout": {"p": 0.5}}


def test_it_is_torchs_in_distribution_and_nothing_in_evaluation() -> None:
    dropout, x = PrivateDropout(0.3), torch.ones(200_000)
    state = torch.get_rng_state()
    y = dropout(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert set(y.unique().tolist()) == {0.0, torch.tensor(1 / 0.7).item()}
    assert abs((y == 0).double().mean() - 0.3) < 0.005
    assert not torch.equal(dropout(x), y)
    assert dropout.eval()(x) is x


def test_a_state_dict_goes_on_with_the_same_masks() -> None:
    dropout, other, x = PrivateDropout(0.5), PrivateDropout(0.5), torch.ones(64)
    dropout(x)
    other.load_state_dict(dropout.state_dict())
    assert torch.equal(other(x), dropout(x))


def test_gradients_flow_to_the_units_that_were_kept() -> None:
    dropout, x = PrivateDropout(0.5), torch.ones(64, requires_grad=True)
    y = dropout(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_the_target_drops_units_while_the_critic_trains(make: Make) -> None:
    model = make("sac", policy_kwargs={"critic": "dropout+layer_norm"})
    parts = [
        [x for x in critic.modules() if isinstance(x, PrivateDropout)]
        for critic in (model.critic, model.critic_target)
    ]
    assert [type(x) for x in model.critic.q_networks[0]][:4] == [
        nn.Linear,
        PrivateDropout,
        nn.LayerNorm,
        nn.ReLU,
    ]
    model.policy.set_training_mode(True)
    assert all(x.training for part in parts for x in part)
    obs, actions = torch.zeros(8, 3), torch.zeros(8, 1)
    values = [torch.cat(model.critic_target(obs, actions)) for _ in range(2)]
    assert not torch.equal(*values)
    model.policy.set_training_mode(False)
    values = [torch.cat(model.critic_target(obs, actions)) for _ in range(2)]
    assert torch.equal(*values)


def drawing(critic: nn.Module) -> list[PrivateDropout]:
    return [x for x in critic.modules() if isinstance(x, PrivateDropout)]


@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_every_layer_of_every_head_of_both_critics_draws_masks_of_its_own(
    make: Make, algo: str
) -> None:
    model = make(algo, policy_kwargs={"critic": "dropout", "critic_options": HALF})
    parts = drawing(model.critic) + drawing(model.critic_target)
    assert len(parts) == 8
    masks = {tuple(x.train()(torch.ones(64)).tolist()) for x in parts}
    assert len(masks) == 8
    # The same seed gives the same critic.
    again = make(algo, policy_kwargs={"critic": "dropout", "critic_options": HALF})
    parts = drawing(again.critic) + drawing(again.critic_target)
    assert {tuple(x.train()(torch.ones(64)).tolist()) for x in parts} == masks


def test_averaging_leaves_the_targets_masks_alone(make: Make) -> None:
    model = make("sac", tau=1.0, policy_kwargs={"critic": "dropout", "critic_options": HALF})
    seeds = [x._seed for x in drawing(model.critic_target)]
    model.learn(30)
    assert [x._seed for x in drawing(model.critic_target)] == seeds
    assert [x._draws for x in drawing(model.critic_target)] == [10] * 4
    assert [x._draws for x in drawing(model.critic)] == [20] * 4  # For critic and actor.
    for own, other in zip(model.critic.parameters(), model.critic_target.parameters(), strict=True):
        assert torch.equal(own, other)


def test_prediction_draws_nothing(make: Make) -> None:
    model = make("sac", policy_kwargs={"critic": "dropout+layer_norm"}, learn=25)
    counts = [x._draws for x in drawing(model.policy)]
    model.predict(np.zeros((3, 3), dtype=np.float32))
    model.policy.set_training_mode(False)
    model.critic(torch.zeros(3, 3), torch.zeros(3, 1))
    assert [x._draws for x in drawing(model.policy)] == counts
