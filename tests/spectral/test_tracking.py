"""Vectors that follow a moving weight, in torch and in C, against the SVD in float64."""

from array import array

import pytest
import torch
from torch import nn

from snrl.spectral import native
from snrl.spectral.batch import Batch
from snrl.spectral.iteration import exact_sigma, sigma_estimate
from snrl.spectral.refresh import Refresh
from snrl.spectral.tracking import MAX_STEPS, RTOL, Vectors, leading_vectors, track

from .matrices import SPECTRA, matrix, start

DTYPES = (torch.float32, torch.float64)


def true_sigma(name):
    return max(SPECTRA[name][0])


def zero_vectors(weight, block):
    """Vectors that know nothing: a random orthonormal block, no direction."""
    block = torch.linalg.qr(block)[0].mT.contiguous()
    return Vectors(weight.new_zeros(weight.shape[:2]), block, torch.zeros_like(block))


def track_in_c(weight, vectors, n_power_iterations=1, rtol=RTOL, max_steps=MAX_STEPS):
    vectors = Vectors(*(part.clone() for part in vectors))
    batch = Batch(
        list(weight.contiguous()),
        vectors,
        range(len(weight)),
        array("d", weight.new_zeros(len(weight))),
    )
    prepared = Refresh([batch])
    assert [type(plan) for plan in prepared.plans] == [native.Plan]
    prepared(n_power_iterations, rtol, max_steps)
    return vectors


@pytest.fixture(params=[track, track_in_c], ids=["torch", "C"])
def follow(request):
    return request.param


def walk(shape, n_steps, lr, dtype=torch.float32):
    """Weights under Adam on random gradients with a part that stays: many directions grow."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(shape, generator=generator, dtype=dtype) / shape[-1] ** 0.5
    weight.requires_grad_()
    constant = torch.randn(shape, generator=generator, dtype=dtype)
    optimizer = torch.optim.Adam([weight], lr=lr)
    for _ in range(n_steps):
        weight.grad = torch.randn(shape, generator=generator, dtype=dtype) + 0.3 * constant
        optimizer.step()
        yield weight.detach()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SPECTRA)
def test_leading_vectors_are_exact(name, dtype):
    weight = matrix(name, dtype)[None]
    vectors = leading_vectors(weight, 4)
    assert vectors.block.shape == (1, min(4, *weight.shape[1:]), weight.shape[2])
    tolerance = torch.finfo(dtype).eps * 30
    assert sigma_estimate(weight, vectors.u, vectors.v).item() == pytest.approx(
        true_sigma(name), rel=tolerance, abs=tolerance
    )


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("name", SPECTRA)
def test_sigma_is_found_from_random_vectors_at_any_scale_in_float32(follow, name, scale):
    weight = (matrix(name) * scale).float()[None]
    found = follow(weight, zero_vectors(weight, start(weight)), rtol=1e-6)
    sigma = sigma_estimate(weight.double(), found.u.double(), found.v.double()).item()
    assert all(part.isfinite().all() for part in found)
    assert sigma == pytest.approx(true_sigma(name) * scale, rel=2e-4, abs=0.0)
    lengths = found.u.double().norm() * found.v.double().norm()
    assert sigma <= true_sigma(name) * scale * (lengths.item() + 1e-6)


@pytest.mark.parametrize("block_size", [1, 2, 4, 8])
def test_a_direction_that_overtakes_is_followed(follow, block_size):
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
        vectors = follow(weight, vectors)
        sigma = sigma_estimate(weight, vectors.u, vectors.v)
        truth = exact_sigma(weight)
        assert (sigma <= truth * (1 + 1e-12)).all()
        worst = max(worst, (1 - sigma / truth).max().item())
    assert worst < 1e-3


@pytest.mark.parametrize(
    ("shape", "block_size"), [((2, 64, 64), 4), ((3, 40, 70), 3), ((2, 70, 9), 4), ((1, 5, 64), 8)]
)
def test_a_walk_under_adam_is_followed_and_the_block_stays_orthonormal(follow, shape, block_size):
    vectors = None
    for weight in walk(shape, 300, lr=1e-3):
        if vectors is None:
            vectors = leading_vectors(weight, block_size)
        vectors = follow(weight, vectors)
        sigma = sigma_estimate(weight.double(), vectors.u.double(), vectors.v.double())
        torch.testing.assert_close(sigma, exact_sigma(weight), rtol=1e-3, atol=0)
        eye = torch.eye(vectors.block.shape[1]).expand(len(weight), -1, -1)
        torch.testing.assert_close(vectors.block @ vectors.block.mT, eye, rtol=0, atol=5e-6)


@pytest.mark.parametrize("name", SPECTRA)
def test_c_finds_the_sigma_that_torch_finds(name):
    """The oracle completes a basis by arbitrary vectors where C drops: equal where converged."""
    weight = matrix(name, torch.float32)[None]
    vectors = zero_vectors(weight, start(weight))
    one, other = (
        way(weight, vectors, n_power_iterations=60, rtol=torch.inf) for way in (track, track_in_c)
    )
    torch.testing.assert_close(
        *(sigma_estimate(weight.double(), x.u.double(), x.v.double()) for x in (one, other)),
        rtol=1e-6,
        atol=0,
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_step_in_c_is_a_step_in_torch(dtype):
    weight = torch.randn(2, 40, 33, dtype=dtype)
    # Not from a direction of zeros, which torch completes by arbitrary ones where C drops it.
    vectors = track(weight, zero_vectors(weight, start(weight)), 1, torch.inf)
    for _ in range(3):
        moved = track(weight, vectors, 1, torch.inf)
        in_c = track_in_c(weight, vectors, 1, torch.inf)
        tolerance = torch.finfo(dtype).eps * 300
        # Each vector is determined up to its sign.
        for mine, theirs in zip(in_c, moved, strict=True):
            sign = (mine * theirs).sum(-1, keepdim=True).sign()
            torch.testing.assert_close(mine * sign, theirs, rtol=0, atol=tolerance**0.5)
        torch.testing.assert_close(
            sigma_estimate(weight, in_c.u, in_c.v),
            sigma_estimate(weight, moved.u, moved.v),
            rtol=tolerance,
            atol=0,
        )
        vectors = moved


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_block_that_spans_an_invariant_subspace_sees_what_overtakes_outside(follow, dtype):
    generator = torch.Generator().manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(15, 12, generator=generator, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(12, 12, generator=generator, dtype=torch.float64))
    values = torch.tensor([1.0] * 4 + [0.5] * 8, dtype=torch.float64)
    vectors = leading_vectors((left * values @ right.T)[None].to(dtype), 4)
    values[4] = 1.5
    weight = (left * values @ right.T)[None].to(dtype)
    found = follow(weight, vectors)
    assert sigma_estimate(weight, found.u, found.v).item() == pytest.approx(1.5, rel=1e-3)


def test_steps_are_bounded_and_at_least_those_asked_for(follow):
    weight = matrix("clustered")[None]
    vectors = zero_vectors(weight, start(weight))
    one = follow(weight, vectors, max_steps=1)
    two = follow(weight, one, max_steps=1)
    at_least_two = follow(weight, vectors, n_power_iterations=2, rtol=torch.inf)
    torch.testing.assert_close(at_least_two, two)


def test_batched_equals_one_by_one(follow):
    weight = torch.randn(3, 30, 40, dtype=torch.float64)
    vectors = zero_vectors(weight, start(weight))
    together = follow(weight, vectors, 2, rtol=torch.inf)
    for row in range(3):
        mine = Vectors(*(part[row : row + 1] for part in vectors))
        alone = follow(weight[row : row + 1], mine, 2, rtol=torch.inf)
        torch.testing.assert_close(
            sigma_estimate(weight[row], together.u[row], together.v[row]),
            sigma_estimate(weight[row], alone.u[0], alone.v[0]),
        )


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_diverged_weight_raises_nothing_and_troubles_no_other(follow, bad):
    weight = torch.randn(2, 6, 5)
    vectors = leading_vectors(weight, 4)
    weight[0, 2, 3] = bad
    found = follow(weight, vectors)
    torch.testing.assert_close(
        sigma_estimate(weight[1].double(), found.u[1].double(), found.v[1].double()),
        exact_sigma(weight[1]),
        rtol=1e-6,
        atol=0,
    )
    assert leading_vectors(weight, 4).u.isfinite().all()
    assert exact_sigma(weight)[0].isnan()


def test_non_contiguous_weights(follow):
    weight = torch.randn(2, 9, 14, dtype=torch.float64)[:, :, ::2].mT
    assert not weight.is_contiguous()
    found = follow(weight, zero_vectors(weight, start(weight)), rtol=1e-9)
    torch.testing.assert_close(
        sigma_estimate(weight, found.u, found.v), exact_sigma(weight), rtol=1e-7, atol=0
    )


def test_nothing_is_drawn_from_the_global_generator(follow):
    weight = torch.randn(2, 6, 5)
    state = torch.get_rng_state()
    follow(weight, leading_vectors(weight, 4), 3)
    assert torch.equal(torch.get_rng_state(), state)
