"""Features of unit length against torch's function."""

import pytest
import torch
from torch import nn

from snrl.critics.stabilizers.unit_norm import UnitLength


def test_values_and_gradients_are_those_of_torchs() -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 5, dtype=torch.float64)
    x[1] *= 1e-9  # Below eps.
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [UnitLength(1e-6)(inputs[0]), nn.functional.normalize(inputs[1], dim=1, eps=1e-6)]
    torch.testing.assert_close(*outputs, rtol=1e-13, atol=0)
    up = torch.randn(6, 5, dtype=torch.float64)
    for y in outputs:
        y.backward(up)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-12, atol=1e-12)
    lengths = outputs[0].detach().norm(dim=1)
    assert lengths[1] == pytest.approx(x[1].norm().item() / 1e-6)
    torch.testing.assert_close(lengths[2:], torch.ones(4, dtype=torch.float64))


def test_at_zero_values_are_zero_and_the_gradient_is_that_of_a_division_by_eps() -> None:
    x = torch.zeros(2, 3, requires_grad=True)
    y = UnitLength(1e-3)(x)
    assert torch.equal(y, torch.zeros(2, 3))
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.full((2, 3), 1e3))


def test_a_critic_at_rest_learns_no_nonsense() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), UnitLength(), nn.Linear(4, 1))
    with torch.no_grad():
        network[0].bias.fill_(-100)
    network(torch.randn(5, 3)).sum().backward()
    assert network[0].weight.grad.abs().max() == 0
    assert network[3].weight.grad.abs().max() == 0
    assert network[3].bias.grad == 5
