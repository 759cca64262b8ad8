"""The ensemble as one network must be the networks one by one."""

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from snrl.critics.stacked import can_stack, stacked_forward, stacked_weight
from snrl.spectral import SpectralNormalizer


class ReverseFeatures(nn.Module):
    """An activation without parameters that works along ``dim=1``, as a user may write it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flip(1).cumsum(1).tanh()


class BatchStandardise(nn.Module):
    """No parameters and no buffers, and yet the rows of a batch depend on each other."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - x.mean(0)) / (x.std(0) + 1e-3)


class DoubledLinear(nn.Linear):
    """A linear layer whose forward is its own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


def networks(
    k: int, activation: type[nn.Module] = nn.ReLU, bias: bool = True
) -> list[nn.Sequential]:
    def network() -> nn.Sequential:
        return nn.Sequential(
            nn.Linear(5, 8, bias=bias),
            activation(),
            nn.Linear(8, 8, bias=bias),
            activation(),
            nn.Linear(8, 1, bias=bias),
        )

    return [network().double() for _ in range(k)]


def normalise(nets: Sequence[nn.Sequential], position: int) -> None:
    normalizer = SpectralNormalizer().double()
    normalizer.add(network[position] for network in nets)


@pytest.mark.parametrize("normalised", [None, 0, 2, 4])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "activation",
    [
        *(nn.ReLU, nn.Tanh, nn.SiLU, nn.Identity, lambda: nn.Softmax(1)),
        *(lambda: nn.LayerNorm(8, eps=1e-2), lambda: nn.LayerNorm(8, bias=False)),
        *(lambda: nn.RMSNorm(8), lambda: nn.RMSNorm(8, elementwise_affine=False)),
    ],
)
@pytest.mark.parametrize("k", [1, 2, 5])
def test_values_and_gradients_are_those_of_the_loop(
    k: int, activation: type[nn.Module], bias: bool, normalised: int | None
) -> None:
    nets = networks(k, activation, bias)
    if normalised is not None:
        normalise(nets, normalised)
    assert can_stack(nets)
    inputs = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    wanted = [inputs, *(parameter for network in nets for parameter in network.parameters())]
    weights = torch.randn(k, 7, 1, dtype=torch.float64)

    looped = torch.stack([network(inputs) for network in nets])
    stacked = stacked_forward(nets, inputs)
    torch.testing.assert_close(stacked, looped, rtol=1e-12, atol=1e-12)

    expected = torch.autograd.grad((looped * weights).sum(), wanted)
    got = torch.autograd.grad((stacked * weights).sum(), wanted)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_an_empty_and_a_single_row_batch_keep_their_shapes() -> None:
    nets = networks(2)
    for rows in (0, 1):
        assert stacked_forward(nets, torch.zeros(rows, 5).double()).shape == (2, rows, 1)


@pytest.mark.parametrize(
    "activation",
    [
        ReverseFeatures,
        BatchStandardise,
        nn.PReLU,
        lambda: nn.PReLU(init=0.0),
        lambda: nn.BatchNorm1d(8),
    ],
)
def test_an_activation_that_does_not_act_row_by_row_is_stacked_only_if_the_values_stay(
    activation: type[nn.Module],
) -> None:
    torch.manual_seed(0)
    nets = networks(2, activation)
    with torch.no_grad():  # Parameters of an activation differ between the networks.
        for number, network in enumerate(nets):
            for parameter in network[1].parameters():
                parameter += number
    inputs = torch.randn(7, 5, dtype=torch.float64)
    looped = torch.stack([network(inputs) for network in nets])
    if can_stack(nets):
        torch.testing.assert_close(stacked_forward(nets, inputs), looped)


def test_a_linear_layer_with_a_forward_of_its_own_is_stacked_only_if_the_values_stay() -> None:
    nets = [nn.Sequential(DoubledLinear(5, 1)) for _ in range(2)]
    inputs = torch.randn(7, 5)
    looped = torch.stack([network(inputs) for network in nets])
    if can_stack(nets):
        torch.testing.assert_close(stacked_forward(nets, inputs), looped)


def test_learned_activations_and_batch_statistics_cannot_be_stacked() -> None:
    assert not can_stack(networks(2, nn.PReLU))
    one, other = networks(1, lambda: nn.LayerNorm(8)) + networks(1, lambda: nn.LayerNorm(8, 0.1))
    assert not can_stack([one, other])
    assert not can_stack([nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3)) for _ in range(2)])


def test_networks_that_differ_cannot_be_stacked() -> None:
    one = nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 1))
    assert not can_stack([one, nn.Sequential(nn.Linear(5, 1))])
    assert not can_stack([one, nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 1))])


def test_stacked_weight_holds_the_stored_or_the_effective_weights() -> None:
    nets = networks(3)
    raw = torch.stack([network[2].weight for network in nets])
    assert torch.equal(stacked_weight([network[2] for network in nets]), raw)
    normalise(nets, 2)
    norms = torch.linalg.matrix_norm(raw, 2)
    torch.testing.assert_close(
        stacked_weight([network[2] for network in nets]), raw / norms[:, None, None]
    )


@pytest.mark.parametrize("place", ["network", "layer", "all modules"])
def test_hooked_networks_are_not_stacked(place):
    networks = [nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)) for _ in range(2)]
    assert can_stack(networks)
    register = {
        "network": networks[1].register_forward_hook,
        "layer": networks[0][2].register_full_backward_hook,
        "all modules": nn.modules.module.register_module_forward_hook,
    }[place]
    handle = register(lambda *_: None)
    assert not can_stack(networks)
    handle.remove()
    assert can_stack(networks)
