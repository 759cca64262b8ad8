"""Singular vectors against the SVD in float64, on matrices with a prescribed spectrum."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from snrl.spectral.iteration import (
    Vectors,
    exact_sigma,
    leading_vectors,
    power_iteration,
    sigma_estimate,
    subspace_iteration,
    track,
)

from .matrices import SPECTRA, matrix, start

DTYPES = (torch.float32, torch.float64)


def true_sigma(name):
    return max(SPECTRA[name][0])


def zero_vectors(weight, block):
    """Vectors that know nothing: a random orthonormal block, no direction."""
    block, _ = torch.linalg.qr(block)
    m, n = weight.shape[-2:]
    k = len(weight)
    return Vectors(weight.new_zeros(k, m), weight.new_zeros(k, n), block, torch.zeros_like(block))


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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SPECTRA)
def test_leading_vectors_are_exact(name, dtype):
    weight = matrix(name, dtype)[None]
    vectors = leading_vectors(weight, 4)
    assert vectors.block.shape == (1, weight.shape[2], min(4, *weight.shape[1:]))
    tolerance = torch.finfo(dtype).eps * 30
    assert sigma_estimate(weight, vectors.u, vectors.v).item() == pytest.approx(
        true_sigma(name), rel=tolerance, abs=tolerance
    )


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("name", SPECTRA)
def test_track_finds_sigma_from_random_vectors_at_any_scale_in_float32(name, scale):
    weight = (matrix(name) * scale).float()[None]
    found = track(weight, zero_vectors(weight, start(weight)), rtol=1e-6)
    sigma = sigma_estimate(weight.double(), found.u.double(), found.v.double()).item()
    assert all(part.isfinite().all() for part in found)
    assert sigma == pytest.approx(true_sigma(name) * scale, rel=2e-4, abs=0.0)
    lengths = found.u.double().norm() * found.v.double().norm()
    assert sigma <= true_sigma(name) * scale * (lengths.item() + 1e-6)


@pytest.mark.parametrize("block_size", [1, 2, 4, 8])
def test_track_follows_a_direction_that_overtakes(block_size):
    """A new direction grows from nothing to the top: the case that plain iteration is late for."""
    generator = torch.Generator().manual_seed(0)
    bulk = torch.randn(2, 60, 50, dtype=torch.float64, generator=generator)
    bulk = bulk / torch.linalg.matrix_norm(bulk, 2)[:, None, None]
    new = torch.einsum(
        "ki,kj->kij",
        nn.functional.normalize(torch.randn(2, 60, dtype=torch.float64, generator=generator)),
        nn.functional.normalize(torch.randn(2, 50, dtype=torch.float64, generator=generator)),
    )
    vectors = leading_vectors(bulk, block_size)
    worst = 0.0
    for step in range(1, 201):
        weight = bulk + new * step * 0.01
        vectors = track(weight, vectors)
        sigma = sigma_estimate(weight, vectors.u, vectors.v)
        truth = exact_sigma(weight)
        assert (sigma <= truth * (1 + 1e-12)).all()
        worst = max(worst, (1 - sigma / truth).max().item())
    assert worst < 1e-3


def test_track_steps_are_bounded_and_at_least_those_asked_for():
    weight = matrix("clustered")[None]
    vectors = zero_vectors(weight, start(weight))
    one = track(weight, vectors, max_steps=1)
    two = track(weight, one, max_steps=1)
    at_least_two = track(weight, vectors, n_power_iterations=2, rtol=torch.inf)
    torch.testing.assert_close(at_least_two, two)


def test_track_is_batched():
    weight = torch.randn(3, 30, 40, dtype=torch.float64)
    vectors = zero_vectors(weight, start(weight))
    together = track(weight, vectors, 2, rtol=torch.inf)
    for row in range(3):
        mine = Vectors(*(part[row : row + 1] for part in vectors))
        alone = track(weight[row : row + 1], mine, 2, rtol=torch.inf)
        torch.testing.assert_close(
            sigma_estimate(weight[row], together.u[row], together.v[row]),
            sigma_estimate(weight[row], alone.u[0], alone.v[0]),
        )


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_track_raises_nothing_on_a_diverged_weight(bad):
    weight = torch.randn(2, 6, 5)
    vectors = leading_vectors(weight, 4)
    weight[0, 2, 3] = bad
    found = track(weight, vectors)
    assert found.u[1].isfinite().all()
    assert leading_vectors(weight, 4).u.isfinite().all()
    assert exact_sigma(weight)[0].isnan()


def test_non_contiguous_weights():
    weight = torch.randn(2, 9, 14, dtype=torch.float64)[:, :, ::2].mT
    assert not weight.is_contiguous()
    found = track(weight, zero_vectors(weight, start(weight)), rtol=1e-9)
    torch.testing.assert_close(
        sigma_estimate(weight, found.u, found.v), exact_sigma(weight), rtol=1e-7, atol=0
    )


def test_nothing_is_drawn_from_the_global_generator():
    weight = torch.randn(2, 6, 5)
    state = torch.get_rng_state()
    track(weight, leading_vectors(weight, 4), 3)
    assert torch.equal(torch.get_rng_state(), state)


def test_sigma_estimate_has_the_outer_product_for_gradient():
    weight = torch.randn(3, 6, 5, dtype=torch.float64, requires_grad=True)
    u, v, *_ = leading_vectors(weight, 2)
    (gradient,) = torch.autograd.grad(sigma_estimate(weight, u, v).sum(), weight)
    torch.testing.assert_close(gradient, u[:, :, None] * v[:, None, :])
    assert torch.autograd.gradcheck(lambda w: sigma_estimate(w, u, v), weight)
