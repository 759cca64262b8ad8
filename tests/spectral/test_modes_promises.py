"""Each mode keeps its promise after every one of 500 random steps of every optimiser."""

import functools
import math

import pytest
import torch
from torch import nn

from snrl.spectral import spectral_normalize
from snrl.spectral.modes import MODES

STEPS = 500
RTOL = 1.5e-3
EPS = 0.1
OPTIMISERS = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.05, momentum=0.9),
    "adam": lambda groups: torch.optim.Adam(groups, lr=1e-2, eps=EPS),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=1e-2, eps=EPS, weight_decay=0.1),
    "rmsprop": lambda groups: torch.optim.RMSprop(groups, lr=3e-3, eps=EPS, momentum=0.5),
}


class Net(nn.Module):
    """A convolution and a linear layer; ReLU between, so that outputs are not linear."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv, self.linear = nn.Conv2d(3, 8, 3), nn.Linear(8, 11)
        self.double()
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator).double() / 4

    def forward(self, x):
        return self.linear(self.conv(x).relu().flatten(1))


@functools.cache
def gradients():
    """For each step, what the optimiser gets: noise, and a drift that lets norms grow."""
    generator = torch.Generator().manual_seed(1)
    shapes = [parameter.shape for parameter in Net().parameters()]
    drift = [torch.randn(shape, generator=generator).double() for shape in shapes]
    noise = [torch.randn(STEPS, *shape, generator=generator).double() for shape in shapes]
    return [0.5 * each + 0.3 * mean for each, mean in zip(noise, drift, strict=True)]


def run(net, optimizer, before_step=lambda: None, after_step=lambda: None):
    own = [parameter for name, parameter in net.named_parameters() if "gain" not in name]
    for step in range(STEPS):
        for parameter, draws in zip(own, gradients(), strict=True):
            parameter.grad = draws[step].clone()
        before_step()
        optimizer.step()
        after_step()


@functools.cache
def plain_run(optimiser):
    """All parameters of a plain network after each step."""
    net, seen = Net(), []
    optimizer = OPTIMISERS[optimiser](net.parameters())
    run(
        net,
        optimizer,
        after_step=lambda: seen.append([x.detach().clone() for x in net.parameters()]),
    )
    return [torch.stack(history) for history in zip(*seen, strict=True)]


def matrix(weight):
    return weight.detach().flatten(1)


def unfoldings(kernels):
    """Both matrices of a batch of weights."""
    return kernels.flatten(2), kernels.transpose(1, 2).flatten(2)


def norms(weights):
    """Norms of a batch of weights as ``(out, in·k)``, by SVD in float64."""
    return torch.linalg.matrix_norm(unfoldings(weights)[0], 2)


def effective_weights(mode, make_optimizer, coef):
    """The weights both layers apply after each step, and the network."""
    net = spectral_normalize(Net(), "all", coef, mode=mode)
    layers = (net.conv, net.linear)
    seen = ([], [])

    def look():
        for layer, weights in zip(layers, seen, strict=True):
            weights.append(layer.effective_weight().detach().clone())

    look()
    run(net, make_optimizer(net.parameters()), after_step=look)
    return [torch.stack(weights) for weights in seen], net


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_normalize_gives_exactly_the_norm(optimiser):
    weights, _ = effective_weights("normalize", OPTIMISERS[optimiser], 0.8)
    for each in weights:
        torch.testing.assert_close(
            norms(each), torch.full_like(norms(each), 0.8), rtol=RTOL, atol=0
        )


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_bidirectional_gives_the_mean_of_both_norms(optimiser):
    weights, _ = effective_weights("bidirectional", OPTIMISERS[optimiser], 0.8)
    for each in weights:
        mean = sum(torch.linalg.matrix_norm(x, 2) for x in unfoldings(each)) / 2
        torch.testing.assert_close(mean, torch.full_like(mean, 0.8), rtol=RTOL, atol=0)
    assert not torch.allclose(norms(weights[0]), torch.tensor(0.8).double(), rtol=1e-2)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_gain_gives_the_learned_norm(optimiser):
    net = spectral_normalize(Net(), "all", 0.8, mode="gain")
    layers, seen, gains = (net.conv, net.linear), ([], []), ([], [])

    def look():
        for layer, weights, gain in zip(layers, seen, gains, strict=True):
            weights.append(layer.effective_weight().detach().clone())
            gain.append(layer.gain.detach().clone())

    def pull():
        for gain in (net.conv.gain, net.linear.gain):
            gain.grad = gain.detach() - 3

    run(net, OPTIMISERS[optimiser](net.parameters()), pull, look)
    for weights, gain in zip(seen, gains, strict=True):
        wanted = 0.8 * torch.stack(gain).abs()
        torch.testing.assert_close(norms(torch.stack(weights)), wanted, rtol=RTOL, atol=0)
        assert wanted.std() > 0.01


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("mode", ["cap", "project", "hammer", "soft_cap"])
def test_a_bound_is_kept_and_reached(mode, optimiser):
    coef = 1.2
    weights, net = effective_weights(mode, OPTIMISERS[optimiser], coef)
    for each in weights:
        assert (norms(each) <= coef * (1 + RTOL)).all()
        # Not by being far below it.
        assert (norms(each) >= coef * (1 - RTOL)).double().mean() > 0.5
    if mode != "cap":
        assert torch.equal(net.conv.weight, weights[0][-1])


def plain_step(mode, net, optimizer, base, coef):
    """What a mode does before a step, written down once more, on a plain network."""
    weights = (net.conv.weight, net.linear.weight)
    sigmas = [torch.linalg.matrix_norm(matrix(weight), 2).item() for weight in weights]
    if mode == "div_grad":
        for weight, sigma in zip(weights, sigmas, strict=True):
            weight.grad = weight.grad / (sigma / coef)
    elif mode == "layer_lr":
        for weight, sigma in zip(weights, sigmas, strict=True):
            (group,) = [x for x in optimizer.param_groups if x["params"][0] is weight]
            group["lr"] = base["lr"] / max(1, sigma / coef)
    else:
        for group in optimizer.param_groups:
            group["eps"] = base["eps"] * math.prod(sigma / coef for sigma in sigmas)


# What each adds to the loss, written down once more.
LOSSES = {
    "penalty": ({"strength": 0.3}, 1.0, lambda sigma: 0.3 / 2 * sigma**2),
    "penalty_to_coef": (
        {"strength": 0.01, "exponent": 1.5},
        0.8,
        lambda sigma: 0.01 * ((sigma / 0.8) ** 1.5 - 1) ** 2,
    ),
}


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("mode", LOSSES)
def test_a_penalty_adds_the_gradient_of_its_term(mode, optimiser):
    options, coef, loss = LOSSES[mode]
    net = spectral_normalize(Net(), "all", coef, mode=mode, mode_options=options)
    optimizer = OPTIMISERS[optimiser](net.parameters())
    layers = (net.conv, net.linear)
    given, used, expected, sigmas, weights = [], [], [], [], []

    def before():
        given.append([x.grad.clone() for x in net.parameters()])

    def at_the_step(*_):
        used.append([x.grad.clone() for x in net.parameters()])
        sigmas.append(torch.stack([net.spectral.sigma(layer) for layer in layers]))
        weights.append([layer.weight.detach().clone() for layer in layers])
        term = sum(map(loss, sigmas[-1]))
        expected.append(torch.autograd.grad(term, [layer.weight for layer in layers]))

    # torch calls an optimiser's own hooks after those of all optimisers.
    optimizer.register_step_pre_hook(at_the_step)
    run(net, optimizer, before)
    for place, weight in ((0, 0), (1, None), (2, 1), (3, None)):
        change = torch.stack([b[place] - a[place] for a, b in zip(given, used, strict=True)])
        term = 0 * change if weight is None else torch.stack([each[weight] for each in expected])
        torch.testing.assert_close(change, term, rtol=1e-9, atol=1e-12)
    for place in (0, 1):
        exact = norms(torch.stack([each[place] for each in weights]))
        torch.testing.assert_close(torch.stack(sigmas)[:, place], exact, rtol=RTOL, atol=0)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("mode", ["div_grad", "layer_lr", "mul_eps"])
def test_a_changed_step_is_that_of_a_plain_reimplementation(mode, optimiser):
    coef = 0.8
    net = spectral_normalize(Net(), "all", coef, mode=mode)
    optimizer = OPTIMISERS[optimiser](net.parameters())
    if (mode, optimiser) == ("mul_eps", "sgd"):
        net.conv.weight.grad = torch.zeros_like(net.conv.weight)
        with pytest.raises(ValueError, match="SGD has no eps for the mode to multiply"):
            optimizer.step()
        return
    plain = Net()
    reference = OPTIMISERS[optimiser]([{"params": [x]} for x in plain.parameters()])
    base = dict(reference.param_groups[0])
    groups = [dict(group) for group in optimizer.param_groups]
    seen, expected = [], []

    def parameters(module):
        return torch.cat([x.detach().flatten() for x in module.parameters()])

    run(net, optimizer, after_step=lambda: seen.append(parameters(net)))
    run(
        plain,
        reference,
        lambda: plain_step(mode, plain, reference, base, coef),
        lambda: expected.append(parameters(plain)),
    )
    torch.testing.assert_close(torch.stack(seen), torch.stack(expected), rtol=1e-3, atol=1e-4)
    # Nobody sees the groups that the step was taken with.
    assert [group.items() for group in optimizer.param_groups] == [x.items() for x in groups]
    untouched = torch.cat([history[-1].flatten() for history in plain_run(optimiser)])
    assert (untouched - expected[-1]).abs().max() > 0.05


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_div_out_divides_the_output_of_a_plain_network(optimiser):
    x = torch.randn(2, 3, 3, 3, generator=torch.Generator().manual_seed(2)).double()
    net = spectral_normalize(Net(), "all", 0.8, mode="div_out")
    seen = []
    run(
        net,
        OPTIMISERS[optimiser](net.parameters()),
        after_step=lambda: seen.append(net(x).detach()),
    )
    kernel, bias, weight, other = plain_run(optimiser)
    # The kernel is as large as the image, so that the convolution is a product.
    hidden = (x.flatten(1) @ kernel.flatten(2).mT + bias[:, None]).relu()
    output = hidden @ weight.mT + other[:, None]
    divided = output / (norms(kernel) / 0.8 * norms(weight) / 0.8)[:, None, None]
    torch.testing.assert_close(
        torch.stack(seen), divided, rtol=RTOL, atol=RTOL * divided.abs().max().item()
    )


def test_no_mode_is_left_out():
    held = {"normalize", "bidirectional", "gain", "cap", "project", "hammer", "soft_cap", "div_out"}
    assert held | {"div_grad", "layer_lr", "mul_eps", *LOSSES} == set(MODES)
