"""Singular vectors against the SVD in float64, on matrices with a prescribed spectrum."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from snrl.spectral.iteration import (
    exact_sigma,
    power_iteration,
    sigma_estimate,
    subspace_iteration,
)
from snrl.spectral.tracking import leading_vectors

from .matrices import SPECTRA, matrix, start

DTYPES = (torch.float32, torch.float64)


def true_sigma(name):
    return max(SPECTRA[name][0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SPECTRA)
def test_exact_sigma_is_the_prescribed_value(name, dtype):
    tolerance = torch.finfo(dtype).eps * 30
    assert exact_sigma(matrix(name, dtype)).item() == pytest.approx(
        true_sigma(name), rel=tolerance, abs=tolerance
    )


@pytest.mark.parametrize("name", SPECTRA)
def test_subspace_iteration_rises_to_the_true_value_from_below(name):
    weight = matrix(name)
    block = start(weight)
    previous = 0.0
    for _ in range(5):
        u, sigma, block = subspace_iteration(weight, block)
        assert previous * (1 - 1e-12) <= sigma.item() <= true_sigma(name) * (1 + 1e-12)
        torch.testing.assert_close(sigma_estimate(weight, u, block[:, 0]), sigma)
        eye = torch.eye(block.shape[1], dtype=block.dtype)
        torch.testing.assert_close(block.T @ block, eye)
        previous = sigma.item()
    _, sigma, _ = subspace_iteration(weight, block, 3000)
    assert sigma.item() == pytest.approx(true_sigma(name), rel=1e-10, abs=1e-12)


def test_a_block_converges_at_its_own_gap_not_at_the_first():
    # Values 1, .999, .998, .997 and then .5: a block of four has the factor .5² a step.
    values = torch.tensor([1.0, 0.999, 0.998, 0.997] + [0.5] * 16, dtype=torch.float64)
    q, _ = torch.linalg.qr(torch.randn(20, 20, dtype=torch.float64))
    weight = q @ torch.diag(values)
    _, sigma, _ = subspace_iteration(weight, start(weight), 25)
    _, single, _ = power_iteration(weight, start(weight)[:, 0], 25)
    assert 1.0 - sigma.item() < 1e-12
    assert 1.0 - single.item() > 1e-5


def test_power_iteration_is_torchs():
    layer = spectral_norm(nn.Linear(7, 5).double(), n_power_iterations=3)
    parametrization = layer.parametrizations.weight[0]
    weight = layer.parametrizations.weight.original.detach()
    u, sigma, v = power_iteration(weight, parametrization._v.clone(), 3)
    effective = layer.weight.detach()
    torch.testing.assert_close(weight / sigma, effective, rtol=0, atol=1e-13)
    # The pair is determined up to a common sign.
    sign = torch.sign(u @ parametrization._u)
    torch.testing.assert_close(v * sign, parametrization._v, rtol=0, atol=1e-7)


@pytest.mark.parametrize("function", [power_iteration, subspace_iteration])
def test_batched_equals_one_by_one(function):
    weight = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    block = start(weight)
    if function is power_iteration:
        block = block[..., 0]
    _, sigma, _ = function(weight, block, 3)
    for i in range(2):
        for j in range(3):
            _, single, _ = function(weight[i, j], block[i, j], 3)
            torch.testing.assert_close(sigma[i, j], single)


def test_sigma_estimate_has_the_outer_product_for_gradient():
    weight = torch.randn(3, 6, 5, dtype=torch.float64, requires_grad=True)
    vectors = leading_vectors(weight.detach(), 2)
    u, v = vectors.u, vectors.v
    (gradient,) = torch.autograd.grad(sigma_estimate(weight, u, v).sum(), weight)
    torch.testing.assert_close(gradient, u[:, :, None] * v[:, None, :])
    assert torch.autograd.gradcheck(lambda w: sigma_estimate(w, u, v), weight)
