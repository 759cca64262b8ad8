"""Dropout in critic and target."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from snrl.critics.stabilizers.dropout import PrivateDropout

Make = Callable[..., Any]


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
