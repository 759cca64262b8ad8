"""What modes do to stored weights, to gradients and to an optimiser's options."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from snrl.spectral import SpectralNormalizer, spectral_normalize

from .matrices import SPECTRA, matrix
from .nets import Net, adam, images, snapshot, train, unchanged

HELD = ["project", "hammer", "soft_cap"]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def linear(weight):
    layer = nn.Linear(weight.shape[1], weight.shape[0]).to(weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("mode", HELD)
def test_singular_values_of_a_stored_weight(mode, name):
    weight = matrix(name)
    coef = 0.75
    layer = linear(weight)
    SpectralNormalizer(coef, mode=mode).add([layer])
    left, before, right = torch.linalg.svd(weight, full_matrices=False)
    if mode == "project":
        expected = before * min(1, coef / max(before[0].item(), coef))
    elif mode == "hammer":
        expected = before.clamp_max(coef)
    else:
        expected = before * min(1, 1.3 * coef / max(before[0].item(), 1.3 * coef))
        k = max(expected[0].item(), coef)
        # The authors' equation for alpha, and their two polynomials.
        roots = np.roots([-(k**9), 3 * k**7, -3 * k**5, 0, k - coef])
        real = roots[(abs(roots.imag) < 1e-7) & (roots.real > -1e-9)].real
        alpha = real.min() if k > coef else 0.0
        expected = expected - alpha * expected**3
        expected = expected + alpha * expected**3
    torch.testing.assert_close(
        layer.weight.detach(), left @ torch.diag(expected) @ right, rtol=1e-6, atol=1e-9
    )
    assert (expected.diff() <= 1e-12).all()
    assert expected[0] <= coef * (1 + 1e-9)


@pytest.mark.parametrize("mode", HELD)
def test_a_smaller_or_held_weight_is_not_touched(mode):
    """Bit for bit, so that a saved run goes on as it would have."""
    net = spectral_normalize(Net(), "all", 0.7, mode=mode)
    before = snapshot(net)
    net.spectral.reset()
    assert all(torch.equal(value, before[name]) for name, value in net.named_parameters())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    train(net, optimizer, 1, images())
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name], rtol=1e-4, atol=1e-6)
    plain = Net()
    free = spectral_normalize(copy.deepcopy(plain), "all", 100.0, mode=mode)
    assert unchanged(plain.state_dict(), dict(list(free.state_dict().items())[:6]))


@pytest.mark.parametrize("mode", HELD)
def test_weights_that_are_not_finite_raise_nothing(mode):
    net = spectral_normalize(Net(), "all", 0.7, mode=mode)
    good = snapshot(net)
    optimizer = adam(net)
    train(net, optimizer, 1, images())
    with torch.no_grad():
        net.middle.weight[0, 0] = float("nan")
        net.head.weight[0, 0] = float("inf")
    train(net, optimizer, 2, images())
    net.load_state_dict(good)
    assert net.spectral.exact_sigmas().max().item() <= 0.7 * (1 + 1e-3)


@pytest.mark.parametrize("mode", HELD)
def test_a_diverged_layer_does_not_stop_others_of_its_shape_from_being_held(mode):
    layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
    normalizer = SpectralNormalizer(0.7, mode=mode)
    normalizer.add(layers)
    with torch.no_grad():
        layers[0].weight[1, 2] = float("nan")
        layers[1].weight.mul_(1.1)
        layers[2].weight.fill_(float("inf"))
    for parameter in layers.parameters():
        parameter.grad = torch.zeros_like(parameter)
    torch.optim.SGD(layers.parameters(), lr=1.0).step()
    assert layers[0].weight.isnan().any()
    assert normalizer.exact_sigmas()[1].item() == pytest.approx(0.7, rel=1e-3)


@pytest.mark.parametrize("mode", HELD)
def test_loaded_weights_are_held_at_once(mode):
    net = spectral_normalize(Net(), "all", 0.7, mode=mode)
    net.load_state_dict({k: 9 * v for k, v in Net().state_dict().items()})
    assert net.spectral.exact_sigmas() == pytest.approx([0.7] * 3, rel=1e-4)


def test_the_hammer_pulls_more_values_than_it_tracks():
    generator = torch.Generator().manual_seed(0)
    layer = linear(torch.randn(20, 16, generator=generator).double())
    SpectralNormalizer(2.0, mode="hammer", block_size=2).add([layer])
    before = torch.linalg.svdvals(
        torch.randn(20, 16, generator=torch.Generator().manual_seed(0)).double()
    )
    assert (before > 2.0).sum() > 8
    after = torch.linalg.svdvals(layer.weight.detach())
    torch.testing.assert_close(after, before.clamp_max(2.0), rtol=1e-9, atol=1e-9)


def test_a_penalty_reaches_a_weight_without_gradient_and_no_frozen_one():
    net = spectral_normalize(Net(), "all", mode="penalty", mode_options={"strength": 0.5})
    net.conv.weight.requires_grad_(False)
    before = snapshot(net)
    torch.optim.SGD(net.parameters(), lr=1.0).step()
    assert torch.equal(net.conv.weight, before["conv.weight"])
    left, sigmas, right = torch.linalg.svd(before["middle.weight"])
    expected = before["middle.weight"] - 0.5 * sigmas[0] * torch.outer(left[:, 0], right[0])
    torch.testing.assert_close(net.middle.weight.detach(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["div_grad", "layer_lr"])
@pytest.mark.parametrize("leave_smaller", [True, False])
def test_smaller_layers_may_be_left_alone(mode, leave_smaller):
    net = spectral_normalize(
        Net(), "all", 100.0, mode=mode, mode_options={"leave_smaller": leave_smaller}
    )
    before = snapshot(net)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(net.parameters(), lr=1e-3).step()
    change = (before["middle.weight"] - net.middle.weight.detach()) / 1e-3
    factor = 1.0 if leave_smaller else 100.0 / np.linalg.norm(before["middle.weight"].numpy(), 2)
    torch.testing.assert_close(change, torch.full_like(change, factor), rtol=1e-3, atol=1e-3)
    bias = (before["middle.bias"] - net.middle.bias.detach()) / 1e-3
    torch.testing.assert_close(bias, torch.ones_like(bias), rtol=1e-3, atol=1e-3)


def test_eps_of_a_shared_part_is_the_geometric_mean():
    trunk, *heads = (nn.Linear(4, 4) for _ in range(3))
    networks = [nn.Sequential(trunk, head) for head in heads]
    other = nn.Linear(4, 4)
    SpectralNormalizer(mode="mul_eps").add([trunk, *heads], networks)
    seen = {}

    class Looking(torch.optim.Adam):
        def step(self):
            for group in self.param_groups:
                seen.update({id(x): (group["eps"], group["lr"]) for x in group["params"]})

    both = nn.ModuleList([trunk, *heads, other])
    Looking(both.parameters(), lr=0.1, eps=0.5).step()
    norms = [np.linalg.norm(x.weight.detach().numpy(), 2) for x in (trunk, *heads)]
    for head, norm in zip(heads, norms[1:], strict=True):
        for parameter in head.parameters():
            assert seen[id(parameter)] == pytest.approx((0.5 * norms[0] * norm, 0.1), rel=1e-4)
    for parameter in trunk.parameters():
        expected = 0.5 * norms[0] * np.sqrt(norms[1] * norms[2])
        assert seen[id(parameter)] == pytest.approx((expected, 0.1), rel=1e-4)
    for parameter in other.parameters():
        assert seen[id(parameter)] == (0.5, 0.1)


def test_a_step_that_fails_leaves_the_groups_to_the_next():
    net = spectral_normalize(Net(), "all", mode="layer_lr")
    optimizer = adam(net)
    groups = optimizer.param_groups

    def closure():
        raise RuntimeError("the loss failed")

    with pytest.raises(RuntimeError, match="the loss failed"):
        optimizer.step(closure)
    assert optimizer.param_groups is not groups
    train(net, optimizer, 1, images())
    assert optimizer.param_groups is groups
