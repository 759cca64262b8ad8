"""Lipschitz bounds of networks: never below a gradient, exact where everything is aligned."""

import math

import pytest
import torch
from torch import nn

from snrl.spectral import SpectralNormalizer, exact_sigma, spectral_normalize
from snrl.spectral.certificate import lipschitz_bounds, norm_bounds
from snrl.spectral.tracking import leading_vectors

from .matrices import SPECTRA, matrix

INPUTS = {"all": slice(None), "state": slice(0, 5), "action": slice(5, None)}


def largest_gradients(network, n_points=4000):
    x = (3 * torch.randn(n_points, 8, dtype=torch.float64)).requires_grad_()
    (gradient,) = torch.autograd.grad(network(x).sum(), x)
    return {name: gradient[:, part].norm(dim=1).max().item() for name, part in INPUTS.items()}


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.SiLU, nn.ELU])
@pytest.mark.parametrize("normalised", [False, True])
def test_no_gradient_is_above_the_bound(activation, normalised):
    network = nn.Sequential(
        nn.Linear(8, 40), activation(), nn.Linear(40, 40), activation(), nn.Linear(40, 1)
    ).double()
    if normalised:
        spectral_normalize(network, layers="all", coef=1.5)
    bounds = lipschitz_bounds(network, INPUTS)
    found = largest_gradients(network)
    for name, bound in bounds.items():
        assert found[name] <= bound
    assert bounds["all"] <= 1.5**3 * (1.1**2) * (1 + 1e-5) or not normalised
    assert bounds["state"] < bounds["all"]


def test_the_bound_is_reached_where_all_directions_agree():
    first, second = nn.Linear(8, 3, bias=False).double(), nn.Linear(3, 1, bias=False).double()
    with torch.no_grad():
        left, _, _ = torch.linalg.svd(first.weight, full_matrices=False)
        second.weight.copy_(left[:, :1].T)
        exact = torch.linalg.svdvals(first.weight)[0].item()
    network = nn.Sequential(first, nn.Identity(), second)
    assert lipschitz_bounds(network, INPUTS)["all"] == pytest.approx(exact, rel=1e-6)
    assert largest_gradients(network)["all"] == pytest.approx(exact, rel=1e-9)


def test_a_part_of_the_input_counts_its_own_columns_only():
    layer = nn.Linear(8, 4).double()
    bounds = lipschitz_bounds([layer], INPUTS)
    for name, columns in INPUTS.items():
        exact = torch.linalg.matrix_norm(layer.weight[:, columns], 2).item()
        assert exact <= bounds[name] <= exact * (1 + 1e-6)


@pytest.mark.parametrize(
    "modules",
    [
        [nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)],
        [nn.LayerNorm(8), nn.Linear(8, 1)],
        [nn.ReLU()],
    ],
    ids=["unknown", "mixes the input", "no layer"],
)
def test_where_nothing_can_be_proven_nothing_is_said(modules):
    assert lipschitz_bounds(modules, INPUTS) == {}


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("name", SPECTRA)
def test_the_exact_norm_lies_between_the_bounds(name, scale):
    weight = (matrix(name) * scale).float()
    vectors = leading_vectors(weight[None], 2)
    # Not of unit length, as float32 leaves them.
    lower, upper = norm_bounds(weight, vectors.u[0] * 1.01, vectors.v[0] * 0.9)
    exact = exact_sigma(weight)
    assert lower <= exact * (1 + 1e-14)
    assert exact <= upper <= exact * (1 + 1e-6)
    assert lower >= exact * (1 - 1e-5)


def test_a_certificate_of_a_network():
    network = nn.Sequential(nn.Linear(8, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU())
    network.append(nn.Linear(40, 1))
    spectral_normalize(network.double(), layers=(-2, -1), coef=2.0)
    certificate = network.spectral.certify()
    exact = network.spectral.exact_sigmas()
    assert (certificate.lower <= exact * (1 + 1e-12)).all()
    assert (certificate.upper >= exact).all()
    assert certificate.error <= 2e-6
    (bounds,) = certificate.lipschitz
    assert bounds == lipschitz_bounds(network, {"input": slice(None)})
    # Vectors that are off are told to be: here they are those of other weights.
    with torch.no_grad():
        network[2].weight.copy_(torch.randn(40, 40))
    late = network.spectral.certify()
    assert late.error >= (network.spectral.exact_sigmas() / 2.0 - 1).max() - 1e-9
    assert late.error > 0.1


def test_a_module_that_is_hooked_proves_nothing():
    network = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 1))
    network[0].register_forward_hook(lambda *_: None)
    assert lipschitz_bounds(network, INPUTS) == {}


def test_a_weight_that_is_not_finite_has_no_certificate():
    layer = nn.Linear(4, 4)
    normalizer = SpectralNormalizer()
    assert normalizer.certify().upper.shape == (0,)
    normalizer.add([layer])
    with torch.no_grad():
        layer.weight[0, 0] = torch.nan
    assert math.isnan(normalizer.certify().error)
