"""The shared module: torch's numbers, a pure forward, vectors that follow the weights."""

import copy
import gc

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import spectral_norm

from snrl.spectral import SpectralNormalizer, exact_sigma
from snrl.spectral.layers import SpectralLinear
from snrl.spectral.normalizer import _live

LAYERS = {
    "linear": (lambda: nn.Linear(6, 5), (3, 6)),
    "linear_no_bias": (lambda: nn.Linear(6, 5, bias=False), (3, 6)),
    "conv1d": (lambda: nn.Conv1d(4, 5, 3, padding=1), (2, 4, 7)),
    "conv2d": (
        lambda: nn.Conv2d(4, 6, 3, stride=2, groups=2, padding_mode="circular"),
        (2, 4, 8, 8),
    ),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2, dilation=2), (2, 2, 5, 5, 5)),
}


def normalized(layer, **kwargs):
    normalizer = SpectralNormalizer(**kwargs)
    normalizer.add([layer])
    return normalizer


def snapshot(module):
    return copy.deepcopy(module.state_dict())


def unchanged(before, after):
    return before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)


@pytest.mark.parametrize("name", LAYERS)
def test_same_weight_and_gradients_as_torch_for_the_same_vectors(name):
    make, shape = LAYERS[name]
    ours = make().double()
    theirs = copy.deepcopy(ours)
    normalizer = normalized(ours)
    spectral_norm(theirs)
    parametrization = theirs.parametrizations.weight[0]
    store = normalizer.get_submodule(ours.slot.shape)
    # Vectors that are far from converged: the equality is not one of singular vectors.
    store.u[0] = parametrization._u = nn.functional.normalize(torch.randn_like(store.u[0]), dim=0)
    parametrization._v = nn.functional.normalize(torch.randn_like(store.block[0, 0]), dim=0)
    store.block[0, 0] = parametrization._v
    theirs.eval()
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    out_ours, out_theirs = ours(x), theirs(x)
    torch.testing.assert_close(ours.effective_weight(), theirs.weight, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(out_ours, out_theirs, rtol=1e-12, atol=1e-12)
    cotangent = torch.randn_like(out_ours)
    ours_in, *ours_grads = torch.autograd.grad(out_ours, [x, *ours.parameters()], cotangent)
    theirs_in, *theirs_grads = torch.autograd.grad(out_theirs, [x, *theirs.parameters()], cotangent)
    torch.testing.assert_close(ours_in, theirs_in, rtol=1e-12, atol=1e-12)
    names = [n for n, _ in ours.named_parameters()]
    torch_names = [n for n, _ in theirs.named_parameters()]
    for key, gradient in zip(names, ours_grads, strict=True):
        place = torch_names.index("parametrizations.weight.original" if key == "weight" else key)
        torch.testing.assert_close(gradient, theirs_grads[place], rtol=1e-12, atol=1e-12)


def test_batched_layers_equal_single_layers():
    layers = [nn.Linear(6, 5).double() for _ in range(3)]
    normalizer = SpectralNormalizer(coef=2.5)
    normalizer.add(layers)
    stacked = normalizer.effective_weights(layers)
    for layer, weight in zip(layers, stacked, strict=True):
        torch.testing.assert_close(layer.effective_weight(), weight)
    some = normalizer.effective_weights([layers[2], layers[0]])
    torch.testing.assert_close(some, stacked[[2, 0]])


def test_gradcheck_to_second_order():
    layer = nn.Linear(4, 3).double()
    normalized(layer)
    u, v = layer.slot.normalizer._pair(layer.slot.shape, 0)

    def effective(weight):
        return layer.slot.normalizer._effective(weight, u, v)

    weight = layer.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(effective, weight)
    assert torch.autograd.gradgradcheck(effective, weight)


@pytest.mark.parametrize("coef", [0.5, 1.0, 4])
@pytest.mark.parametrize("name", LAYERS)
def test_the_effective_weight_has_the_norm_asked_for_along_training(name, coef):
    make, shape = LAYERS[name]
    layer = make()
    normalized(layer, coef=coef)
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-2)
    for _ in range(50):
        assert exact_sigma(layer.effective_weight().flatten(1)).item() == pytest.approx(
            coef, rel=1e-3
        )
        optimizer.zero_grad()
        layer(torch.randn(shape)).square().mean().backward()
        optimizer.step()


def test_forward_and_mode_change_nothing():
    layer = nn.Linear(6, 5)
    network = nn.Sequential(layer, normalized(layer))
    before = snapshot(network)
    for mode in (True, False, True):
        network.train(mode)
        for _ in range(3):
            layer(torch.randn(2, 6))
    assert unchanged(before, network.state_dict())


def test_only_an_optimiser_that_holds_the_weight_moves_the_vectors():
    layer, other = nn.Linear(6, 5), nn.Linear(6, 5)
    normalizer = normalized(layer)
    before = snapshot(normalizer)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    other(torch.randn(2, 6)).sum().backward()
    optimizer.step()
    assert unchanged(before, normalizer.state_dict())
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(torch.randn(2, 6)).sum().backward()
    optimizer.step()
    assert not unchanged(before, normalizer.state_dict())


def test_a_copy_follows_its_own_optimiser():
    layer = nn.Linear(6, 5)
    network = copy.deepcopy(nn.Sequential(layer, normalized(layer)))
    copied = network[0]
    assert copied.slot.normalizer is network[1]
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    network[0](torch.randn(64, 6)).square().sum().backward()
    optimizer.step()
    assert exact_sigma(copied.effective_weight()).item() == pytest.approx(1.0, rel=1e-4)
    assert not torch.equal(copied.weight, layer.weight)


def test_a_graph_keeps_the_vectors_it_was_made_with():
    layer = nn.Linear(6, 5).double()
    normalized(layer)
    reference = copy.deepcopy(layer)
    x = torch.randn(3, 6, dtype=torch.float64)
    (expected,) = torch.autograd.grad(reference(x).sum(), reference.weight)
    out = layer(x).sum()
    layer.slot.normalizer.refresh()
    (gradient,) = torch.autograd.grad(out, layer.weight)
    torch.testing.assert_close(gradient, expected)


def test_a_state_dict_without_vectors_loads_and_is_normalised_at_once():
    layer = nn.Linear(6, 5)
    network = nn.Sequential(layer, normalized(layer))
    plain = nn.Linear(6, 5)
    network.load_state_dict({"0.weight": plain.weight * 7, "0.bias": plain.bias})
    torch.testing.assert_close(layer.weight, plain.weight * 7)
    expected = plain.weight / exact_sigma(plain.weight)
    torch.testing.assert_close(layer.effective_weight(), expected.float())


def test_saved_vectors_come_back_bit_for_bit():
    def make():
        layer = nn.Linear(30, 20)
        return nn.Sequential(layer, normalized(layer))

    first, second = make(), make()
    optimizer = torch.optim.SGD(first.parameters(), lr=0.1)
    for _ in range(3):
        first[0](torch.randn(4, 30)).square().sum().backward()
        optimizer.step()
    second.load_state_dict(first.state_dict())
    assert unchanged(first.state_dict(), second.state_dict())
    # In place of another block size they are computed anew.
    layer = nn.Linear(30, 20)
    other = nn.Sequential(layer, normalized(layer, block_size=2))
    other.load_state_dict(first.state_dict())
    torch.testing.assert_close(other[0].effective_weight(), first[0].effective_weight())


def test_weights_changed_by_hand_ask_for_a_reset():
    layer = nn.Linear(6, 5)
    normalizer = normalized(layer)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(5, 6))
    normalizer.reset()
    assert normalizer.exact_sigmas().item() == pytest.approx(1.0, abs=1e-6)


def test_moves_with_its_module():
    layer = nn.Linear(6, 5)
    network = nn.Sequential(layer, normalized(layer)).double()
    assert {x.dtype for x in network.state_dict().values()} == {torch.float64}
    assert network[0](torch.randn(1, 6).double()).dtype == torch.float64


def test_a_zero_matrix_stays_zero_with_a_finite_gradient():
    layer = nn.Linear(6, 5)
    nn.init.zeros_(layer.weight)
    normalized(layer)
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-3)
    x = torch.randn(8, 6)
    layer(x).sum().backward()
    assert torch.equal(layer.effective_weight(), torch.zeros(5, 6))
    assert layer.weight.grad.isfinite().all()
    optimizer.step()
    assert exact_sigma(layer.effective_weight()).item() == pytest.approx(1.0, rel=1e-4)


def test_layers_of_different_shapes_and_in_any_order():
    layers = [nn.Linear(4, 4), nn.Linear(8, 4), nn.Linear(4, 4), nn.Conv2d(1, 4, 2)]
    normalizer = SpectralNormalizer(coef=3.0)
    normalizer.add(layers)
    with torch.no_grad():
        for layer in layers:
            layer.weight.mul_(torch.rand_like(layer.weight))
    normalizer.reset([layers[2]])
    normalizer.reset([layers[1], layers[3], layers[0]])
    assert normalizer.exact_sigmas() == pytest.approx([3.0] * 4, rel=1e-5)


@pytest.mark.parametrize("coef", [0.0, -1.0, float("nan"), float("inf"), "1"])
def test_refuses_a_coefficient_that_is_not_positive(coef):
    with pytest.raises(ValueError, match="positive number, got"):
        SpectralNormalizer(coef=coef)


@pytest.mark.parametrize("option", ["n_power_iterations", "block_size"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_refuses_counts_that_are_not_positive_integers(option, value):
    with pytest.raises(ValueError, match=f"{option} must be a positive integer, got"):
        SpectralNormalizer(**{option: value})


def test_refuses_other_layers_and_layers_it_has():
    normalizer = SpectralNormalizer()
    with pytest.raises(TypeError, match="only layers of type Linear, Conv1d, Conv2d, Conv3d"):
        normalizer.add([nn.ConvTranspose2d(1, 1, 2)])
    layer = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="given twice"):
        normalizer.add([layer, layer])
    assert type(layer) is nn.Linear
    normalizer.add([layer])
    assert type(layer) is SpectralLinear
    with pytest.raises(ValueError, match="normalised already"):
        normalizer.add([layer])


def test_refuses_a_pruned_layer_and_takes_numpy_numbers():
    layer = prune.l1_unstructured(nn.Linear(4, 3), "weight", 0.5)
    with pytest.raises(ValueError, match="not pruned"):
        SpectralNormalizer().add([layer])
    normalizer = SpectralNormalizer(np.float32(2.0), np.int64(2), np.int64(1))
    normalizer.add([nn.Linear(4, 3)])
    assert normalizer.exact_sigmas().item() == pytest.approx(2.0, rel=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1.1])
def test_saved_vectors_of_other_weights_are_not_trusted(scale):
    """Vectors of the right shapes, but another layer's, or of weights that moved since."""
    first = nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9))
    spectral = normalized(first[0])
    saved = spectral.state_dict()
    other = normalized(first[1])
    other.load_state_dict(saved)
    assert other.exact_sigmas().item() == pytest.approx(1.0, abs=1e-6)
    for key, value in saved.items():
        saved[key] = torch.randn_like(value) * scale
    spectral.load_state_dict(saved)
    assert spectral.exact_sigmas().item() == pytest.approx(1.0, abs=1e-6)


def test_a_dropped_normalizer_is_forgotten():
    gc.collect()
    before = len(_live)
    layer = nn.Linear(2, 2)
    normalized(layer)
    assert len(_live) == before + 1
    del layer
    gc.collect()
    assert len(_live) == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_cuda_keeps_the_norm():
    layer = nn.Linear(64, 48)
    network = nn.Sequential(layer, normalized(layer)).cuda()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(20):
        layer(torch.randn(32, 64, device="cuda")).square().mean().backward()
        optimizer.step()
        assert exact_sigma(layer.effective_weight()).item() == pytest.approx(1.0, rel=1e-3)
