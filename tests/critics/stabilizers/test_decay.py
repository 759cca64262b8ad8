"""Pulls of the weights to zero, against torch's own optimisers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from snrl.critics.stabilizers import resolve_critic
from snrl.spectral import fold_spectral_norm, native

from ...fast.pairs import assert_equal, in_float64, is_fast, make_pair, train

Make = Callable[..., Any]
DECAY, L2 = "weight_decay", "l2_penalty"
STRONG = {DECAY: {"decay": 0.5}, L2: {"strength": 0.3}}


def with_torchs(model: Any, optimizer: Any, **options: Any) -> Any:
    """Let torch pull, at the matrices alone, in place of the stabiliser."""
    model.policy.followers.clear()
    parameters = list(model.critic.parameters())
    groups = [
        {"params": [x for x in parameters if x.dim() > 1], **options},
        {"params": [x for x in parameters if x.dim() < 2], "weight_decay": 0.0},
    ]
    model.critic.optimizer = optimizer(groups, lr=model.lr_schedule(1))
    return model


@pytest.mark.parametrize("algo", ["sac", "td3", "ddpg"])
@pytest.mark.parametrize("others", ["", "sn+layer_norm+"])
@pytest.mark.parametrize(
    ("name", "optimizer", "option"),
    [
        (DECAY, torch.optim.AdamW, {"weight_decay": 0.5}),
        (L2, torch.optim.Adam, {"weight_decay": 0.3}),
    ],
)
def test_training_is_that_of_torchs_optimiser_bit_for_bit(
    make: Make, algo: str, others: str, name: str, optimizer: Any, option: Any
) -> None:
    kwargs = {"critic": others + name, "critic_options": {name: STRONG[name]}}
    models = [make(algo, policy_kwargs=kwargs, learning_rate=1e-3) for _ in range(2)]
    with_torchs(models[1], optimizer, **option)
    plain = make(algo, policy_kwargs={"critic": others[:-1] or "plain"}, learning_rate=1e-3)
    states = []
    for model in (*models, plain):
        model.set_random_seed(1)
        states.append(model.learn(60).policy.state_dict())
    assert all(torch.equal(x, states[1][key]) for key, x in states[0].items())
    key = "critic.qf0.0.weight"
    assert (states[0][key] - states[2][key]).abs().max() > 1e-3


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.RMSprop])
def test_with_any_optimiser_a_step_of_no_gradient_decays_matrices_alone(
    make: Make, optimizer: Any
) -> None:
    model = make("sac", policy_kwargs={"critic": "layer_norm+weight_decay"})
    first, *others = model.critic.parameters()
    others, left = others[:-2], others[-2:]
    model.critic.optimizer = optimizer([{"params": [first], "lr": 0.5}, {"params": others}], lr=0.1)
    before = {name: x.detach().clone() for name, x in model.critic.named_parameters()}
    for x in model.critic.parameters():
        x.grad = torch.zeros_like(x)
    model.critic.optimizer.step()
    for name, x in model.critic.named_parameters():
        rate = 0.5 if x is first else 0.1
        held = all(x is not other for other in left)
        expected = before[name] * (1 - rate * 1e-2 if x.dim() > 1 and held else 1)
        torch.testing.assert_close(x.detach(), expected)


def test_what_has_no_gradient_stays(make: Make) -> None:
    model = make("sac", policy_kwargs={"critic": f"{DECAY}+{L2}"})
    before = [x.clone() for x in model.critic.parameters()]
    model.critic.optimizer.zero_grad()
    model.critic.optimizer.step()
    assert all(map(torch.equal, before, model.critic.parameters()))
    assert all(x.grad is None for x in model.critic.parameters())


def test_a_policy_that_is_folded_goes_on(make: Make) -> None:
    model = fold_spectral_norm(make("sac", policy_kwargs={"critic": "sn+weight_decay"}))
    weight = model.critic.q_networks[0][0].weight
    before = weight.detach().clone()
    weight.grad = torch.zeros_like(weight)
    model.critic.optimizer.step()
    torch.testing.assert_close(weight.detach(), before * (1 - 3e-4 * 1e-2))
    assert not torch.equal(weight, before)


@pytest.mark.skipif(not native.is_available(), reason="no compiler")
@pytest.mark.parametrize("algo", ["sac", "td3"])
@pytest.mark.parametrize("critic", [f"{DECAY}", f"sn+{L2}", f"sn+{DECAY}+{L2}"])
def test_the_fast_update_pulls_as_sb3s(algo: str, critic: str) -> None:
    kwargs = {"critic": critic, "n_power_iterations": 30}
    kwargs["critic_options"] = {name: STRONG[name] for name in critic.split("+") if name != "sn"}
    pair = make_pair(algo, "SNMlpPolicy", policy_kwargs=kwargs)
    with in_float64(*pair):
        train(pair, 4, 3)
    assert is_fast(pair[0])
    assert_equal(*pair, rtol=1e-9)


@pytest.mark.parametrize(("critic", "option"), [(DECAY, "decay"), (L2, "strength")])
def test_wrong_options_are_refused(critic: str, option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} must be a number greater than 0"):
        resolve_critic(critic, {critic: {option: 0}})
