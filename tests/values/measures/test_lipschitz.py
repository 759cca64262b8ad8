import numpy as np
import pytest
import torch
from torch import nn

from snrl.values.measures import input_gradient_norms

from .critics import batch, critic, network


def differences(function, x, step=1e-5):
    """Central differences of each value in its own row, shape ``(n, entries)``."""
    columns = [
        (function(x + shift) - function(x - shift)) / (2 * step)
        for shift in torch.eye(x.shape[1], dtype=x.dtype) * step
    ]
    return torch.stack(columns, 1).detach().numpy()


@pytest.mark.parametrize("activation", [nn.SiLU, nn.ReLU, nn.Tanh])
def test_is_the_norm_of_finite_differences(activation):
    q = critic(network(7, activation=activation))
    states, actions = batch(20, 5), batch(20, 2, seed=1)
    by_state, by_action = input_gradient_norms(q, states, actions)
    expected = np.linalg.norm(differences(lambda s: q(s, actions), states), axis=1)
    np.testing.assert_allclose(by_state, expected, rtol=1e-6)
    expected = np.linalg.norm(differences(lambda a: q(states, a), actions), axis=1)
    np.testing.assert_allclose(by_action, expected, rtol=1e-6)


def test_of_a_linear_critic_is_the_norm_of_its_weights():
    q = critic(nn.Linear(4, 1, bias=False).double())
    (weight,) = q.__closure__[0].cell_contents.parameters()
    with torch.no_grad():
        weight.copy_(torch.tensor([[3.0, 0.0, 4.0, -12.0]]))
    by_state, by_action = input_gradient_norms(q, batch(6, 3), batch(6, 1))
    assert by_state.tolist() == [5.0] * 6
    assert by_action.tolist() == [12.0] * 6


def test_no_slope_exceeds_the_product_of_the_layers_norms():
    net = network(7, activation=nn.ReLU)
    weights = [module.weight.detach() for module in net if isinstance(module, nn.Linear)]
    bound = np.prod([np.linalg.norm(weight, 2) for weight in weights])
    slopes = input_gradient_norms(critic(net), batch(500, 5), batch(500, 2, seed=1))
    assert torch.hypot(*slopes).max() <= bound
    assert torch.hypot(*slopes).max() > 0.05 * bound


def test_images_are_vectors_too():
    net = network(3 * 4 + 2)
    states, actions = batch(5, 3, 2, 2), batch(5, 2, seed=1)
    found = input_gradient_norms(critic(net), states, actions)
    flat = input_gradient_norms(critic(net), states.flatten(1), actions)
    for one, other in zip(found, flat, strict=True):
        assert one.shape == (5,)
        np.testing.assert_allclose(one, other)


def test_an_input_that_does_not_matter_has_no_slope():
    by_state, by_action = input_gradient_norms(
        lambda s, _: s.square().sum(1), batch(4, 3), batch(4, 2)
    )
    np.testing.assert_allclose(by_state, 2 * batch(4, 3).norm(dim=1))
    assert by_action.tolist() == [0.0] * 4


def test_float32_and_no_grad_change_nothing():
    net = network(5).float()
    states, actions = batch(8, 3).float(), batch(8, 2).float()
    with torch.no_grad():
        found = input_gradient_norms(critic(net), states, actions)
    exact = input_gradient_norms(critic(net.double()), states.double(), actions.double())
    for one, other in zip(found, exact, strict=True):
        assert one.dtype == torch.float64
        assert not one.requires_grad
        np.testing.assert_allclose(one, other, rtol=1e-4)


def test_leaves_no_gradient_behind():
    net = network(5)
    states, actions = batch(8, 3), batch(8, 2)
    input_gradient_norms(critic(net), states, actions)
    assert all(param.grad is None for param in net.parameters())
    assert not states.requires_grad
    assert not actions.requires_grad
