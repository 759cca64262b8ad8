"""Optimiser steps and averaging in C, against torch's optimisers tensor by tensor, and SB3's."""

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from stable_baselines3.common.utils import polyak_update
from torch import Tensor, nn
from torch.optim import Adam, AdamW
from torch.optim import optimizer as torch_optimizer

from snrl.fast import steps
from snrl.fast.steps import Average
from snrl.spectral import SpectralNormalizer, native
from snrl.spectral.modes import MODES
from snrl.spectral.native import structures

pytestmark = pytest.mark.skipif(not native.is_available(), reason="no compiler")
SHAPES = ((7, 5), (7,), (1, 300), (1,), (), (40, 41))
RTOL = {torch.float64: 1e-12, torch.float32: 2e-6}


class Stepper:
    """The step of one optimiser."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer

    def step(self) -> None:
        steps.step(self._optimizer)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the parameters that each call of C steps, which has to find what the tables name."""
    found: list[int] = []
    real = native.library

    class Spy:
        def __init__(self, dtype: torch.dtype) -> None:
            self._real = real(dtype)

        def adam(self, address: int, count: int, *args: Any) -> None:
            rows = (structures.Parameter * count).from_address(address)
            held = {}
            for param, state in owner[0]._optimizer.state.items():
                wanted = (param, param.grad, state["exp_avg"], state["exp_avg_sq"], state["step"])
                held[param.data_ptr()] = [None if x is None else x.data_ptr() for x in wanted]
            for x in rows:
                row = [x.p, x.g, x.m, x.v, x.steps]
                assert held.get(x.p) == row, "addresses of what is not there any more"
            found.append(count)
            self._real.adam(address, count, *args)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    owner: list[Stepper] = []
    original = Stepper.step

    def watched(self: Stepper) -> None:
        owner[:] = [self]
        original(self)

    monkeypatch.setattr(Stepper, "step", watched)
    monkeypatch.setattr(native, "library", Spy)
    return found


def params_of(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in SHAPES]


def pair(optimizer: Any, dtype: torch.dtype = torch.float64, **options: Any) -> tuple[Any, Any]:
    """Two optimisers of equal parameters, in two groups; the second goes one tensor at a time."""
    params = params_of(dtype)
    copies = copy.deepcopy(params)

    def build(params: list[Tensor], **more: Any) -> Any:
        groups = [{"params": params[:2]}, {"params": params[2:], "lr": 3e-2}]
        return optimizer(groups, lr=1e-2, **options, **more)

    return build(params), build(copies, foreach=False)


def all_params(optimizer: Any) -> list[Tensor]:
    return [param for group in optimizer.param_groups for param in group["params"]]


def give(mine: Any, theirs: Any) -> None:
    """Set equal gradients, in the memory that is there."""
    for a, b in zip(all_params(mine), all_params(theirs), strict=True):
        grad = torch.randn_like(a) * 10 ** (4 * torch.rand(()).item() - 3)
        b.grad = grad.clone()
        a.grad = grad if a.grad is None else a.grad.copy_(grad)


def assert_same(mine: Any, theirs: Any) -> None:
    rtol = RTOL[all_params(mine)[0].dtype]
    a, b = mine.state_dict(), theirs.state_dict()
    assert a["state"].keys() == b["state"].keys()
    pairs = [
        *zip(all_params(mine), all_params(theirs), strict=True),
        *((a["state"][i][k], x) for i, kept in b["state"].items() for k, x in kept.items()),
    ]
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=rtol, atol=rtol)
    for one, other in zip(a["param_groups"], b["param_groups"], strict=True):
        assert {**one, "foreach": False} == other


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("optimizer", [Adam, AdamW])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.1},
        {"maximize": True, "weight_decay": 0.2},
        {"betas": (0.5, 0.7), "eps": 1e-2},
        {"betas": (0.9, 0.0)},
    ],
)
def test_steps_are_those_of_torch(
    optimizer: Any, options: dict[str, Any], dtype: torch.dtype, calls: list[int]
) -> None:
    mine, theirs = pair(optimizer, dtype, **options)
    stepper = Stepper(mine)
    for _ in range(50 if dtype is torch.float64 else 10):
        give(mine, theirs)
        stepper.step()
        theirs.step()
    assert_same(mine, theirs)
    # The first is torch's, which makes the state.
    assert calls[:2] == [2, 4]
    assert len(calls) == 2 * (49 if dtype is torch.float64 else 9)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_number_of_threads(count: int, calls: list[int]) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        mine, theirs = pair(Adam)
        stepper = Stepper(mine)
        for _ in range(5):
            give(mine, theirs)
            stepper.step()
            theirs.step()
    finally:
        torch.set_num_threads(before)
    assert_same(mine, theirs)
    assert calls


def lower_rates(optimizer: Any) -> None:
    for group in optimizer.param_groups:
        group["lr"] *= 0.1


def other_options(optimizer: Any) -> None:
    for group in optimizer.param_groups:
        group.update(betas=(0.3, 0.4), eps=0.1, weight_decay=0.3, maximize=True)


def reload(optimizer: Any) -> None:
    state = copy.deepcopy(optimizer.state_dict())
    for kept in state["state"].values():
        kept["exp_avg"] += 1
        kept["step"] += 3
    optimizer.load_state_dict(state)


def forget(optimizer: Any) -> None:
    optimizer.state.clear()


def foreign_hook(optimizer: Any) -> None:
    def halve(*_: Any) -> None:
        for param in all_params(optimizer):
            param.grad.mul_(0.5)  # type: ignore[union-attr]

    optimizer.register_step_pre_hook(halve)


def want_amsgrad(optimizer: Any) -> None:
    for group in optimizer.param_groups:
        group["amsgrad"] = True
        for param in group["params"]:
            optimizer.state[param]["max_exp_avg_sq"] = torch.zeros_like(param)


def fresh_moments(optimizer: Any) -> None:
    for kept in optimizer.state.values():
        kept["exp_avg"] = torch.zeros_like(kept["exp_avg"])


def fresh_counts(optimizer: Any) -> None:
    for kept in optimizer.state.values():
        kept["step"] = torch.zeros_like(kept["step"])


def one_more_group(optimizer: Any) -> None:
    fresh = nn.Parameter(torch.ones(3, dtype=torch.float64))
    fresh.grad = torch.ones_like(fresh)
    optimizer.add_param_group({"params": [fresh]})


def one_group_less(optimizer: Any) -> None:
    for param in optimizer.param_groups.pop(0)["params"]:
        optimizer.state.pop(param, None)


def other_order(optimizer: Any) -> None:
    optimizer.param_groups.reverse()


def moved(optimizer: Any) -> None:
    for param in all_params(optimizer):
        param.data = param.data + 1


def wrapped(optimizer: Any) -> None:
    inner = optimizer.step

    def step() -> None:
        lower_rates(optimizer)
        inner()

    optimizer.step = step


@pytest.mark.parametrize(
    "change",
    [
        lower_rates,
        other_options,
        reload,
        forget,
        foreign_hook,
        want_amsgrad,
        wrapped,
        fresh_moments,
        fresh_counts,
        one_more_group,
        one_group_less,
        other_order,
        moved,
    ],
)
def test_changes_between_steps_are_followed(change: Any, calls: list[int]) -> None:
    mine, theirs = pair(AdamW)
    stepper = Stepper(mine)
    for step in range(8):
        give(mine, theirs)
        if step == 4:
            change(mine)
            change(theirs)
        stepper.step()
        theirs.step()
    assert calls
    assert_same(mine, theirs)


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [(Adam, {"amsgrad": True}), (torch.optim.SGD, {"momentum": 0.9}), (torch.optim.RMSprop, {})],
)
def test_other_optimisers_are_left_to_torch(
    optimizer: Any, options: dict[str, Any], calls: list[int]
) -> None:
    mine, theirs = pair(optimizer, **options)
    stepper = Stepper(mine)
    for _ in range(5):
        give(mine, theirs)
        stepper.step()
        theirs.step()
    assert_same(mine, theirs)
    assert not calls


def test_a_learning_rate_that_is_a_tensor_is_left_to_torch(calls: list[int]) -> None:
    mine, theirs = (x for x in pair(Adam))
    for optimizer in (mine, theirs):
        for group in optimizer.param_groups:
            group["lr"] = torch.tensor(0.01, dtype=torch.float64)
    stepper = Stepper(mine)
    for _ in range(3):
        give(mine, theirs)
        stepper.step()
        theirs.step()
    assert not calls
    for a, b in zip(all_params(mine), all_params(theirs), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", ["pre", "post", "global pre", "global post"])
def test_hooks_of_others_are_called(kind: str, calls: list[int]) -> None:
    mine, theirs = pair(Adam)
    stepper = Stepper(mine)
    seen = []

    def hook(optimizer: Any, *_: Any) -> None:
        if optimizer is mine:
            seen.append(kind)

    register = {
        "pre": mine.register_step_pre_hook,
        "post": mine.register_step_post_hook,
        "global pre": torch_optimizer.register_optimizer_step_pre_hook,
        "global post": torch_optimizer.register_optimizer_step_post_hook,
    }[kind]
    handle = None
    for step in range(6):
        give(mine, theirs)
        if step == 2:
            handle = register(hook)
        if step == 4:
            assert handle is not None
            handle.remove()
        stepper.step()
        theirs.step()
    assert len(seen) == 2
    assert len(calls) == 2 * 3
    assert_same(mine, theirs)


def test_a_scheduler_counts_the_steps(calls: list[int]) -> None:
    mine, theirs = pair(Adam)
    schedulers = [torch.optim.lr_scheduler.ExponentialLR(x, 0.9) for x in (mine, theirs)]
    stepper = Stepper(mine)
    for _ in range(4):
        give(mine, theirs)
        stepper.step()
        theirs.step()
        for scheduler in schedulers:
            scheduler.step()
    assert_same(mine, theirs)
    assert not calls


def test_a_scheduler_that_comes_later_counts_the_steps() -> None:
    mine, theirs = pair(Adam)
    stepper = Stepper(mine)
    for _ in range(2):
        give(mine, theirs)
        stepper.step()
    scheduler = torch.optim.lr_scheduler.ExponentialLR(mine, 0.9)
    give(mine, theirs)
    stepper.step()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        scheduler.step()
    assert not found  # that scheduler.step() came before optimizer.step()


def test_a_gradient_that_is_missing_leaves_its_parameter(calls: list[int]) -> None:
    mine, theirs = pair(Adam)
    stepper = Stepper(mine)
    for step in range(6):
        give(mine, theirs)
        if step in (0, 3):
            for optimizer in (mine, theirs):
                all_params(optimizer)[1].grad = None
        stepper.step()
        theirs.step()
    assert calls
    assert_same(mine, theirs)


def test_a_count_of_steps_in_float64() -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        mine, theirs = pair(Adam)
        stepper = Stepper(mine)
        for _ in range(3):
            give(mine, theirs)
            stepper.step()
            theirs.step()
    finally:
        torch.set_default_dtype(before)
    assert_same(mine, theirs)


@pytest.mark.parametrize("optimizer", [Adam, AdamW])
def test_groups_as_older_torch_has_them(optimizer: Any) -> None:
    mine, theirs = pair(optimizer, weight_decay=0.1)
    stepper = Stepper(mine)
    decoupled = mine.param_groups[0]["decoupled_weight_decay"]
    for step in range(4):
        give(mine, theirs)
        if step:
            for group in mine.param_groups:
                del group["decoupled_weight_decay"]
        stepper.step()
        theirs.step()
        for group in mine.param_groups:
            group["decoupled_weight_decay"] = decoupled
    assert_same(mine, theirs)


@pytest.mark.parametrize(
    "mode",
    [mode for mode in MODES if mode not in ("gain", "div_out")],
)
def test_modes_act_around_the_step(mode: str) -> None:
    nets = []
    for _ in range(2):
        torch.manual_seed(3)
        net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
        normalizer = SpectralNormalizer(mode=mode, n_power_iterations=30)
        net.double()[2].weight.data.mul_(5)
        normalizer.add([net[2]], [net])
        nets.append((net, normalizer.double()))
        normalizer.reset()
    optimizers = [Adam(net.parameters(), lr=1e-2, eps=1e-1, foreach=False) for net, _ in nets]
    stepper = Stepper(optimizers[0])
    for _ in range(10):
        give(*optimizers)
        stepper.step()
        optimizers[1].step()
    assert_same(*optimizers)
    sigmas = [normalizer.sigma(net[2]) for net, normalizer in nets]
    torch.testing.assert_close(*sigmas, rtol=1e-9, atol=0)


def test_steps_raise_versions() -> None:
    mine, _ = pair(Adam)
    stepper = Stepper(mine)
    for _ in range(3):
        give(mine, mine)
        before = [param._version for param in all_params(mine)]
        stepper.step()
        assert all(p._version > v for p, v in zip(all_params(mine), before, strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("tau", [0.005, 0.0, 1.0])
@pytest.mark.parametrize("threads", [1, 2])
def test_averages_are_those_of_sb3(dtype: torch.dtype, tau: float, threads: int) -> None:
    params, targets = params_of(dtype), params_of(dtype)
    expected = copy.deepcopy(targets)
    average = Average(params, targets)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for _ in range(20):
            for param in params:
                param.data.add_(torch.randn_like(param))
            versions = [target._version for target in targets]
            average.move(tau)
            polyak_update(params, expected, tau)
            assert all(t._version > v for t, v in zip(targets, versions, strict=True))
    finally:
        torch.set_num_threads(before)
    for a, b in zip(targets, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=RTOL[dtype], atol=RTOL[dtype])


@pytest.fixture(autouse=True)
def own_hooks_alone() -> Iterator[None]:
    """Nothing is left behind that would send later tests the slow way."""
    yield
    left = list(steps._hooks(Adam([nn.Parameter(torch.zeros(1))])))
    assert all(hook in steps._OWN_HOOKS for hook in left)
