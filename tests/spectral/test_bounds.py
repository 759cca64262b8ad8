"""Certified bounds against the SVD, exact rational arithmetic, and sampled gradients."""

import math
from fractions import Fraction

import pytest
import torch
from torch import nn

from snrl.spectral.bounds import activation_lipschitz, gram_bound, product_bound
from snrl.spectral.iteration import exact_sigma

from .matrices import SPECTRA, exceeds_norm, matrix

HADAMARD = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
TOLERANCES = [10.0**-k for k in range(1, 11)]


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def least_tolerance(weight):
    """The smallest rtol for matrices of this shape, as the error names it."""
    with pytest.raises(ValueError, match="no smaller than") as error:
        gram_bound(weight, 0.0)
    return float(str(error.value).split("smaller than ")[1].split(",")[0])


def assert_certified(bound, weight, rtol):
    """By SVD, which is itself off by some 1e-15."""
    exact = exact_sigma(weight)
    assert bound.dtype == torch.float64
    assert bound.shape == weight.shape[:-2]
    assert (bound >= exact * (1 - 1e-14)).all()
    assert (bound <= exact * (1 + rtol) * (1 + 1e-14)).all()


def assert_certified_exactly(bound, weight, rtol):
    assert exceeds_norm(bound, weight)
    assert not exceeds_norm(Fraction(bound) / (1 + Fraction(rtol)), weight)


@pytest.mark.parametrize("rtol", TOLERANCES)
@pytest.mark.parametrize("name", SPECTRA)
def test_the_bound_is_above_the_exact_value_and_within_the_tolerance(name, rtol):
    weight = matrix(name)
    assert_certified(gram_bound(weight, rtol), weight, rtol)
    assert_certified(gram_bound(weight.mT, rtol), weight.mT, rtol)


@pytest.mark.parametrize("scale", [1e-44, 1e-38, 1e-30, 1e30, 1e38])
@pytest.mark.parametrize("rtol", [1e-1, 1e-3, 1e-10])
@pytest.mark.parametrize("name", SPECTRA)
def test_any_scale_in_float32(name, rtol, scale):
    weight = (matrix(name) / max(*SPECTRA[name][0], 1.0) * scale).float()
    assert weight.isfinite().all()
    assert_certified(gram_bound(weight, rtol), weight, rtol)


@pytest.mark.parametrize("scale", [1e-307, 1e-200, 1e200, 1e307])
def test_any_scale_in_float64(scale):
    weight = normal(6, 5)
    one = gram_bound(weight)
    torch.testing.assert_close(gram_bound(weight * scale) / scale, one, rtol=1e-14, atol=0)


def test_the_ends_of_float64():
    least = 5e-324
    assert gram_bound(torch.full((1, 1), least, dtype=torch.float64)).item() in (least, 2 * least)
    # ‖·‖₂ = 4·least for a 4×4 matrix of that number; the bound may be one number above it.
    bound = gram_bound(torch.full((4, 4), least, dtype=torch.float64), 1e-6).item()
    assert 4 * least <= bound <= 5 * least
    assert gram_bound(torch.full((2, 2), 1.7e308, dtype=torch.float64)).item() == math.inf


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 2), (3, 2), (3, 3), (4, 9), (5, 5)])
def test_certified_in_exact_arithmetic(shape):
    for seed in range(6):
        weight = normal(*shape, seed=seed) * 10.0 ** (60 * (seed - 3))
        if seed % 2:
            # One direction far above the others: what the bound exceeds is rounding alone.
            weight = 1e-3 * weight + weight[:, :1] * weight[:1]
        for rtol in (0.5, 1e-3, 1e-9, least_tolerance(weight)):
            assert_certified_exactly(gram_bound(weight, rtol).item(), weight, rtol)


@pytest.mark.parametrize(
    ("weight", "exact"),
    [
        (torch.eye(8), 1),
        (torch.ones(8, 8), 8),
        (torch.diag(torch.arange(9.0)), 8),
        (torch.kron(HADAMARD, HADAMARD), 2),
    ],
)
@pytest.mark.parametrize("rtol", [10.0, 1e-1, 1e-12])
def test_norms_known_exactly(weight, exact, rtol):
    bound = Fraction(gram_bound(weight, rtol).item())
    assert exact < bound <= exact * (1 + Fraction(rtol))


@pytest.mark.parametrize("j", [1, 2, 10, 20, 30])
def test_a_flat_spectrum_at_a_tolerance_that_leaves_nothing_for_rounding(j):
    """After j - 1 iterations the bound would be 8^(1/2ʲ), the tolerance, and rounding on top."""
    rtol = math.expm1(math.log(8) / 2**j) * (1 + 1e-15)
    bound = Fraction(gram_bound(torch.eye(8), rtol).item())
    assert 1 < bound <= 1 + Fraction(rtol)
    # One more iteration, and no second.
    assert bound**2 >= 1 + Fraction(rtol)


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("rtol", [1e-1, 3e-4, 1e-9])
def test_a_sum_that_loses_its_small_terms(n, rtol):
    """Each 2⁻⁵⁴ added to 64 is lost, one by one, 2¹⁶ times: the products come out too small."""
    column = torch.cat((torch.ones(64), torch.full((2**16,), 2.0**-27))).double()
    weight = column[:, None].expand(-1, n).contiguous()
    square = n * (64 + 2**16 * Fraction(1, 2**54))
    bound = Fraction(gram_bound(weight, rtol).item())
    # Of rank one, so that nothing but rounding is between the two, whatever the tolerance: 2¹⁶
    # roundings of 2⁻⁵³ are 7e-12.
    assert square <= bound**2 <= square * (1 + Fraction(2e-11)) ** 2


@pytest.mark.parametrize("shape", [(2, 3, 8, 6), (2, 3, 6, 8), (4, 5, 5), (3, 1, 9), (0, 4, 3)])
def test_batched_equals_one_by_one(shape):
    weight = normal(*shape)
    together = gram_bound(weight, 1e-6)
    assert together.shape == shape[:-2]
    assert_certified(together, weight, 1e-6)
    flat = weight.flatten(0, -3)
    for one, bound in zip(flat, together.flatten(), strict=True):
        torch.testing.assert_close(gram_bound(one, 1e-6), bound, rtol=1e-13, atol=0)


def test_a_batch_may_mix_scales_zeros_and_what_is_not_finite():
    weight = normal(7, 4, 6)
    weight[1] *= 1e-200
    weight[2] *= 1e200
    weight[3] = 0
    weight[4, 1, 2] = torch.nan
    weight[5, 3, 0] = torch.inf
    weight[6, 0, 0] = -torch.inf
    weight[6, 1, 1] = torch.nan
    bound = gram_bound(weight)
    assert_certified(bound[:4], weight[:4], 1e-3)
    assert bound[3].item() == 0
    assert bound[4:].isnan().all()


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (2, 0, 5), (0, 0)])
def test_no_entries(shape):
    bound = gram_bound(torch.zeros(shape))
    assert bound.dtype == torch.float64
    assert torch.equal(bound, torch.zeros(shape[:-2], dtype=torch.float64))


def test_non_contiguous_weights():
    weight = normal(2, 9, 14)[:, :, ::2].mT
    assert not weight.is_contiguous()
    assert_certified(gram_bound(weight, 1e-6), weight, 1e-6)
    torch.testing.assert_close(gram_bound(weight), gram_bound(weight.contiguous()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights(dtype):
    weight = normal(6, 5).to(dtype)
    assert_certified(gram_bound(weight, 1e-8), weight, 1e-8)


def test_random_matrices_of_random_shapes():
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        m, n, power = torch.randint(1, 40, (3,), generator=generator).tolist()
        rtol = 10 ** -(torch.rand((), generator=generator).item() * 10)
        weight = torch.randn(m, n, dtype=torch.float64, generator=generator)
        # Entries spread over many orders of magnitude, the more the larger the power.
        weight = weight.sign() * weight.abs() ** (power / 4)
        assert_certified(gram_bound(weight, rtol), weight, rtol)


def test_256_square_at_the_default_and_at_the_least_tolerance():
    weight = normal(2, 256, 256).float()
    for rtol in (1e-3, 1e-10):
        assert_certified(gram_bound(weight, rtol), weight, rtol)


@pytest.mark.parametrize("rtol", [0.0, 1e-15, -1.0, math.nan, math.inf])
def test_a_tolerance_that_cannot_be_kept_is_refused(rtol):
    with pytest.raises(ValueError, match=r"no smaller than .* 4×3 matrices, got"):
        gram_bound(torch.ones(4, 3), rtol)


def test_the_smallest_tolerance_is_named():
    weight = normal(30, 20)
    least = least_tolerance(weight)
    assert 1e-13 < least < 1e-11
    assert_certified(gram_bound(weight, least), weight, least)
    with pytest.raises(ValueError, match="no smaller than"):
        gram_bound(weight, math.nextafter(least, 0))


def test_nothing_is_changed_and_no_gradient_flows():
    weight = normal(3, 6, 5).requires_grad_()
    before = weight.detach().clone()
    state = torch.get_rng_state()
    assert not gram_bound(weight).requires_grad
    assert torch.equal(weight.detach(), before)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_product_is_rounded_up():
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        factors = torch.rand(4, dtype=torch.float64, generator=generator) + 0.5
        bound = product_bound(factors[:2].unbind(), factors[2:].tolist()).item()
        exact = math.prod(map(Fraction, factors.tolist()))
        assert exact <= Fraction(bound) <= exact * (1 + Fraction(1, 10**14))


def test_products_at_the_ends_of_the_range():
    def bound(*factors):
        return product_bound([torch.tensor(f, dtype=torch.float64) for f in factors], []).item()

    assert bound(1e-200, 1e-200) > 0
    assert bound(1e-200, 1e-200, 1e300) >= 1e-100
    assert bound(1e200, 1e200) == math.inf
    assert bound(3.0, 0.0, 1e300) == 0
    assert math.isnan(bound(3.0, math.nan, 0.0))


def test_products_broadcast_and_are_float64():
    bounds = [torch.tensor([2.0, 3.0]), torch.tensor(0.1, dtype=torch.float64), torch.ones(4, 1)]
    product = product_bound(bounds, [0.25, 4.0])
    expected = torch.tensor([0.2, 0.3], dtype=torch.float64).expand(4, 2)
    torch.testing.assert_close(product, expected)


ACTIVATIONS = [
    nn.ReLU(),
    nn.ReLU6(),
    nn.Tanh(),
    nn.Sigmoid(),
    nn.SiLU(),
    nn.GELU(),
    nn.GELU(approximate="tanh"),
    nn.ELU(),
    nn.ELU(alpha=0.3),
    nn.ELU(alpha=1.7),
    nn.ELU(alpha=-1.7),
    nn.CELU(),
    nn.CELU(alpha=0.3),
    nn.SELU(),
    nn.LeakyReLU(),
    nn.LeakyReLU(negative_slope=1.5),
    nn.LeakyReLU(negative_slope=-2.0),
    nn.PReLU(),
    nn.PReLU(init=-3.0),
    nn.Softplus(),
    nn.Softplus(beta=3.0),
    nn.Softsign(),
    nn.Softshrink(),
    nn.Hardtanh(),
    nn.Hardtanh(-3.0, 0.5),
    nn.Hardswish(),
    nn.Hardsigmoid(),
    nn.LogSigmoid(),
    nn.Mish(),
    nn.Tanhshrink(),
    nn.Identity(),
    nn.Dropout(0.5).eval(),
    nn.Dropout(0.0),
]


@pytest.mark.parametrize("module", ACTIVATIONS, ids=str)
def test_the_slope_of_an_activation_is_never_exceeded_and_is_reached(module):
    close = torch.logspace(-12, 0, 200, dtype=torch.float64)
    x = torch.cat((torch.linspace(-30, 30, 600_001, dtype=torch.float64), close, -close))
    x.requires_grad_()
    (slope,) = torch.autograd.grad(module.double()(x).sum(), x)
    bound = activation_lipschitz(module)
    assert slope.abs().max().item() <= bound
    assert slope.abs().max().item() >= bound * (1 - 1e-3)


def test_a_prelu_of_many_slopes_has_the_largest():
    module = nn.PReLU(4)
    module.weight.data = torch.tensor([0.1, -2.5, 1.0, 2.0])
    assert activation_lipschitz(module) == 2.5
    module.weight.data[0] = torch.nan
    assert math.isnan(activation_lipschitz(module))


def test_flatten_keeps_distances():
    assert activation_lipschitz(nn.Flatten()) == 1.0


@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm_is_as_steep_as_said_at_constant_inputs_and_nowhere_steeper(affine):
    module = nn.LayerNorm(5, elementwise_affine=affine).double()
    if affine:
        module.weight.data = torch.tensor([0.5, -3.0, 1.0, 0.2, 2.0], dtype=torch.float64)
    bound = activation_lipschitz(module)
    assert bound == pytest.approx((3.0 if affine else 1.0) / math.sqrt(module.eps))
    sharpest = 0.0
    for power in range(-8, 3):
        x = 1.0 + normal(5, seed=power + 8) * 10.0**power
        jacobian = torch.autograd.functional.jacobian(module, x)
        sharpest = max(sharpest, exact_sigma(jacobian).item())
    assert sharpest <= bound
    # Of all directions only that of the constants is lost, which costs (1, -3, …) a little.
    assert sharpest >= 0.8 * bound


@pytest.mark.parametrize(
    "module",
    [
        nn.Linear(2, 2),
        nn.CELU(alpha=-1.0),
        nn.Softplus(threshold=1.0),
        nn.Hardshrink(),
        nn.Threshold(0.1, 20.0),
        nn.RReLU(),
        nn.GLU(),
        nn.LogSoftmax(dim=-1),
        nn.Dropout(0.5),
        nn.BatchNorm1d(2),
        nn.LayerNorm(3, eps=0.0),
        type("MyReLU", (nn.ReLU,), {})(),
    ],
    ids=str,
)
def test_no_bound_is_known(module):
    assert activation_lipschitz(module) is None


SPLITS = {"all": slice(None), "state": slice(0, 5), "action": slice(5, 7)}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_is_as_certified_and_waits_for_nothing():
    weight = normal(3, 40, 30).float()
    weight[1] = 0
    on_device = weight.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        bound = gram_bound(on_device, 1e-8)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert bound.is_cuda
    assert_certified(bound.cpu(), weight, 1e-8)
