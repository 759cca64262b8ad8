"""What is CrossQ's own: batch renormalisation before each layer, one joint batch, no target."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import CrossQ
from sb3_contrib.common.torch_layers import BatchRenorm1d
from stable_baselines3.common.envs import SimpleMultiObsEnv
from torch import nn

from snrl.crossq import MlpPolicy

Make = Callable[..., Any]


@pytest.mark.parametrize("use_sde", [False, True])
def test_norms_move_once_per_update_and_stand_still_in_evaluation(
    make: Make, use_sde: bool, assert_normalised: Make
) -> None:
    options = {"renorm_warmup_steps": 5}
    model = make("crossq", policy_kwargs=options, use_sde=use_sde, policy_delay=2, learn=40)
    norms = [x for x in model.critic.modules() if isinstance(x, BatchRenorm1d)]
    assert len(norms) == 6
    assert {int(norm.steps) for norm in norms} == {model._n_updates} == {20}
    assert not any(norm.training for norm in norms)
    before = [buffer.clone() for buffer in model.critic.buffers()]
    model.critic(torch.randn(5, 3), torch.rand(5, 1))
    assert all(map(torch.equal, before, model.critic.buffers()))
    assert_normalised(model)


def test_a_layers_norm_is_held_whatever_its_batch_norm_does(make: Make) -> None:
    """The layer's, as an SVD sees it; the joint batch has both halves of an update."""
    model = make("crossq", policy_kwargs={"sn_coef": 2.0}, learning_rate=1e-2)
    rows: list[int] = []

    def look(critic: Any, given: Any) -> None:
        rows.append(len(given[0]))
        for network in critic.q_networks:
            linear = [x for x in network if isinstance(x, nn.Linear)]
            weight = linear[-2].effective_weight().detach().numpy()
            assert np.linalg.norm(weight, 2) == pytest.approx(2, rel=1e-3)
            for layer in (linear[0], linear[-1]):
                assert type(layer) is nn.Linear

    model.critic.register_forward_pre_hook(look)
    model.learn(50)
    assert rows.count(32) == 30
    assert rows.count(16) == 10  # The actor's turn is every third.


def test_without_batch_norm_it_is_a_chain_of_layers(make: Make, assert_normalised: Make) -> None:
    model = make("crossq", policy_kwargs={"batch_norm": False, "n_critics": 3}, learn=40)
    assert len(model.critic.q_networks) == 3
    assert [type(x) for x in model.critic.qf0][1::2] == [nn.ReLU, nn.ReLU]
    assert_normalised(model)


def test_dict_observations_are_refused_with_the_reason() -> None:
    env = SimpleMultiObsEnv(discrete_actions=False)
    with pytest.raises(ValueError, match="two batches as one, which Dict observations are not"):
        CrossQ(MlpPolicy, env)
