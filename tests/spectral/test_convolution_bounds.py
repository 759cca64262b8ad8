"""Bounds on convolutions against the SVD of the operator's matrix, in float64."""

import math

import pytest
import torch
from torch import nn

from snrl.spectral.convolution import convolution_norm
from snrl.spectral.convolution_bounds import convolution_bound
from snrl.spectral.convolution_operator import Convolution

from .convolutions import (
    COMBINATIONS,
    EVEN_SAME,
    cases,
    exact_norm,
    make_layer,
    odd_cases,
    reshaped_norm,
)

pytestmark = pytest.mark.filterwarnings(EVEN_SAME)


@pytest.mark.parametrize("combination", COMBINATIONS, ids=str)
def test_bound_is_never_below_the_svd(combination):
    assert cases(*combination)
    for layer, size, truth in cases(*combination):
        bound = convolution_bound(layer, size)
        assert bound.dtype == torch.float64
        assert bound.shape == ()
        assert truth <= bound.item() <= truth * 2


def test_bound_is_never_below_the_svd_for_odd_options():
    for layer, size, truth in odd_cases():
        if truth is not None:
            assert truth <= convolution_bound(layer, size).item(), (layer, size)


@pytest.mark.parametrize(
    ("size", "kernel", "padding", "dilation"), [(1, 1, 1, 2), (3, 2, 3, 2), (5, 2, 3, 2)]
)
def test_the_first_coset_is_not_always_the_longest(size, kernel, padding, dilation):
    layer = make_layer(
        1, in_channels=1, out_channels=1, kernel_size=kernel, padding=padding, dilation=dilation
    )
    nn.init.ones_(layer.weight)
    truth = exact_norm(layer, (size,))
    assert truth <= convolution_bound(layer, size).item() <= truth * (1 + 1e-9)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
def test_bound_is_the_norm_where_the_convolution_closes(axes, stride, dilation, groups):
    size = (6, 12, 6)[:axes]
    layer = make_layer(
        axes,
        in_channels=2,
        out_channels=4,
        kernel_size=3,
        stride=stride,
        padding=dilation,
        dilation=dilation,
        groups=groups,
        padding_mode="circular",
    )
    norm = convolution_norm(layer, size, rtol=1e-9).item()
    assert convolution_bound(layer, size).item() == pytest.approx(norm, rel=1e-9)


def test_circular_agrees_with_sedghi_gupta_and_long():
    layer = make_layer(
        2, in_channels=3, out_channels=5, kernel_size=3, padding=1, padding_mode="circular"
    )
    symbols = torch.fft.fft2(layer.weight.detach(), (8, 9)).permute(2, 3, 0, 1)
    truth = torch.linalg.matrix_norm(symbols, 2).max().item()
    assert convolution_bound(layer, (8, 9)).item() == pytest.approx(truth, rel=1e-9)
    assert convolution_norm(layer, (8, 9)).item() == pytest.approx(truth, rel=1e-9)


@pytest.mark.parametrize("n", [1, 2, 7, 30])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_bound_is_exact_for_a_tridiagonal_matrix(n, sign):
    # Its norm 1 + 2 cos(π / (n + 1)) is that of the circle of n + 1 with a sign change (or, for
    # the alternating kernel, one with or without it, as n + 1 is odd or even).
    kernel = torch.tensor([[[sign, 1.0, sign]]])
    truth = 1 + 2 * math.cos(math.pi / (n + 1))
    convolution = Convolution(kernel, padding=1)
    assert convolution_norm(convolution, n).item() == pytest.approx(truth, rel=1e-12)
    assert convolution_bound(convolution, n).item() == pytest.approx(truth, rel=1e-9)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
def test_bound_is_close_where_the_input_is_larger_than_the_kernel(stride, dilation):
    for seed in range(3):
        layer = make_layer(
            2,
            seed,
            in_channels=8,
            out_channels=8,
            kernel_size=3,
            stride=stride,
            padding=1,
            dilation=dilation,
        )
        ratio = convolution_bound(layer, 32) / convolution_norm(layer, 32)
        assert 1 <= ratio.item() < 1.02


def test_circular_padding_that_does_not_close_costs_at_most_a_factor():
    layer = make_layer(
        2,
        in_channels=4,
        out_channels=4,
        kernel_size=3,
        stride=2,
        padding=1,
        padding_mode="circular",
    )
    assert convolution_bound(layer, 21) / convolution_norm(layer, 21) < 2


@pytest.mark.parametrize("padding", [1, 2])
def test_taps_that_only_read_padding_do_not_count(padding):
    layer = make_layer(2, in_channels=3, out_channels=4, kernel_size=3, padding=padding)
    centre = torch.linalg.matrix_norm(layer.weight.detach()[:, :, 1, 1], 2).item()
    assert convolution_norm(layer, 1).item() == pytest.approx(exact_norm(layer, (1, 1)), rel=1e-9)
    if padding == 1:
        assert convolution_bound(layer, 1).item() == pytest.approx(centre, rel=1e-6)


def test_bound_is_the_norm_for_a_single_window():
    layer = make_layer(2, in_channels=3, out_channels=4, kernel_size=3)
    truth = reshaped_norm(layer)
    assert truth <= convolution_bound(layer, 3).item() <= truth * (1 + 1e-6)


def test_what_changes_no_value_costs_nothing():
    options = {"in_channels": 3, "out_channels": 4, "kernel_size": 4}
    wide, narrow = (make_layer(1, padding=padding, **options) for padding in (9, 3))
    assert convolution_bound(wide, 7) == convolution_bound(narrow, 7)  # outputs of nothing
    strided = make_layer(1, stride=2, **options)
    assert convolution_bound(strided, 9) == convolution_bound(strided, 8)  # an input not read
