import copy

import numpy as np
import pytest
import torch
from torch import nn

from snrl import spectral_normalize
from snrl.values.measures import plasticity_loss

from .critics import batch, network


def measure(net, inputs, steps, seed=0, lr=0.01):
    return plasticity_loss(
        net,
        lambda copied: copied(inputs).squeeze(-1),
        steps=steps,
        learning_rate=lr,
        generator=torch.Generator().manual_seed(seed),
    )


def linear(features, seed=0):
    net = nn.Linear(features, 1).double()
    with torch.no_grad():
        net.weight.copy_(batch(1, features, seed=seed))
    return net


def test_begins_at_the_two_variances_and_learns():
    net, inputs = network(3, width=64), batch(20, 3)
    start = np.mean([measure(net, inputs, 0, seed) for seed in range(200)])
    assert start == pytest.approx(2.0, abs=0.1)
    losses = [measure(net, inputs, steps) for steps in (10, 100, 600)]
    assert start > losses[0] > losses[1] > losses[2]
    assert losses[2] < 1e-3


@pytest.mark.parametrize("features", [2, 10])
def test_reaches_what_least_squares_leaves_of_random_targets(features):
    n = 20
    inputs = batch(n, features)
    found = [measure(linear(features), inputs, 250, seed, lr=0.2) for seed in range(20)]
    # Of n - 1 directions beside the mean, the fit takes one for each feature.
    left = (n - 1 - features) / (n - 1)
    assert np.mean(found) == pytest.approx(left, abs=4 * np.std(found) / np.sqrt(len(found)))


def test_a_dead_network_reaches_no_more_than_a_constant():
    net = network(3, activation=nn.ReLU)
    with torch.no_grad():
        net[2].bias.fill_(-1e6)
    assert measure(net, batch(20, 3), 300) == pytest.approx(1.0, abs=1e-6)
    assert measure(network(3, width=64), batch(20, 3), 300) < 0.5


def test_large_values_alone_are_no_loss_of_plasticity():
    inputs = batch(20, 3)
    scaled, plain = linear(3), linear(3)
    with torch.no_grad():
        scaled.weight.mul_(1000)
        scaled.bias.mul_(1000)
    assert measure(scaled, inputs, 0) == pytest.approx(measure(plain, inputs, 0))
    shifted = copy.deepcopy(plain)
    with torch.no_grad():
        shifted.bias.add_(500)
    assert measure(shifted, inputs, 100) == pytest.approx(measure(plain, inputs, 100))


class Pair(nn.Module):
    def __init__(self, *nets):
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, x):
        return torch.stack([net(x).squeeze(-1) for net in self.nets])


def test_of_an_ensemble_is_the_mean_with_targets_for_each():
    inputs = batch(12, 3)
    dead = network(3, activation=nn.ReLU)
    with torch.no_grad():
        dead[2].bias.fill_(-1e6)
    able = network(3, width=64)
    assert measure(Pair(able, dead), inputs, 600) == pytest.approx(0.5, abs=0.01)
    # Two heads that are one network can not fit targets that differ.
    assert measure(Pair(able, able), inputs, 600) > 0.3


def test_the_network_stays_as_it_was():
    net, inputs = network(3), batch(10, 3)
    net(inputs).sum().backward()
    before = [(p.detach().clone(), p.grad.clone()) for p in net.parameters()]
    state = torch.get_rng_state()
    with torch.no_grad():
        measure(net, inputs, 5)
    for param, (value, grad) in zip(net.parameters(), before, strict=True):
        assert torch.equal(param, value)
        assert torch.equal(param.grad, grad)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_generator_decides_the_targets():
    net, inputs = network(3), batch(10, 3)
    assert measure(net, inputs, 5, seed=3) == measure(net, inputs, 5, seed=3)
    assert measure(net, inputs, 5, seed=3) != measure(net, inputs, 5, seed=4)


def test_a_normalised_copy_stays_normalised_and_the_original_untouched():
    net = spectral_normalize(network(3, width=16), "all", 1.5)
    inputs = batch(10, 3)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    norms = []

    def predict(copied):
        norms.extend(
            torch.linalg.matrix_norm(layer.effective_weight().detach(), 2).item()
            for layer in copied
            if isinstance(layer, nn.Linear)
        )
        return copied(inputs).squeeze(-1)

    plasticity_loss(
        net,
        predict,
        steps=50,
        learning_rate=0.01,
        generator=torch.Generator().manual_seed(0),
    )
    assert norms == pytest.approx([1.5] * len(norms), rel=1e-2)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_network_that_diverged_is_told():
    net = network(3)
    with torch.no_grad():
        net[0].weight[0, 0] = float("nan")
    assert np.isnan(measure(net, batch(10, 3), 3))


def test_one_prediction_has_no_spread():
    with pytest.raises(ValueError, match="two predictions"):
        measure(network(3), batch(1, 3), 3)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("normalise", [nn.utils.spectral_norm, nn.utils.weight_norm])
def test_hooks_that_compute_a_weight(normalise):
    net, inputs = network(3), batch(20, 3)
    normalise(net[0])
    net.eval()
    net(inputs).sum().backward()  # leaves a weight with a graph
    assert np.isfinite(measure(net, inputs, 5))
