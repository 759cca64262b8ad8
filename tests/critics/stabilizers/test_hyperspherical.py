"""Rows on the unit sphere after every step, and the target as the authors have it."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from snrl.critics.stabilizers.hyperspherical import SphericalLinear
from snrl.fast.steps import step
from snrl.spectral import SpectralLayer

Make = Callable[..., Any]


def layers_of(module: nn.Module) -> list[SphericalLinear]:
    return [layer for layer in module.modules() if isinstance(layer, SphericalLinear)]


def lengths(module: nn.Module) -> Tensor:
    return torch.cat([layer.weight.detach().norm(dim=1) for layer in layers_of(module)])


def test_values_and_gradients_are_those_of_the_papers_arithmetic(make: Make) -> None:
    model = make("sac", policy_kwargs={"critic": "hyperspherical"}, learn=40)
    head = copy.deepcopy(model.critic.qf0).double()
    first, second = layers_of(head)
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    y = head(x)
    (grad,) = torch.autograd.grad(y.sum(), x)
    # By hand, forward and backward, in NumPy.
    w, s, b = (
        [getattr(layer, name).detach().numpy() for layer in (first, second)]
        for name in ("weight", "scaler", "bias")
    )
    out, rows = head[-1], []
    for row in x.detach().numpy():
        hidden, back = row, np.eye(4)
        for i in range(2):
            pre = s[i] * (w[i] @ hidden) + b[i]
            active = np.maximum(pre, 0)
            back = (pre > 0)[:, None] * (s[i][:, None] * w[i]) @ back
            size = np.linalg.norm(active)
            hidden = active / size
            back = (np.eye(len(hidden)) - np.outer(hidden, hidden)) / size @ back
        weight = out.weight.detach().numpy()
        rows.append((weight @ hidden + out.bias.detach().numpy(), (weight @ back)[0]))
    np.testing.assert_allclose(y.detach().numpy(), [row[0] for row in rows], rtol=1e-11)
    np.testing.assert_allclose(grad.numpy(), [row[1] for row in rows], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("take_step", ["torch", "fast"])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop])
def test_rows_are_on_the_sphere_after_a_step_of_any_optimiser(kind: Any, take_step: str) -> None:
    torch.manual_seed(0)
    layer, reference = SphericalLinear.take(nn.Linear(6, 5)), nn.Linear(6, 5)
    torch.testing.assert_close(layer.weight.norm(dim=1), torch.ones(5))
    optimizer = kind(layer.parameters(), lr=0.1)
    reference.load_state_dict({k: v for k, v in layer.state_dict().items() if k != "scaler"})
    other = kind([reference.weight], lr=0.1)
    for _ in range(3):
        x = torch.randn(8, 6)
        optimizer.zero_grad()
        layer(x).square().sum().backward()
        reference.weight.grad = layer.weight.grad.clone()
        other.step()
        with torch.no_grad():
            reference.weight.div_(reference.weight.norm(dim=1, keepdim=True))
        step(optimizer) if take_step == "fast" else optimizer.step()
        torch.testing.assert_close(layer.weight.norm(dim=1), torch.ones(5))
        torch.testing.assert_close(layer.weight, reference.weight)
    assert (layer.scaler - nn.Linear(6, 5).weight.norm(dim=1)).abs().max() > 0.01


def test_other_layers_and_other_optimisers_leave_it_alone() -> None:
    layer = SphericalLinear.take(nn.Linear(3, 2))
    with torch.no_grad():
        layer.weight.mul_(2)
    plain = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    plain(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    torch.testing.assert_close(layer.weight.norm(dim=1), torch.full((2,), 2.0))


@pytest.mark.parametrize("critic", ["hyperspherical", "sn+hyperspherical", "hyperspherical+simba"])
@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_the_critic_stays_on_the_sphere_and_the_target_is_averaged(
    make: Make, algo: str, critic: str
) -> None:
    kwargs = {"policy_delay": 1} if algo == "td3" else {}
    model = make(algo, tau=0.3, learning_rate=1e-2, policy_kwargs={"critic": critic}, **kwargs)
    start = {name: x.clone() for name, x in model.critic_target.named_parameters()}
    model.learn(21)  # One update.
    for name, x in model.critic.named_parameters():
        expected = 0.3 * x + 0.7 * start[name]
        torch.testing.assert_close(model.critic_target.get_parameter(name), expected)
    model.learn(15, reset_num_timesteps=False)
    torch.testing.assert_close(lengths(model.critic), torch.ones_like(lengths(model.critic)))
    # A chord lies inside the sphere.
    target = lengths(model.critic_target)
    assert (target < 1 - 1e-6).any()
    assert (target < 1 + 1e-6).all()
    assert not any(isinstance(x, SpectralLayer) for x in layers_of(model.policy))
    output = [x for x in model.critic.qf0.modules() if isinstance(x, nn.Linear)][-1]
    assert type(output) is nn.Linear


def test_a_copy_follows_its_own_optimiser(make: Make) -> None:
    model = make("sac", policy_kwargs={"critic": "hyperspherical"}, learn=25)
    other = copy.deepcopy(model.policy)
    before = [layer.weight.clone() for layer in layers_of(model.critic)]
    for parameter in other.critic.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer = torch.optim.SGD(other.critic.parameters(), lr=1.0)
    optimizer.step()
    torch.testing.assert_close(lengths(other.critic), torch.ones_like(lengths(other.critic)))
    for layer, weight in zip(layers_of(model.critic), before, strict=True):
        assert torch.equal(layer.weight, weight)


def test_a_plain_layers_state_gives_its_function() -> None:
    torch.manual_seed(0)
    layer, plain = SphericalLinear.take(nn.Linear(6, 5)), nn.Linear(6, 5)
    layer.load_state_dict(plain.state_dict())
    x = torch.randn(3, 6)
    torch.testing.assert_close(layer(x), plain(x))
    torch.testing.assert_close(layer.weight.norm(dim=1), torch.ones(5))
    again = SphericalLinear.take(nn.Linear(6, 5))
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again(x), layer(x))
