"""A coefficient on a schedule: where it is, how it is saved, and what it is for a stored weight."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from snrl.spectral import SpectralNormalizer, spectral_normalize
from snrl.spectral.coefficient import Coefficient


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def mlp():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))


def train(net, steps, optimizer=None):
    optimizer = optimizer or torch.optim.Adam(net.parameters(), lr=3e-2)
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    for _ in range(steps):
        optimizer.zero_grad()
        (net(x) - 3).square().mean().backward()
        optimizer.step()
        yield


@pytest.mark.parametrize("coef", [(4.0, 1.0, 10), [0.5, 2, 10]])
def test_it_goes_in_a_line_and_stays(coef):
    coefficient = Coefficient(coef)
    seen = []
    for _ in range(15):
        seen.append(float(coefficient.value))
        coefficient.advance()
    assert seen == pytest.approx(list(np.linspace(coef[0], coef[1], 11)) + [coef[1]] * 4, rel=1e-6)
    assert coefficient.largest == max(coef[:2])


@pytest.mark.parametrize(
    ("coef", "message"),
    [
        ((1.0, 2.0), "a number, or start, end and steps"),
        ((1.0, 2.0, 3.0, 4.0), "a number, or start, end and steps"),
        ((1.0, 0.0, 3), "positive number, got 0.0"),
        ((True, 1.0, 3), "positive number, got True"),
        ((1.0, 2.0, 0), "steps must be a positive integer, got 0"),
        ((1.0, 2.0, 3.5), "steps must be a positive integer, got 3.5"),
        ("1", "positive number, got '1'"),
    ],
)
def test_refuses(coef, message):
    with pytest.raises(ValueError, match=message):
        SpectralNormalizer(coef)


def test_layers_follow_the_schedule_step_by_step():
    net = spectral_normalize(mlp(), coef=(3.0, 1.0, 20))
    assert net.spectral.exact_sigmas().item() == pytest.approx(3.0, rel=1e-5)
    for step, _ in enumerate(train(net, 25), start=1):
        wanted = max(3.0 - 0.1 * step, 1.0)
        assert net.spectral.exact_sigmas().item() == pytest.approx(wanted, rel=1e-3)
    assert "coef=(3.0, 1.0, 20)" in repr(net.spectral)


def test_a_graph_keeps_the_coefficient_it_was_made_with():
    net = spectral_normalize(mlp().double(), coef=(3.0, 1.0, 20))
    reference = copy.deepcopy(net)
    x = torch.randn(5, 4).double()
    (expected,) = torch.autograd.grad(reference(x).sum(), reference[2].weight)
    out = net(x).sum()
    net.spectral.coefficient.advance()
    (gradient,) = torch.autograd.grad(out, net[2].weight)
    torch.testing.assert_close(gradient, expected)


def test_only_steps_that_move_its_layers_count():
    net = spectral_normalize(mlp(), coef=(3.0, 1.0, 20))
    net[0].weight.grad = torch.zeros_like(net[0].weight)
    torch.optim.SGD(net[0].parameters(), lr=0.1).step()
    assert float(net.spectral.coef) == 3.0
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    assert float(net.spectral.coef) == pytest.approx(2.9)


def test_the_count_is_saved_and_a_plain_network_has_none():
    net = spectral_normalize(mlp(), coef=(3.0, 1.0, 20))
    list(train(net, 10))
    saved = net.state_dict()
    assert saved["spectral.coefficient.steps"].item() == 10
    fresh = spectral_normalize(mlp(), coef=(3.0, 1.0, 20))
    fresh.load_state_dict(saved)
    assert float(fresh.spectral.coef) == pytest.approx(2.0)
    fresh.load_state_dict(mlp().state_dict())
    assert float(fresh.spectral.coef) == pytest.approx(2.0)
    # Nothing is kept where nothing is counted.
    assert not any("coefficient" in key for key in spectral_normalize(mlp()).state_dict())


@pytest.mark.parametrize("mode", ["project", "hammer", "soft_cap"])
@pytest.mark.parametrize("ends", [(1.5, 0.5), (0.5, 1.5)])
def test_a_stored_weight_and_its_average_are_held_along_the_schedule(mode, ends):
    net = spectral_normalize(mlp(), coef=(*ends, 40), mode=mode)
    average, bound, tau = net[2].weight.detach().clone(), max(ends), 0.1
    for _ in train(net, 60):
        coef = float(net.spectral.coef)
        assert net.spectral.exact_sigmas().item() <= coef * (1 + 1.5e-3)
        average.lerp_(net[2].weight.detach(), tau)
        bound += tau * (coef - bound)
        assert torch.linalg.matrix_norm(average, 2).item() <= bound * (1 + 1.5e-3)
    # A run that is loaded is not cut to where another would begin.
    saved, other = (
        copy.deepcopy(net.state_dict()),
        spectral_normalize(mlp(), coef=(*ends, 40), mode=mode),
    )
    other.load_state_dict(saved)
    assert all(torch.equal(value, saved[key]) for key, value in other.state_dict().items())
