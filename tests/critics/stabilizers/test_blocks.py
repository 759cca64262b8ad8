"""Residual blocks: the papers' formulas, their initial weights, and their layers under SN."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from snrl.critics import critic_lipschitz
from snrl.critics.stabilizers.blocks import ResidualBlock

Make = Callable[..., Any]


def norm(x: Tensor, module: nn.LayerNorm) -> Tensor:
    mean, var = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
    return (x - mean) / (var + 1e-6).sqrt() * module.weight + module.bias


def simba(head: nn.Sequential, x: Tensor) -> Tensor:
    embedding, *blocks, last, output = head
    x = F.linear(x, embedding.weight, embedding.bias)
    for ln, first, _, second in blocks:
        inside = F.linear(norm(x, ln), first.weight, first.bias).clamp_min(0)
        x = x + F.linear(inside, second.weight, second.bias)
    return F.linear(norm(x, last), output.weight, output.bias)


def bro(head: nn.Sequential, x: Tensor) -> Tensor:
    embedding, ln, _, *blocks, output = head
    x = norm(F.linear(x, embedding.weight, embedding.bias), ln).clamp_min(0)
    for first, inner, _, second, outer in blocks:
        inside = norm(F.linear(x, first.weight, first.bias), inner).clamp_min(0)
        x = x + norm(F.linear(inside, second.weight, second.bias), outer)
    return F.linear(x, output.weight, output.bias)


@pytest.mark.parametrize(("critic", "formula"), [("simba", simba), ("bro", bro)])
def test_values_and_gradients_are_those_of_the_papers_formula(
    make: Make, critic: str, formula: Any
) -> None:
    kwargs = {"critic": critic, "net_arch": [8, 8, 8]}
    model = make("sac", policy_kwargs=kwargs, learn=30)
    head = model.critic.qf0.double()
    assert sum(isinstance(x, ResidualBlock) for x in head) == 2
    inputs = [torch.randn(6, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    inputs[1].data.copy_(inputs[0].data)
    outputs = [head(inputs[0]), formula(head, inputs[1])]
    torch.testing.assert_close(*outputs, rtol=1e-11, atol=1e-11)
    own, other = (
        torch.autograd.grad(y.square().sum(), [x, *head.parameters()])
        for x, y in zip(inputs, outputs, strict=True)
    )
    for grad, expected in zip(own, other, strict=True):
        torch.testing.assert_close(grad, expected, rtol=1e-8, atol=1e-10)


def linear(head: nn.Module) -> list[nn.Linear]:
    return [layer for layer in head.modules() if isinstance(layer, nn.Linear)]


def test_layers_of_simba_start_as_in_its_authors_code(make: Make) -> None:
    model = make("td3", policy_kwargs={"critic": "simba", "net_arch": [64, 64]})
    first, up, down, output = linear(model.critic.qf0)
    assert [x.weight.shape for x in (up, down)] == [(256, 64), (64, 256)]
    torch.testing.assert_close(first.weight.mT @ first.weight, torch.eye(4), atol=1e-5, rtol=0)
    assert output.weight.detach().norm() == pytest.approx(1, rel=1e-5)
    for layer, fan_in in ((up, 64), (down, 256)):
        std = np.sqrt(2 / fan_in)
        assert layer.weight.std().item() == pytest.approx(std, rel=0.02)
        assert layer.weight.abs().max().item() <= 2 * std / 0.8796 + 1e-6
    other = linear(model.critic.qf1)
    assert not torch.equal(other[1].weight, up.weight)
    assert all(x.bias.abs().max() == 0 for x in (first, up, down, output))


def test_layers_of_bro_start_as_in_its_authors_code(make: Make) -> None:
    model = make("sac", policy_kwargs={"critic": "bro", "net_arch": [16, 16]})
    first, *inside, output = linear(model.critic.qf0)
    torch.testing.assert_close(first.weight.mT @ first.weight, 2 * torch.eye(4), atol=1e-5, rtol=0)
    for layer in inside:
        square = layer.weight @ layer.weight.mT
        torch.testing.assert_close(square, 2 * torch.eye(16), atol=1e-5, rtol=0)
    assert output.weight.detach().norm() == pytest.approx(np.sqrt(2), rel=1e-5)


@pytest.mark.parametrize("critic", ["simba", "bro"])
@pytest.mark.parametrize("net_arch", [[], [32], [32, 16]])
def test_a_net_arch_of_other_widths_is_refused(make: Make, critic: str, net_arch: Any) -> None:
    with pytest.raises(ValueError, match=rf"'{critic}' needs a net_arch of equal widths, at least"):
        make("sac", policy_kwargs={"critic": critic, "net_arch": {"pi": [8], "qf": net_arch}})


def test_the_activation_is_the_policys_and_the_width_inside_an_option(make: Make) -> None:
    options = {"critic_options": {"simba": {"expansion": 2}}, "activation_fn": nn.Tanh}
    model = make("sac", policy_kwargs={"critic": "simba"} | options)
    norm, up, activation, _ = model.critic.qf0[1]
    assert isinstance(norm, nn.LayerNorm)
    assert up.out_features == 64
    assert type(activation) is nn.Tanh


@pytest.mark.parametrize("layers", [(-2,), (-3, -1), "hidden", "all"])
def test_layers_are_counted_from_the_output_through_the_blocks(
    make: Make, watch: Make, assert_normalised: Make, layers: Any
) -> None:
    kwargs = {"critic": "sn+simba", "net_arch": [16, 16, 16], "sn_layers": layers}
    model = make("sac", policy_kwargs=kwargs, learning_rate=1e-3)
    assert len(linear(model.critic.qf0)) == 6
    watch(model, layers)
    model.learn(40)
    assert_normalised(model, layers)


@pytest.mark.parametrize("critic", ["simba", "bro"])
def test_a_sum_is_not_taken_for_a_chain(make: Make, critic: str) -> None:
    # Neither by the critic nor by the normalizer, with all layers held.
    model = make("sac", policy_kwargs={"critic": f"sn+{critic}", "sn_layers": "all"})
    assert critic_lipschitz(model.critic) == {}
    assert all(bound == {} for bound in model.policy.spectral.certify().lipschitz)


def test_a_weights_stabiliser_reaches_into_blocks(make: Make) -> None:
    model = make("sac", policy_kwargs={"critic": "bro+weight_norm"}, learn=25)
    kinds = {type(layer).__name__ for layer in linear(model.critic)}
    assert kinds == {"WeightNormLinear"}
