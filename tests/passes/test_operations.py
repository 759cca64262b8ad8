"""What stands between the networks, against SB3's distribution and autograd."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from torch import Tensor

from snrl.passes import operations as ops
from snrl.passes.panels import Panels, parts
from snrl.spectral import native

from .passes import Values, once_done, panels_of

pytestmark = pytest.mark.skipif(not native.is_available(), reason="no compiler")
CLOSE = {"rtol": 1e-12, "atol": 1e-12}
DOUBLE = {"dtype": torch.float64}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def sb3s(parameters: Tensor, action_dim: int) -> tuple[Tensor, Tensor]:
    mean, log_std = parameters.split(action_dim, 1)
    distribution = SquashedDiagGaussianDistribution(action_dim)
    return distribution.log_prob_from_params(mean, log_std.clamp(-20, 2))


class Policy:
    """Actions of a policy, somewhere among other features, and gradients of its parameters."""

    def __init__(self, parameters: Tensor) -> None:
        self._batch_size, columns = parameters.shape
        self._dtype, self._dim = parameters.dtype, columns // 2
        around = torch.full((self._batch_size, self._dim + 3), 7.0, dtype=self._dtype)
        self._to = panels_of(around)
        self._squash = ops.Squash(panels_of(parameters), 0, self._to, 2)

    def act(self) -> Tensor:
        noise = torch.empty(self._batch_size, self._dim, dtype=self._dtype).normal_()
        once_done([self._squash.forward()], self._batch_size, self._dtype, [noise])
        found = self._to.matrix()
        assert (found[:, :2] == 7).all()
        assert (found[:, -1] == 7).all()
        return found[:, 2:-1]

    @property
    def log_prob(self) -> Tensor:
        return self._squash.log_prob.matrix()[:, 0]

    @property
    def mean_log_prob(self) -> float:
        return self._squash.total.sum().item() / self._batch_size

    def backward(self, to_actions: Tensor, to_log_prob: float) -> Tensor:
        values = Values(input_grads=to_actions)
        ent_coef = torch.tensor(to_log_prob * self._batch_size, dtype=torch.float64)
        grads = Panels(self._batch_size, 2 * self._dim, self._dtype)
        back = self._squash.backward(values.networks, ent_coef.data_ptr(), grads.address())
        once_done([back], self._batch_size, self._dtype)
        return grads.matrix()


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
    policy = Policy(parameters)
    torch.manual_seed(1)
    actions = policy.act()
    after = torch.get_rng_state()
    torch.manual_seed(1)
    expected, log_prob = sb3s(parameters, action_dim)
    assert torch.equal(after, torch.get_rng_state())
    torch.testing.assert_close(actions, expected, **CLOSE)
    torch.testing.assert_close(policy.log_prob, log_prob, rtol=1e-9, atol=1e-9)
    assert policy.mean_log_prob == pytest.approx(log_prob.mean().item(), rel=1e-9)


@pytest.mark.parametrize("heads", [1, 2, 5])
@pytest.mark.parametrize("batch_size", [1, 12])
@pytest.mark.parametrize("action_dim", [1, 3])
def test_gradients_of_the_actor(batch_size: int, action_dim: int, heads: int) -> None:
    parameters = parameters_of(batch_size, action_dim)
    policy = Policy(parameters)
    to_actions = torch.randn(heads, batch_size, action_dim, **DOUBLE)
    torch.manual_seed(1)
    policy.act()
    grads = policy.backward(to_actions, 0.3)

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
    policy = Policy(parameters)
    torch.manual_seed(1)
    actions = policy.act()
    torch.manual_seed(1)
    leaf = parameters.clone().requires_grad_()
    expected, log_prob = sb3s(leaf, 1)
    assert torch.equal(actions, expected)
    torch.testing.assert_close(policy.log_prob, log_prob, **CLOSE)
    grads = policy.backward(torch.ones(1, 3, 1, **DOUBLE), 0.5)
    (wanted,) = torch.autograd.grad(expected.sum() + 0.5 * log_prob.sum(), leaf)
    torch.testing.assert_close(grads, wanted, **CLOSE)


@pytest.mark.parametrize("scale", [0.3, 3.0, 6.0])
def test_float32_is_about_as_close_to_the_truth_as_torch_is(scale: float) -> None:
    """Near the bounds ``1 - a²`` has few digits: nobody's float32 has more than two or three."""
    parameters = parameters_of(400, 2, dtype=torch.float32) * scale
    noise = torch.randn(400, 2)
    policy = Policy(parameters)
    torch.manual_seed(1)
    policy.act()
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


def temporal_differences(
    values: Tensor,
    next_values: Tensor,
    rewards: Tensor,
    discounts: Tensor,
    share: float,
    log_prob: Tensor | None = None,
    ent_coef: float = 0.0,
    subset: Sequence[int] = (),
) -> tuple[float, Tensor]:
    """The sum of the squared differences, and the gradients of the values."""
    batch_size, dtype = values.shape[1], values.dtype
    online, targets = Values(values), Values(next_values)
    found = parts(batch_size, dtype)
    policy = None
    if log_prob is not None:
        policy = ops.Squash(Panels(batch_size, 2, dtype), 0, Panels(batch_size, 1, dtype))
        policy.log_prob.fill(log_prob[:, None])
    coefficient = torch.tensor(ent_coef, dtype=torch.float64)
    operation = ops.differences(
        *(online.networks, targets.networks, 0, share, found),
        policy=policy,
        ent_coef=coefficient.data_ptr(),
        subset=len(subset),
    )
    slots = [rewards, discounts, torch.tensor([*subset, 0])]
    once_done([operation], batch_size, dtype, slots)
    return found.sum().item(), torch.stack([x.matrix() for x in online.grads])


@pytest.mark.parametrize("heads", [1, 2, 3, 10])
@pytest.mark.parametrize("batch_size", [1, 5, 64])
@pytest.mark.parametrize("with_entropy", [True, False])
def test_differences(heads: int, batch_size: int, with_entropy: bool) -> None:
    values = torch.randn(heads, batch_size, 1, **DOUBLE)
    following = torch.randn(heads, batch_size, 1, **DOUBLE)
    rewards, discounts = transitions(batch_size)
    log_prob = torch.randn(batch_size, **DOUBLE) if with_entropy else None
    entropy = (log_prob, 0.7) if with_entropy else ()
    found, grads = temporal_differences(values, following, rewards, discounts, 0.31, *entropy)

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
    found, grads = temporal_differences(
        *(given[x] for x in ("values", "following", "rewards", "discounts")),
        *(1.0, given["log_prob"], 0.5),
    )
    assert math.isnan(found)
    expected = torch.zeros(3, 6, dtype=torch.bool)
    expected[head if where == "values" else slice(None), 2] = True
    assert torch.equal(grads[..., 0].isnan(), expected)


@pytest.mark.parametrize("subset", [[0], [3], [1, 2], [0, 2, 4], [0, 1, 2, 3, 4]])
def test_a_subset_of_the_targets(subset: list[int]) -> None:
    values, following = torch.randn(2, 5, 9, 1, **DOUBLE)
    rewards, discounts = transitions(9)
    found = temporal_differences(values, following, rewards, discounts, 1.0, subset=subset)
    asked = following[subset].expand(5 if len(subset) == 1 else -1, -1, -1)
    padded = torch.cat((asked, asked[:1].expand(5 - len(asked), -1, -1)))
    wanted = temporal_differences(values, padded, rewards, discounts, 1.0)
    assert found[0] == wanted[0]
    assert torch.equal(found[1], wanted[1])


# --- The least value, and all of them -------------------------------------------------------------


def climbed(values: Tensor, share: float, climb: Any = ops.least) -> tuple[float, Tensor]:
    """The sum of what is climbed, and the gradients of the values."""
    of, (_, batch_size, _) = Values(values), values.shape
    found = parts(batch_size, values.dtype)
    once_done([climb(of.networks, share, found)], batch_size, values.dtype)
    return found.sum().item(), torch.stack([x.matrix() for x in of.grads])


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_all_values(heads: int, batch_size: int) -> None:
    values = torch.randn(heads, batch_size, 1, **DOUBLE)
    found, grads = climbed(values, -0.25, ops.every)
    assert found == pytest.approx(values.sum().item(), rel=1e-12, abs=1e-12)
    assert (grads == -0.25).all()


@pytest.mark.parametrize("heads", [1, 2, 3, 10])
@pytest.mark.parametrize("batch_size", [1, 5, 64])
@pytest.mark.parametrize("ties", [True, False])
def test_least_values(heads: int, batch_size: int, ties: bool) -> None:
    values = torch.randn(heads, batch_size, 1, **DOUBLE)
    if ties:
        values = values.round()
    found, grads = climbed(values, -0.25)
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
    found, grads = climbed(values, 1.0)
    assert math.isnan(found)
    assert grads[head, 2] == 1
    assert torch.equal(grads.sum(0), torch.ones(6, 1, dtype=dtype))


def test_infinite_values() -> None:
    values = torch.randn(2, 3, 1, **DOUBLE)
    values[0, 0], values[1, 1] = torch.inf, -torch.inf
    found, grads = climbed(values, 1.0)
    assert found == -math.inf
    assert grads[:, :2, 0].tolist() == [[0, 0], [1, 1]]


# --- Deterministic actors -------------------------------------------------------------------------


@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_squashed_outputs(batch_size: int, noisy: bool) -> None:
    x, noise = torch.randn(2, batch_size, 3, **DOUBLE)
    to = panels_of(torch.full((batch_size, 5), 7.0, **DOUBLE))
    tanh = ops.Tanh(panels_of(x), to, 1, 3, 0 if noisy else None)
    once_done([tanh.forward()], batch_size, torch.float64, [noise])
    leaf = x.clone().requires_grad_()
    actions = leaf.tanh()
    expected = (actions + noise).clamp(-1, 1) if noisy else actions
    found = to.matrix()
    torch.testing.assert_close(found[:, 1:4], expected, **CLOSE)
    assert (found[:, [0, 4]] == 7).all()
    if noisy:
        return
    to_actions = torch.randn(2, batch_size, 3, **DOUBLE)
    values, grads = Values(input_grads=to_actions), Panels(batch_size, 3, torch.float64)
    back = tanh.backward(values.networks, grads.address())
    once_done([back], batch_size, torch.float64)
    (wanted,) = torch.autograd.grad((actions * to_actions.sum(0)).sum(), leaf)
    torch.testing.assert_close(grads.matrix(), wanted, **CLOSE)
