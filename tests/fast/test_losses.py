"""What stands between the networks, against SB3's distribution and autograd."""

import math
from typing import Any

import pytest
import torch
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from torch import Tensor

from snrl.fast.losses import SquashedGaussian, least, temporal_differences
from snrl.spectral import native

pytestmark = pytest.mark.skipif(not native.has_products(), reason="no compiler, or no BLAS")
CLOSE = {"rtol": 1e-12, "atol": 1e-12}
DOUBLE = {"dtype": torch.float64}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def sb3s(parameters: Tensor, action_dim: int) -> tuple[Tensor, Tensor]:
    mean, log_std = parameters.split(action_dim, 1)
    distribution = SquashedDiagGaussianDistribution(action_dim)
    return distribution.log_prob_from_params(mean, log_std.clamp(-20, 2))


def strided(rows: int, columns: int, padding: int = 3, dtype: Any = torch.float64) -> Tensor:
    """Memory that is part of a wider matrix."""
    return torch.full((rows, columns + padding), 7.0, dtype=dtype)[:, padding:]


def parameters_of(batch_size: int, action_dim: int, **options: Any) -> Tensor:
    parameters = torch.randn(batch_size, 2 * action_dim, **(DOUBLE | options))
    # Now and then at its limits, and beyond.
    log_std = parameters[:, action_dim:]
    log_std[::4] = 2
    log_std[1::4] = 5
    if batch_size > 7:
        log_std[5], log_std[6], log_std[7] = -20, -30, -1
        # Otherwise SB3 loses its digits: it divides what is left of the mean by exp(-20).
        parameters[5:7, :action_dim] = 0
    return parameters


# --- The policy's distribution --------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("action_dim", [1, 2, 7, 17])
def test_actions_and_log_probabilities(batch_size: int, action_dim: int) -> None:
    parameters = parameters_of(batch_size, action_dim)
    policy = SquashedGaussian(batch_size, action_dim, torch.float64)
    actions = strided(batch_size, action_dim)
    torch.manual_seed(1)
    policy.act(parameters, actions)
    after = torch.get_rng_state()
    torch.manual_seed(1)
    expected, log_prob = sb3s(parameters, action_dim)
    assert torch.equal(after, torch.get_rng_state())
    torch.testing.assert_close(actions, expected, **CLOSE)
    torch.testing.assert_close(policy.log_prob, log_prob, rtol=1e-9, atol=1e-9)
    assert policy.mean_log_prob == pytest.approx(log_prob.mean().item(), rel=1e-9)
    assert (actions._base[:, :3] == 7).all()  # type: ignore[index]


@pytest.mark.parametrize("heads", [1, 2, 5])
@pytest.mark.parametrize("batch_size", [1, 12])
@pytest.mark.parametrize("action_dim", [1, 3])
def test_gradients_of_the_actor(batch_size: int, action_dim: int, heads: int) -> None:
    parameters = parameters_of(batch_size, action_dim)
    policy = SquashedGaussian(batch_size, action_dim, torch.float64)
    actions = strided(batch_size, action_dim)
    to_actions = torch.randn(heads, batch_size, action_dim, **DOUBLE)
    torch.manual_seed(1)
    policy.act(parameters, actions)
    grads = torch.full_like(parameters, torch.nan)
    policy.backward(parameters, actions, to_actions, 0.3, grads)

    torch.manual_seed(1)
    leaf = parameters.clone().requires_grad_()
    expected, log_prob = sb3s(leaf, action_dim)
    loss = (expected * to_actions.sum(0)).sum() + 0.3 * log_prob.sum()
    (wanted,) = torch.autograd.grad(loss, leaf)
    # Through SB3's, terms of 1 / std = exp(20) cancel.
    narrow = (parameters < -15).any(1)
    torch.testing.assert_close(grads[~narrow], wanted[~narrow], rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(grads[narrow], wanted[narrow], rtol=1e-6, atol=1e-6)


def test_actions_at_the_bounds() -> None:
    parameters = torch.tensor([[30.0, -1.0], [-30.0, -1.0], [400.0, 2.0]], **DOUBLE)
    policy = SquashedGaussian(3, 1, torch.float64)
    actions, grads = strided(3, 1), torch.empty_like(parameters)
    torch.manual_seed(1)
    policy.act(parameters, actions)
    torch.manual_seed(1)
    leaf = parameters.clone().requires_grad_()
    expected, log_prob = sb3s(leaf, 1)
    assert torch.equal(actions, expected)
    torch.testing.assert_close(policy.log_prob, log_prob, **CLOSE)
    policy.backward(parameters, actions, torch.ones(1, 3, 1, **DOUBLE), 0.5, grads)
    (wanted,) = torch.autograd.grad(expected.sum() + 0.5 * log_prob.sum(), leaf)
    torch.testing.assert_close(grads, wanted, **CLOSE)


@pytest.mark.parametrize("scale", [0.3, 3.0, 6.0])
def test_float32_is_about_as_close_to_the_truth_as_torch_is(scale: float) -> None:
    """Near the bounds ``1 - a²`` has few digits: nobody's float32 has more than two or three."""
    parameters = parameters_of(400, 2, dtype=torch.float32) * scale
    noise = torch.randn(400, 2)
    policy = SquashedGaussian(400, 2, torch.float32)
    actions = strided(400, 2, dtype=torch.float32)
    torch.manual_seed(1)
    policy.act(parameters, actions)
    torch.manual_seed(1)
    _, theirs = sb3s(parameters, 2)
    torch.manual_seed(1)
    noise = torch.empty(400, 2).normal_().double()
    mean, log_std = parameters.double().split(2, 1)
    log_std = log_std.clamp(-20, 2)
    squashed = torch.tanh(mean + log_std.exp() * noise)
    exact = torch.distributions.Normal(0, 1).log_prob(noise) - log_std
    truth = (exact - torch.log(1 - squashed**2 + 1e-6)).sum(1)
    assert (policy.log_prob - truth).abs().mean() <= 2 * (theirs - truth).abs().mean() + 1e-6
    assert (policy.log_prob - truth).abs().max() <= 2 * (theirs - truth).abs().max() + 1e-6


# --- Differences ----------------------------------------------------------------------------------


def transitions(batch_size: int) -> tuple[Tensor, Tensor]:
    discounts = torch.rand(batch_size, **DOUBLE)
    discounts[::3] = 0
    return torch.randn(batch_size, **DOUBLE), discounts


@pytest.mark.parametrize("heads", [1, 2, 3, 10])
@pytest.mark.parametrize("batch_size", [1, 5, 64])
@pytest.mark.parametrize("with_entropy", [True, False])
def test_differences(heads: int, batch_size: int, with_entropy: bool) -> None:
    values = torch.randn(heads, batch_size, 1, **DOUBLE)
    following = torch.randn(heads, batch_size, 1, **DOUBLE)
    rewards, discounts = transitions(batch_size)
    log_prob = torch.randn(batch_size, **DOUBLE) if with_entropy else None
    grads = torch.full_like(values, torch.nan)
    entropy = (log_prob, 0.7) if with_entropy else ()
    found = temporal_differences(values, following, rewards, discounts, 0.31, grads, *entropy)

    leaf = values.clone().requires_grad_()
    value = following[..., 0].min(0).values
    if log_prob is not None:
        value = value - 0.7 * log_prob
    loss = (leaf[..., 0] - (rewards + discounts * value)).square().sum()
    (wanted,) = torch.autograd.grad(loss, leaf)
    assert found == pytest.approx(loss.item(), rel=1e-12)
    torch.testing.assert_close(grads, 0.31 / 2 * wanted, **CLOSE)


@pytest.mark.parametrize("where", ["values", "following", "rewards", "discounts", "log_prob"])
@pytest.mark.parametrize("head", [0, 1, 2])
def test_what_is_missing_makes_the_loss_missing(where: str, head: int) -> None:
    given = {name: torch.randn(3, 6, 1, **DOUBLE) for name in ("values", "following")}
    given |= {name: torch.rand(6, **DOUBLE) for name in ("rewards", "discounts", "log_prob")}
    part = given[where]
    part[(head, 2) if part.dim() == 3 else 2] = torch.nan
    grads = torch.zeros(3, 6, 1, **DOUBLE)
    found = temporal_differences(
        *(given[x] for x in ("values", "following", "rewards", "discounts")),
        *(1.0, grads, given["log_prob"], 0.5),
    )
    assert math.isnan(found)
    expected = torch.zeros(3, 6, dtype=torch.bool)
    expected[head if where == "values" else slice(None), 2] = True
    assert torch.equal(grads[..., 0].isnan(), expected)


# --- The least value ------------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [1, 2, 3, 10])
@pytest.mark.parametrize("batch_size", [1, 5, 64])
@pytest.mark.parametrize("ties", [True, False])
def test_least_values(heads: int, batch_size: int, ties: bool) -> None:
    values = torch.randn(heads, batch_size, 1, **DOUBLE)
    if ties:
        values = values.round()
    grads = torch.full_like(values, torch.nan)
    found = least(values, -0.25, grads)
    # As SB3 has them: a row for each transition.
    leaf = values.clone().requires_grad_()
    lowest, _ = torch.min(torch.cat(tuple(leaf), dim=1), dim=1, keepdim=True)
    (wanted,) = torch.autograd.grad(lowest.sum(), leaf)
    assert found == pytest.approx(lowest.sum().item(), rel=1e-12, abs=1e-12)
    assert torch.equal(grads, -0.25 * wanted)


@pytest.mark.parametrize("head", [0, 1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_value_that_is_missing_is_the_least(head: int, dtype: torch.dtype) -> None:
    values = torch.randn(3, 6, 1, dtype=dtype)
    values[head, 2] = torch.nan
    grads = torch.zeros_like(values)
    assert math.isnan(least(values, 1.0, grads))
    assert grads[head, 2] == 1
    assert torch.equal(grads.sum(0), torch.ones(6, 1, dtype=dtype))


def test_infinite_values() -> None:
    values = torch.randn(2, 3, 1, **DOUBLE)
    values[0, 0], values[1, 1] = torch.inf, -torch.inf
    grads = torch.zeros_like(values)
    assert least(values, 1.0, grads) == -math.inf
    assert grads[:, :2, 0].tolist() == [[0, 0], [1, 1]]
