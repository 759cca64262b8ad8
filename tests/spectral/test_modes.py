"""Asking for a mode, and what those that act in the forward compute."""

import copy
from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from snrl.spectral import SpectralNormalizer, spectral_normalize
from snrl.spectral.modes import MODES, resolve_mode

from .nets import Net, adam, images, train

IN_FORWARD = [name for name, mode in MODES.items() if mode.scaled == "weight"]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_every_mode_says_what_it_is():
    for name, mode in MODES.items():
        assert mode.name == name
        for text in (mode.summary, mode.source, mode.__doc__):
            assert len(text) > 10
        assert mode() == resolve_mode(name) == resolve_mode(mode())
    assert resolve_mode("penalty", {"strength": 2}).strength == 2
    assert repr(resolve_mode("normalize", {"detach": True})) == "Normalize(detach=True)"


def test_refuses_what_there_is_not():
    with pytest.raises(ValueError, match=r"unknown mode 'caps'; there are normalize, cap, bidirec"):
        spectral_normalize(Net(), mode="caps")
    with pytest.raises(ValueError, match="mode 'cap' has no option 'detach'; it has none"):
        resolve_mode("cap", {"detach": True})
    with pytest.raises(ValueError, match=r"no option 'k'; it has strength, exponent"):
        resolve_mode("penalty_to_coef", {"k": 2})
    with pytest.raises(ValueError, match="has its options already"):
        resolve_mode(MODES["normalize"](), {"detach": True})
    with pytest.raises(ValueError, match="mode 'penalty' has no use for a coefficient, got 2"):
        SpectralNormalizer(2.0, mode="penalty")
    with pytest.raises(ValueError, match="mode 'mul_eps' needs the networks its layers are part"):
        SpectralNormalizer(mode="mul_eps").add([nn.Linear(2, 2)])


BAD_VALUES = {
    "detach": (1, "true", None),
    "leave_smaller": (0, "false"),
    "strength": (0, -1, True, "1", float("nan"), float("inf")),
    "exponent": (0.5, True, "2"),
}


@pytest.mark.parametrize("name", MODES)
def test_refuses_options_out_of_range(name):
    for option in fields(MODES[name]):
        for value in BAD_VALUES[option.name]:
            with pytest.raises(ValueError, match=f"{option.name} must be .*, got {value!r}"):
                resolve_mode(name, {option.name: value})


@pytest.mark.parametrize("name", IN_FORWARD)
def test_the_factor_as_numbers_is_that_of_the_tensors_and_its_derivative(name):
    modes = [MODES[name]()]
    if "detach" in {option.name for option in fields(MODES[name])}:
        modes.append(MODES[name](detach=True))
    for mode in modes:
        for coef in (0.5, 1.0, 3.0):
            for value in (0.0, 1e-3, 0.499, 0.501, 1.0, 2.0, 1e6):
                sigma = torch.tensor(value, dtype=torch.float64, requires_grad=True)
                scale = mode.scale(sigma, coef)
                (slope,) = torch.autograd.grad(scale + 0 * sigma, sigma)
                assert mode.factors(value, coef) == pytest.approx((scale.item(), slope.item()))
                assert np.isfinite(mode.factors(value, coef)).all()
                assert torch.equal(mode.scale(sigma, torch.tensor(coef)).detach(), scale.detach())


@pytest.mark.parametrize("coef", [0.3, 5.0])
@pytest.mark.parametrize("mode", [*IN_FORWARD, "div_out"])
def test_gradcheck(mode, coef):
    net = spectral_normalize(Net().double(), "all", coef, mode=mode)
    if mode == "gain":
        nn.init.constant_(net.middle.gain, 0.7)
    names = [name for name, _ in net.named_parameters()]
    x = images(torch.float64)[:2]

    def values(*parameters):
        return functional_call(net, dict(zip(names, parameters, strict=True)), x)

    parameters = [p.detach().clone().requires_grad_() for p in net.parameters()]
    assert torch.autograd.gradcheck(values, parameters)


@pytest.mark.parametrize("mode", ["normalize", "bidirectional", "gain", "div_out"])
def test_a_detached_sigma_is_a_constant_to_the_gradient(mode):
    net = spectral_normalize(Net().double(), "all", 0.8, mode=mode, mode_options={"detach": True})
    plain = Net().double()
    plain.load_state_dict(net.state_dict(), strict=False)
    layers = {"conv": net.conv, "middle": net.middle, "head": net.head}
    scales = {name: net.spectral.layer_scale(layer).item() for name, layer in layers.items()}
    x = images(torch.float64)
    x1 = nn.functional.conv2d(x, plain.conv.weight, None)
    if mode == "div_out":
        output = plain(x) * np.prod(list(scales.values()))
    else:
        h = (x1 * scales["conv"] + plain.conv.bias[:, None, None]).relu().flatten(1)
        h = (h @ plain.middle.weight.T * scales["middle"] + plain.middle.bias).relu()
        output = h @ plain.head.weight.T * scales["head"] + plain.head.bias
    torch.testing.assert_close(net(x), output)
    expected = dict(
        zip(
            layers,
            torch.autograd.grad(output.sum(), [getattr(plain, n).weight for n in layers]),
            strict=True,
        )
    )
    got = torch.autograd.grad(net(x).sum(), [layer.weight for layer in layers.values()])
    for name, gradient in zip(layers, got, strict=True):
        torch.testing.assert_close(gradient, expected[name])


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_of_layers_is_what_the_layers_are_one_by_one(mode):
    layers = nn.ModuleList(nn.Linear(6, 5) for _ in range(3))
    normalizer = SpectralNormalizer(1.0, mode=mode)
    normalizer.add(layers, [nn.ModuleList([layer]) for layer in layers])
    if mode == "gain":
        for i, layer in enumerate(layers):
            nn.init.constant_(layer.gain, 0.5 + i)
    single = torch.stack([layer.effective_weight() for layer in layers])
    batch = normalizer.effective_weights(list(layers))
    torch.testing.assert_close(batch, single)
    cotangent = torch.randn_like(single)
    for one, other in zip(
        torch.autograd.grad(batch, list(layers.parameters()), cotangent, allow_unused=True),
        torch.autograd.grad(single, list(layers.parameters()), cotangent, allow_unused=True),
        strict=True,
    ):
        if one is not None:
            torch.testing.assert_close(one, other)


def test_cap_leaves_a_smaller_layer_alone():
    net = Net()
    plain = copy.deepcopy(net)
    spectral_normalize(net, "all", 100.0, mode="cap")
    for ours, theirs in zip((net.conv, net.head), (plain.conv, plain.head), strict=True):
        assert torch.equal(ours.effective_weight(), theirs.weight)


def test_bidirectional_of_a_matrix_is_normalize():
    nets = [
        spectral_normalize(Net(), "all", 0.8, mode=mode) for mode in ("normalize", "bidirectional")
    ]
    nets[1].load_state_dict({k: v for k, v in nets[0].state_dict().items() if "spectral" not in k})
    assert torch.equal(nets[0].head.effective_weight(), nets[1].head.effective_weight())
    kernel = nets[1].conv.weight.detach().double()
    one, other = (
        np.linalg.norm(unfolded.flatten(1).numpy(), 2)
        for unfolded in (kernel, kernel.transpose(0, 1))
    )
    expected = 0.8 * kernel / ((one + other) / 2)
    torch.testing.assert_close(
        nets[1].conv.effective_weight().double(), expected, rtol=1e-5, atol=0
    )


def test_div_out_without_biases_is_normalize_value_and_gradient():
    plain = Net(bias=False).double()
    one = spectral_normalize(copy.deepcopy(plain), (-2, -3), 0.8)
    other = spectral_normalize(copy.deepcopy(plain), (-2, -3), 0.8, mode="div_out")
    x = images(torch.float64)
    torch.testing.assert_close(one(x), other(x))
    for net in (one, other):
        net(x).square().sum().backward()
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_a_gain_is_learnt_and_a_plain_network_has_none():
    net = spectral_normalize(Net(), "all", 0.8, mode="gain")
    keys = [k for k, _ in net.named_parameters()]
    assert [k for k in keys if "gain" in k] == ["conv.gain", "middle.gain", "head.gain"]
    assert net.spectral.exact_sigmas() == pytest.approx([0.8] * 3, rel=1e-5)
    train(net, adam(net), 20, images())
    gains = torch.stack([net.conv.gain, net.middle.gain, net.head.gain]).detach()
    assert (gains - 1).abs().min() > 1e-2
    assert net.spectral.exact_sigmas() == pytest.approx((0.8 * gains.abs()).tolist(), rel=1e-3)
    net.load_state_dict(Net().state_dict())
    assert {net.conv.gain.item(), net.middle.gain.item(), net.head.gain.item()} == {1.0}
