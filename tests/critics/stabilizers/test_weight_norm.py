"""Weight normalisation against torch's own, and what Stable-Baselines3 does to it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import SAC, TD3
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import snrl
from snrl.critics import critic_lipschitz, sigma_max
from snrl.critics.stabilizers.weight_norm import WeightNormLinear

Make = Callable[..., Any]
WEIGHT_NORM = {"critic": "weight_norm"}


def plain_layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(7, 5).double()


def test_values_and_gradients_are_those_of_torchs() -> None:
    own, other = WeightNormLinear.take(plain_layer()), weight_norm(plain_layer(), dim=0)
    with torch.no_grad():  # Away from the start, where magnitudes are lengths.
        for module in (own, other):
            weight = module.weight if module is own else module.parametrizations.weight.original1
            weight.mul_(torch.linspace(0.3, 4, 7, dtype=torch.float64))
        own.magnitude.mul_(2)
        other.parametrizations.weight.original0.mul_(2)
    x, up = torch.randn(6, 7, dtype=torch.float64), torch.randn(6, 5, dtype=torch.float64)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    y, expected = own(inputs[0]), other(inputs[1])
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    y.backward(up)
    expected.backward(up)
    magnitude, direction = (getattr(other.parametrizations.weight, f"original{i}") for i in (0, 1))
    for grad, its in (
        (inputs[0].grad, inputs[1].grad),
        (own.weight.grad, direction.grad),
        (own.magnitude.grad, magnitude.grad.squeeze(1)),
        (own.bias.grad, other.bias.grad),
    ):
        torch.testing.assert_close(grad, its, rtol=1e-12, atol=1e-12)
    # The gradient cannot change the length of a direction, to first order.
    assert (own.weight.grad * own.weight).sum(1).abs().max() < 1e-12


def test_a_plain_layers_state_gives_its_function_and_its_own_goes_on() -> None:
    layer = WeightNormLinear.take(plain_layer())
    x = torch.randn(4, 7, dtype=torch.float64)
    torch.testing.assert_close(layer(x), plain_layer()(x), rtol=1e-14, atol=1e-14)
    torch.manual_seed(1)
    other = nn.Linear(7, 5).double()
    layer.load_state_dict(other.state_dict())
    torch.testing.assert_close(layer(x), other(x), rtol=1e-14, atol=1e-14)
    with torch.no_grad():
        layer.magnitude.mul_(3)
    state = layer.state_dict()
    assert [*state] == ["weight", "bias", "magnitude"]
    again = WeightNormLinear.take(plain_layer())
    again.load_state_dict(state)
    assert torch.equal(again(x), layer(x))


def test_a_row_of_zeros_stays_one() -> None:
    layer = plain_layer()
    with torch.no_grad():
        layer.weight[2] = 0
    layer = WeightNormLinear.take(layer)
    layer(torch.ones(1, 7, dtype=torch.float64)).sum().backward()
    assert layer.effective_weight()[2].abs().max() == 0
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


def test_it_is_not_spectral_normalisation() -> None:
    layer = nn.Linear(3, 4, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 0, 0]).expand(4, 3))
    weight = WeightNormLinear.take(layer).effective_weight()
    assert np.linalg.norm(weight.detach().numpy(), 2) == pytest.approx(2)


@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_the_target_applies_averaged_magnitudes_and_directions(make: Make, algo: str) -> None:
    kwargs = {"policy_delay": 1} if algo == "td3" else {}
    model = make(algo, tau=0.3, policy_kwargs=WEIGHT_NORM, learning_rate=1e-2, **kwargs)
    start = {name: x.clone() for name, x in model.critic_target.named_parameters()}
    model.learn(21)  # One update.
    for name, x in model.critic.named_parameters():
        expected = 0.3 * x + 0.7 * start[name]
        torch.testing.assert_close(model.critic_target.get_parameter(name), expected)
    for layer in model.critic_target.qf0:
        if isinstance(layer, nn.Linear):
            torch.testing.assert_close(layer.effective_weight().norm(dim=1), layer.magnitude)


@pytest.mark.parametrize("critic", ["weight_norm", "sn+weight_norm", "hyperspherical"])
@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_a_plain_zip_loads_with_its_optimiser_and_goes_on(
    make: Make, tmp_path: Path, algo: str, critic: str
) -> None:
    plain = make(algo, "MlpPolicy", learn=30)
    plain.save(tmp_path / "plain.zip")
    kind = {"sac": SAC, "td3": TD3}[algo]
    kwargs = {"net_arch": [32, 32], "critic": critic}
    if critic == "hyperspherical":
        kwargs["critic_options"] = {critic: {"unit_features": False}}
    policy = snrl.SNSACPolicy if algo == "sac" else snrl.SNTD3Policy
    changed = {"policy_class": policy, "policy_kwargs": kwargs}
    model = kind.load(tmp_path / "plain.zip", custom_objects=changed, device="cpu")
    obs, actions = torch.randn(4, 3), torch.randn(4, 1)
    if critic != "sn+weight_norm":
        values = [torch.cat(x.critic(obs, actions)) for x in (model, plain)]
        torch.testing.assert_close(*values)
    states, own = (x.critic.optimizer.state for x in (plain, model))
    pairs = zip(
        plain.critic.parameters(), (x for x in model.critic.parameters() if x in own), strict=True
    )
    for old, new in pairs:
        assert torch.equal(states[old]["exp_avg"], own[new]["exp_avg"])
    model.set_env(plain.get_env())
    model.learn(25)
    assert len(own) == len(list(model.critic.parameters()))


def test_what_measures_weights_sees_the_applied_ones(make: Make) -> None:
    model = make("sac", policy_kwargs=WEIGHT_NORM)
    plain = make("sac", "MlpPolicy")
    for layer in (x for x in model.critic.modules() if isinstance(x, WeightNormLinear)):
        with torch.no_grad():
            layer.weight.mul_(5)  # Changes no value.
    bounds, expected = (critic_lipschitz(x.critic) for x in (model, plain))
    assert bounds == pytest.approx(expected, rel=1e-4)
    assert sigma_max(model.critic) == pytest.approx(sigma_max(plain.critic), rel=1e-5)


def test_a_layer_of_an_unknown_subclass_has_no_certificate(make: Make) -> None:
    class Doubled(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    model = make("sac", "MlpPolicy")
    assert critic_lipschitz(model.critic)
    model.critic.qf0[2].__class__ = Doubled
    assert critic_lipschitz(model.critic) == {}
