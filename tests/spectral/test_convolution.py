"""Operator norms of convolutions against the SVD of the operator's matrix, in float64."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from snrl.spectral import spectral_normalize
from snrl.spectral.convolution import _orthonormal, convolution_norm, reshaped_factor
from snrl.spectral.convolution_bounds import convolution_bound
from snrl.spectral.convolution_operator import Convolution, convolution_operator

from .convolutions import (
    COMBINATIONS,
    EVEN_SAME,
    cases,
    exact_norm,
    make_layer,
    odd_cases,
    operator_matrix,
    reshaped_norm,
)

pytestmark = pytest.mark.filterwarnings(EVEN_SAME)


@pytest.mark.parametrize("combination", COMBINATIONS, ids=str)
def test_norm_is_that_of_the_svd(combination):
    assert cases(*combination)
    for layer, size, truth in cases(*combination):
        norm = convolution_norm(layer, size)
        assert norm.dtype == torch.float64
        assert norm.shape == ()
        assert truth * (1 - 1e-6) <= norm.item() <= truth * (1 + 1e-9)
        assert truth <= reshaped_factor(layer, size) * reshaped_norm(layer) * (1 + 1e-12)


def test_what_torch_refuses_is_refused_and_nothing_else():
    assert any(truth is None for *_, truth in odd_cases())
    for layer, size, truth in odd_cases():
        if truth is None:
            with pytest.raises(ValueError, match="size of at least"):
                convolution_norm(layer, size)
        else:
            norm = convolution_norm(layer, size).item()
            assert truth * (1 - 1e-6) <= norm <= truth * (1 + 1e-9), (layer, size)
            assert truth <= reshaped_factor(layer, size) * reshaped_norm(layer) * (1 + 1e-12)


@pytest.mark.parametrize("block_size", [1, 2, 5])
def test_clustered_top_values_converge(block_size):
    # The top values of a low-pass filter on a long input differ by 1e-4 of each other: more than
    # a basis holds without restarts.
    layer = make_layer(1, in_channels=1, out_channels=1, kernel_size=5, padding=2)
    layer.weight.data = torch.tensor([[[1.0, 4.0, 6.0, 4.0, 1.0]]], dtype=torch.float64)
    values = torch.linalg.svdvals(operator_matrix(layer, (150,)))
    assert values[1] / values[0] > 0.999
    norm = convolution_norm(layer, 150, block_size=block_size).item()
    assert values[0].item() * (1 - 1e-9) <= norm <= values[0].item() * (1 + 1e-9)


@pytest.mark.parametrize("groups", [1, 6])
def test_repeated_top_values_converge(groups):
    layer = make_layer(2, in_channels=6, out_channels=6, kernel_size=3, padding=1, groups=groups)
    if groups == 1:
        nn.init.dirac_(layer.weight)  # the identity: every value is 1
    else:
        layer.weight.data[:] = layer.weight.data[0].clone()  # every value six times
    truth = exact_norm(layer, (5, 6))
    assert convolution_norm(layer, (5, 6)).item() == pytest.approx(truth, rel=1e-9)
    assert truth <= convolution_bound(layer, (5, 6)).item()


def test_orthonormal_rows_even_where_they_nearly_depend_on_the_basis():
    generator = torch.Generator().manual_seed(0)
    basis = _orthonormal(torch.randn(6, 40, dtype=torch.float64, generator=generator))
    noise = torch.randn(3, 40, dtype=torch.float64, generator=generator)
    new = _orthonormal(basis[:3] + 1e-7 * noise, basis)
    both = torch.cat((basis, new))
    torch.testing.assert_close(both @ both.T, torch.eye(9, dtype=torch.float64), rtol=0, atol=1e-13)
    assert not len(_orthonormal(basis[:3], basis))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_any_scale_in_float32(scale):
    layer = make_layer(2, in_channels=3, out_channels=4, kernel_size=3, padding=1)
    truth = exact_norm(layer, (5, 5)) * scale
    convolution = Convolution((layer.weight.detach() * scale).float(), padding=1)
    assert convolution_norm(convolution, 5).item() == pytest.approx(truth, rel=1e-6)
    rounded = convolution._replace(weight=convolution.weight.double() / scale)
    assert (convolution_bound(convolution, 5) / scale).item() == pytest.approx(
        convolution_bound(rounded, 5).item(), rel=1e-12
    )


def test_float64_beyond_the_squares():
    weight = torch.full((1, 1, 1), 1e200, dtype=torch.float64)
    assert convolution_norm(Convolution(weight), 3).item() == pytest.approx(1e200)
    assert convolution_bound(Convolution(weight), 3).item() == pytest.approx(1e200)


def test_zero_and_not_finite():
    zero = Convolution(torch.zeros(2, 3, 3, 3), padding=1)
    assert convolution_norm(zero, 4) == 0
    assert convolution_bound(zero, 4) == 0
    for bad in (torch.nan, torch.inf):
        weight = torch.ones(2, 3, 3, 3)
        weight[1, 2, 0, 0] = bad
        assert convolution_norm(Convolution(weight), 4).isnan()
        assert convolution_bound(Convolution(weight), 4).isnan()


def test_an_operator_that_reads_no_input_is_zero():
    # The taps at places 0, 3 and 1, 4 of the padded input step over its only entry, at 2.
    convolution = Convolution(torch.ones(1, 1, 2), padding=2, dilation=3)
    assert convolution_norm(convolution, 1) == 0
    assert convolution_bound(convolution, 1) == 0
    assert reshaped_factor(convolution, 1) == 0


@pytest.mark.parametrize("mode", ["zeros", "circular"])
def test_rectangular_everything(mode):
    layer = make_layer(
        2,
        in_channels=4,
        out_channels=6,
        kernel_size=(2, 4),
        stride=(3, 1),
        padding=(0, 3),
        dilation=(2, 1),
        groups=2,
        padding_mode=mode,
    )
    size = (10, 6)
    truth = exact_norm(layer, size)
    by_hand = Convolution(layer.weight, (3, 1), (0, 3), (2, 1), 2, mode)
    for convolution in (layer, by_hand):
        assert convolution_norm(convolution, size).item() == pytest.approx(truth, rel=1e-6)
        assert truth <= convolution_bound(convolution, size).item()


@pytest.mark.parametrize("mode", ["zeros", "circular"])
def test_adjoint(mode):
    layer = make_layer(
        2,
        in_channels=4,
        out_channels=6,
        kernel_size=(3, 2),
        stride=(3, 2),
        padding=(1, 2),
        dilation=(1, 2),
        groups=2,
        padding_mode=mode,
    )
    operator = convolution_operator(layer, (9, 8))
    x = torch.randn(3, *operator.in_shape, dtype=torch.float64)
    torch.testing.assert_close(operator.apply(x) * operator.scale, layer(x).detach())
    y = torch.randn(operator.apply(x).shape, dtype=torch.float64)
    torch.testing.assert_close(
        (operator.apply(x) * y).sum(), (x * operator.adjoint(y)).sum(), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize(("kernel", "stride"), [(8, 4), (4, 2), (3, 1), (3, 2), (5, 2), (2, 3)])
def test_reshaped_factor_is_the_formula_inside_large_inputs(kernel, stride):
    layer = make_layer(2, in_channels=3, out_channels=4, kernel_size=kernel, stride=stride)
    factor = reshaped_factor(layer, 30)
    assert factor == pytest.approx(math.ceil(kernel / stride))
    norm, reshaped = convolution_norm(layer, 30).item(), reshaped_norm(layer)
    # The lower side: some window fits into the input.
    assert reshaped * (1 - 1e-9) <= norm <= factor * reshaped * (1 + 1e-9)


def test_the_two_norms_are_equal_without_overlap():
    layer = make_layer(2, in_channels=3, out_channels=4, kernel_size=3, stride=3)
    assert convolution_norm(layer, 12).item() == pytest.approx(reshaped_norm(layer), rel=1e-9)
    assert convolution_bound(layer, 12).item() == pytest.approx(reshaped_norm(layer), rel=1e-6)


def test_the_factor_is_attained():
    # All ones and constant images: far from the border every window answers alike.
    layer = make_layer(2, in_channels=1, out_channels=1, kernel_size=3, padding=1)
    nn.init.ones_(layer.weight)
    norm = convolution_norm(layer, 60).item()
    assert 2.99 < norm / reshaped_norm(layer) < reshaped_factor(layer, 60) + 1e-9
    assert reshaped_factor(layer, 60) == 3


def test_a_layer_counts_with_the_weight_it_applies():
    ours = nn.Sequential(make_layer(2, in_channels=3, out_channels=4, kernel_size=3))
    theirs = spectral_norm(make_layer(2, in_channels=3, out_channels=4, kernel_size=3)).eval()
    spectral_normalize(ours, layers="all", coef=2.0)
    for layer in (ours[0], theirs):
        truth = exact_norm(layer, (6, 6))
        assert convolution_norm(layer, 6).item() == pytest.approx(truth, rel=1e-9)
        assert truth <= convolution_bound(layer, 6).item()
    # Held to 2 by the reshaped kernel, the operator has more.
    assert 2 < convolution_norm(ours[0], 6) <= 2 * reshaped_factor(ours[0], 6)


def test_nothing_outside_changes():
    layer = nn.Conv2d(3, 4, 3)
    before = layer.weight.detach().clone()
    state = torch.get_rng_state()
    norm, bound = convolution_norm(layer, 6), convolution_bound(layer, 6)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(layer.weight, before)
    assert not norm.requires_grad
    assert not bound.requires_grad
    with torch.inference_mode():
        assert torch.equal(convolution_norm(layer, 6), norm)
        assert torch.equal(convolution_bound(layer, 6), bound)


def test_too_few_steps_warn_and_stay_below():
    layer = make_layer(2, in_channels=3, out_channels=4, kernel_size=3, padding=1)
    with pytest.warns(RuntimeWarning, match="lower bound") as caught:
        norm = convolution_norm(layer, (6, 6), max_steps=2)
    assert caught[0].filename == __file__
    assert 0 < norm < exact_norm(layer, (6, 6))


WEIGHT = torch.ones(4, 2, 3, 3)


@pytest.mark.parametrize("measure", [convolution_norm, convolution_bound, reshaped_factor])
@pytest.mark.parametrize(
    ("convolution", "size", "message"),
    [
        (
            nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"),
            5,
            "'zeros' and 'circular', got 'r",
        ),
        (nn.Conv1d(2, 4, 3, padding=1, padding_mode="replicate"), 5, "'circular', got 'replicate"),
        (nn.ConvTranspose2d(2, 4, 3), 5, "expected a Conv1d, Conv2d or Conv3d layer, got ConvTr"),
        (nn.Linear(2, 4), 5, "expected a Conv1d, Conv2d or Conv3d layer, got Linear"),
        (Convolution(torch.ones(4, 2)), 5, "1 to 3 kernel axes, got torch.float32 of shape"),
        (Convolution(torch.ones(4, 2, 1, 1, 1, 1)), 5, "1 to 3 kernel axes"),
        (Convolution(torch.ones(4, 0, 3)), 5, "of shape"),
        (Convolution(WEIGHT.to(torch.complex64)), 5, "expected a real weight"),
        (Convolution(WEIGHT, groups=3), 5, "groups must divide the 4 output channels, got 3"),
        (Convolution(WEIGHT, stride=0), 5, "stride must be an integer of at least 1, or 2 of"),
        (Convolution(WEIGHT, dilation=(1, 1, 1)), 5, "dilation must be"),
        (Convolution(WEIGHT, padding=-1), 5, "padding must be an integer of at least 0"),
        (Convolution(WEIGHT, padding="full"), 5, "'same' or 'valid', got 'full'"),
        (Convolution(WEIGHT, padding="same", stride=2), 5, "needs stride 1"),
        (Convolution(WEIGHT), (5, 5, 5), r"size must be .*, or 2 of them, got \(5, 5, 5\)"),
        (Convolution(WEIGHT), 5.0, "size must be an integer of at least 1"),
        (Convolution(WEIGHT), (5, 2), "expected a size of at least 3, got 2"),
        (Convolution(WEIGHT, padding=1, dilation=3), 4, "expected a size of at least 5, got 4"),
        (Convolution(WEIGHT, padding=4, padding_mode="circular"), 3, "at least 4, got 3"),
    ],
)
def test_what_is_not_supported_is_refused(measure, convolution, size, message):
    with pytest.raises(ValueError, match=message):
        measure(convolution, size)


@pytest.mark.parametrize("options", [{"block_size": 0}, {"max_steps": 0}])
def test_no_vector_or_no_step_is_refused(options):
    with pytest.raises(ValueError, match="must be at least 1"):
        convolution_norm(Convolution(WEIGHT), 5, **options)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda():
    layer = nn.Conv2d(3, 4, 3, padding=1)
    for measure in (convolution_norm, convolution_bound):
        here = measure(layer.cpu(), 8).item()
        there = measure(layer.cuda(), 8)
        assert there.is_cuda
        assert there.item() == pytest.approx(here, rel=1e-9)
