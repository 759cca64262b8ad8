"""The two verbs, on networks of the kinds users have."""

from itertools import chain, pairwise

import pytest
import torch
from torch import nn

from snrl.spectral import SpectralLayer, exact_sigma, fold_spectral_norm, spectral_normalize


def mlp():
    widths = [3, 8, 8, 8]
    hidden = [(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(widths)]
    return nn.Sequential(*chain(*hidden), nn.Linear(8, 1))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.Flatten())
        self.head = nn.Linear(6 * 16, 2)

    def forward(self, x):
        return self.head(self.body(x))


def test_hidden_layers_of_an_mlp():
    net = mlp()
    assert spectral_normalize(net) is net
    assert [isinstance(net[i], SpectralLayer) for i in (0, 2, 4, 6)] == [False, True, True, False]
    assert net.spectral.exact_sigmas() == pytest.approx([1.0, 1.0], abs=1e-6)


def test_keys_of_parameters_stay_and_plain_weights_load():
    plain, net = mlp(), spectral_normalize(mlp(), layers="all", coef=2.0)
    assert [k for k, _ in net.named_parameters()] == [k for k, _ in plain.named_parameters()]
    net.load_state_dict(plain.state_dict())
    for position in (0, 2, 4, 6):
        weight = plain[position].weight
        torch.testing.assert_close(
            net[position].effective_weight(), (2.0 * weight / exact_sigma(weight)).float()
        )


def test_a_forward_calls_on_every_child_but_the_normalizer():
    """``Sequential`` calls its children in turn: the normalizer among them must pass values on."""
    net = spectral_normalize(mlp(), layers="all")
    x = torch.randn(5, 3)
    expected = x
    for module in list(net)[:7]:
        expected = module(expected)
    torch.testing.assert_close(net(x), expected)


@pytest.mark.parametrize(("make", "shape"), [(mlp, (5, 3)), (Net, (5, 1, 8, 8))])
def test_training_then_folding_gives_a_plain_network_of_equal_values(make, shape):
    net = spectral_normalize(make().double(), layers="all", coef=0.7)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    x = torch.randn(shape, dtype=torch.float64)
    for _ in range(30):
        optimizer.zero_grad()
        (net(x) - 1).square().mean().backward()
        optimizer.step()
    assert net.spectral.exact_sigmas() == pytest.approx([0.7] * len(net.spectral.layers), rel=1e-4)
    plain = fold_spectral_norm(net)
    torch.testing.assert_close(plain(x), net(x), rtol=1e-12, atol=1e-12)
    assert not any(isinstance(module, SpectralLayer) for module in plain.modules())
    assert plain.state_dict().keys() == make().state_dict().keys()
    make().load_state_dict(plain.state_dict())
    assert any(isinstance(module, SpectralLayer) for module in net.modules())


def test_refuses_what_it_cannot_normalise():
    with pytest.raises(TypeError, match="no Linear or Conv layer in ReLU"):
        spectral_normalize(nn.ReLU())
    with pytest.raises(ValueError, match="layer -5 is outside"):
        spectral_normalize(mlp(), layers=(-5,))
    with pytest.raises(ValueError, match="not normalised yet"):
        spectral_normalize(spectral_normalize(mlp()))
    with pytest.raises(ValueError, match="positive number"):
        spectral_normalize(mlp(), coef=0)
    with pytest.raises(ValueError, match="holds layers"):
        spectral_normalize(nn.Linear(2, 2), layers="all")


def test_a_refused_network_is_left_as_it_was():
    net = mlp()
    with pytest.raises(ValueError, match="outside"):
        spectral_normalize(net, layers=(-1, -9))
    assert not any(isinstance(module, SpectralLayer) for module in net.modules())
    assert "spectral" not in dict(net.named_children())


def test_folds_nothing_else():
    with pytest.raises(TypeError, match="expected a torch module or an SB3 off-policy algorithm"):
        fold_spectral_norm("model.zip")
