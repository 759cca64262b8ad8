"""Products in bfloat16, against operands that torch rounds and products in float64."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snrl
from snrl.passes import networks
from snrl.passes.evaluator import Evaluator
from snrl.spectral import native

needs_bfloat16 = pytest.mark.skipif(
    not native.has_bfloat16(), reason="the processor has no products of bfloat16"
)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


both_ways = pytest.mark.usefixtures("way")


@pytest.fixture(params=["amx", "avx512"])
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each of the ways to compute them; a processor may have the second alone."""
    wanted = {"amx": 2, "avx512": 1}[request.param]
    found = native.library(torch.float32).choose_bfloat16(wanted == 2)
    if found != wanted:
        native.library(torch.float32).choose_bfloat16(True)
        pytest.skip("the processor has no AMX")
    yield
    native.library(torch.float32).choose_bfloat16(True)


class Rounded(torch.autograd.Function):
    """``x Wᵀ`` of rounded operands, and gradients that are such products too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return as_rounded(x) @ as_rounded(weight).T

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        grad = as_rounded(grad)
        return grad @ as_rounded(weight), grad.T @ as_rounded(x)


def as_rounded(x: Tensor) -> Tensor:
    return x.float().bfloat16().double()


def chain(widths: tuple[int, ...]) -> nn.Sequential:
    layers = [y for n, m in pairwise(widths) for y in (nn.Linear(n, m), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def oracle(network: nn.Sequential, x: Tensor) -> list[Tensor]:
    """The value and all gradients of its sum."""
    x = x.detach().double().requires_grad_()
    copies = []
    y = x
    for module in network:
        if isinstance(module, nn.Linear):
            weight, bias = (p.detach().double().requires_grad_() for p in module.parameters())
            copies += [weight, bias]
            large = min(weight.shape) >= 32
            y = (Rounded.apply(y, weight) if large else y @ weight.T) + bias  # type: ignore[no-untyped-call]
        else:
            y = y.relu()
    return [y, *torch.autograd.grad(y.sum(), [x, *copies])]


def computed(network: nn.Sequential, x: Tensor) -> list[Tensor]:
    """The same by C, in the precision that is set."""
    x = x.detach().requires_grad_()
    found = Evaluator([network])(x)
    assert found is not None
    return [*found, *torch.autograd.grad(found[0].sum(), [x, *network.parameters()])]


def assert_near(found: list[Tensor], expected: list[Tensor], rtol: float) -> None:
    for one, other in zip(found, expected, strict=True):
        scale = other.abs().max().item()
        torch.testing.assert_close(one.double(), other, rtol=0, atol=rtol * scale)


@needs_bfloat16
@both_ways
@pytest.mark.parametrize("batch", [3, 31, 32, 65, 256])
@pytest.mark.parametrize(
    "widths", [(40, 64, 1), (33, 47, 79, 2), (5, 100, 32, 1), (64, 96)], ids=str
)
def test_each_operand_is_rounded_once_and_nothing_else(widths: tuple[int, ...], batch: int) -> None:
    network, x = chain(widths), torch.randn(batch, widths[0])
    expected = oracle(network, x)
    torch.set_float32_matmul_precision("medium")
    found = computed(network, x)
    # A value at the border between two roundings may fall to either side of it.
    assert_near(found, expected, 2e-3)
    exact = computed(network.double(), x.double())
    if len(widths) == 2:
        # One product: no operand has been computed before, and the sums are those of float32.
        assert_near(found, expected, 1e-5)
        assert (found[0] - exact[0]).abs().max() > 1e-3


@needs_bfloat16
@both_ways
def test_what_is_not_finite_stays_so() -> None:
    network, x = chain((64, 64, 64)), torch.randn(40, 64)
    x[3, 5], x[35, 1] = torch.nan, torch.inf
    torch.set_float32_matmul_precision("medium")
    values = computed(network, x)[0]
    assert values[3].isnan().all()
    assert not values[35].isfinite().all()
    assert values[[i for i in range(40) if i not in (3, 35)]].isfinite().all()


@needs_bfloat16
@both_ways
def test_rows_do_not_depend_on_the_rows_beside_them() -> None:
    torch.set_float32_matmul_precision("medium")
    network, x = chain((48, 80, 33)), torch.randn(70, 48)
    whole = computed(network, x)[0]
    for rows in (x[:5], x[:33], x[:64]):
        assert torch.equal(computed(network, rows)[0], whole[: len(rows)])


@needs_bfloat16
def test_the_setting_is_followed_from_call_to_call() -> None:
    network, x = chain((64, 64, 64)), torch.randn(64, 64)
    evaluator = Evaluator([network])
    found = {}
    for name in ("highest", "medium", "high", "medium", "highest"):
        torch.set_float32_matmul_precision(name)
        (values,) = evaluator(x)  # type: ignore[misc]
        assert torch.equal(found.setdefault(name, values), values)
    assert torch.equal(found["highest"], found["high"])
    assert not torch.equal(found["highest"], found["medium"])


def test_float64_is_never_rounded() -> None:
    network, x = chain((64, 64, 64)).double(), torch.randn(64, 64, dtype=torch.float64)
    exact = computed(network, x)
    torch.set_float32_matmul_precision("medium")
    for one, other in zip(computed(network, x), exact, strict=True):
        assert torch.equal(one, other)


def test_a_processor_without_such_products_computes_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, x = chain((64, 64, 64)), torch.randn(64, 64)
    exact = computed(network, x)
    monkeypatch.setattr(networks.native, "has_bfloat16", lambda: False)
    torch.set_float32_matmul_precision("medium")
    for one, other in zip(computed(network, x), exact, strict=True):
        assert torch.equal(one, other)


def trained(algo: str, name: str, threads: int, steps: int = 8) -> list[Tensor]:
    """Parameters after some updates."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(name)
    try:
        model = getattr(snrl, algo)("SNMlpPolicy", "Pendulum-v1", seed=0, learning_starts=64)
        model.learn(64 + steps)
    finally:
        torch.set_num_threads(before)
    return [x.detach().clone() for x in model.policy.parameters()]


@needs_bfloat16
@both_ways
@pytest.mark.parametrize("algo", ["SAC", "TD3"])
def test_an_update_in_bfloat16_is_near_one_in_float32_whatever_the_threads(algo: str) -> None:
    exact = trained(algo, "highest", 1)
    rounded = [trained(algo, "medium", threads) for threads in (1, 2)]
    for one, two, other in zip(*rounded, exact, strict=True):
        assert torch.equal(one, two)
        assert (one - other).norm() < 0.05 * other.norm() + 1e-3
    assert any(not torch.equal(one, other) for one, other in zip(rounded[0], exact, strict=True))
