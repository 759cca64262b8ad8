"""Networks forward and backward in C, against autograd with every effective weight formed."""

import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snrl.passes.networks import Joint, why_not
from snrl.passes.watch import Watch
from snrl.spectral import SpectralNormalizer, native
from snrl.spectral.layers import SpectralLinear

from .passes import Passes

pytestmark = pytest.mark.skipif(not native.is_available(), reason="no compiler")
CLOSE = {"rtol": 1e-11, "atol": 1e-12}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def threads() -> Iterator[Any]:
    """Sets how many threads torch has; undone at the end."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def chain_of(widths: Sequence[int], bias: bool = True, dtype: torch.dtype = torch.float64) -> Any:
    layers: list[nn.Module] = []
    for n, m in pairwise(widths):
        layers += [nn.Linear(n, m, bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).to(dtype)


def groups_of(
    n_groups: int, heads: int, widths: Sequence[int], **kwargs: Any
) -> list[list[nn.Sequential]]:
    return [[chain_of(widths, **kwargs) for _ in range(heads)] for _ in range(n_groups)]


def normalised(groups: Any, positions: Sequence[int], mode: str, coef: float) -> SpectralNormalizer:
    """Normalise linear layers, by their place in each network."""
    normalizer = SpectralNormalizer(coef, mode=mode)
    layers = [[x for x in network if isinstance(x, nn.Linear)] for g in groups for network in g]
    normalizer.add([linear[i] for i in positions for linear in layers])
    return normalizer.double()


def formed(network: Any, x: Tensor) -> Tensor:
    """What a network computes, by operations that autograd knows."""
    for module in network:
        if isinstance(module, Joint):
            x = torch.cat([nn.functional.linear(x, y.weight, y.bias) for y in module.layers], 1)
        elif isinstance(module, nn.Linear):
            special = isinstance(module, SpectralLinear)
            weight = module.effective_weight() if special else module.weight
            x = nn.functional.linear(x, weight, module.bias)
        else:
            x = module(x)
    return x


def parameters_of(networks: Any) -> list[Tensor]:
    layers = [x for network in networks for x in network]
    parts = [y for x in layers for y in (x.layers if isinstance(x, Joint) else [x])]
    return [param for part in parts for param in part.parameters()]


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "LayerNorm": nn.LayerNorm,
    "LayerNorm, large eps": lambda m: nn.LayerNorm(m, eps=0.1),
    "LayerNorm without bias": lambda m: nn.LayerNorm(m, bias=False),
    "LayerNorm without parameters": lambda m: nn.LayerNorm(m, elementwise_affine=False),
    "RMSNorm": nn.RMSNorm,
    "RMSNorm, large eps": lambda m: nn.RMSNorm(m, eps=0.1),
    "RMSNorm without parameters": lambda m: nn.RMSNorm(m, elementwise_affine=False),
}


def normed(groups: Any, kind: str, positions: Sequence[int] = (0, 1)) -> Any:
    """Insert norms with parameters drawn at random behind linear layers, by their place."""
    for network in (network for group in groups for network in group):
        linear = [i for i, x in enumerate(network) if isinstance(x, nn.Linear)]
        for at in sorted((linear[position] for position in positions), reverse=True):
            norm = NORMS[kind](network[at].out_features).to(network[at].weight.dtype)
            for param in norm.parameters():
                nn.init.uniform_(param, -1.5, 1.5)
            network.insert(at + 1, norm)
    return groups


def check(
    groups: Any, batch_size: int, n_inputs: int, *, from_column: int = 0, padding: int = 0
) -> None:
    """Compare values, and gradients of all parameters and of the input, at two places."""
    passes = Passes(groups, batch_size, from_column=from_column)
    passes.networks.give_gradients()
    trained = parameters_of(groups[0])
    options = {"dtype": trained[0].dtype}
    for _ in range(2):
        inputs = [torch.randn(batch_size, n_inputs + padding, **options) for _ in groups]
        inputs = [x[:, :n_inputs].requires_grad_() for x in inputs]
        expected = [
            torch.stack([formed(net, x) for net in g]) for g, x in zip(groups, inputs, strict=True)
        ]
        with torch.no_grad():
            mine = passes.forward(*inputs)
        torch.testing.assert_close(mine, torch.cat(expected), **CLOSE)

        cotangent = torch.randn_like(expected[0])
        copies = [inputs[0].detach().clone().requires_grad_() for _ in groups[0]]
        single = torch.stack([formed(net, x) for net, x in zip(groups[0], copies, strict=True)])
        wanted = torch.autograd.grad(single, [*copies, *trained], cotangent)
        passes.input_grads.fill_(torch.nan)
        passes.output_grads.copy_(cotangent)
        passes.backward(to_weights=True, to_input=True)
        to_input = torch.stack(wanted[: len(copies)])[..., from_column:]
        torch.testing.assert_close(passes.input_grads, to_input, **CLOSE)
        for param, grad in zip(trained, wanted[len(copies) :], strict=True):
            assert param.grad is not None
            torch.testing.assert_close(param.grad, grad, **CLOSE)


@pytest.mark.parametrize("heads", range(1, 11))
def test_any_number_of_heads(heads: int) -> None:
    check(groups_of(1, heads, (5, 7, 6, 1)), 9, 5, from_column=3)


@pytest.mark.parametrize("depth", range(5))
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_size", [1, 8])
def test_any_depth(depth: int, bias: bool, batch_size: int) -> None:
    check(groups_of(2, 2, (5, *range(6, 6 + depth), 3), bias=bias), batch_size, 5, from_column=2)


@pytest.mark.parametrize("widths", [(1, 1, 1), (2, 300, 1), (300, 3, 2), (130, 129, 127, 65)])
def test_wide_and_narrow(widths: tuple[int, ...]) -> None:
    check(groups_of(1, 2, widths), 33, widths[0])


@pytest.mark.parametrize("from_column", [0, 4])
def test_rows_of_the_input_at_any_distance(from_column: int) -> None:
    check(groups_of(2, 3, (5, 8, 1)), 6, 5, from_column=from_column, padding=4)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("heads", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 2, 50])
def test_any_number_of_threads(threads: Any, count: int, heads: int, batch_size: int) -> None:
    threads(count)
    groups = groups_of(2, heads, (5, 40, 2, 41, 1))
    normalised(groups, (1, 2), "normalize", 1.0)
    check(groups, batch_size, 5, from_column=3)


@pytest.mark.parametrize(
    ("mode", "coef"), [("normalize", 1.3), ("cap", 0.3), ("cap", 30.0), ("bidirectional", 0.7)]
)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("positions", [(0,), (1,), (2,), (0, 1, 2)])
def test_normalised_layers(mode: str, coef: float, bias: bool, positions: tuple[int, ...]) -> None:
    groups = groups_of(2, 3, (5, 7, 6, 1), bias=bias)
    normalised(groups, positions, mode, coef)
    check(groups, 9, 5, from_column=3)


# --- Norms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("positions", [(0,), (1,), (0, 1), (0, 1, 2)])
def test_norms(kind: str, positions: tuple[int, ...]) -> None:
    """The last of these also where no rectifier follows, and of a single number."""
    check(normed(groups_of(2, 3, (5, 7, 6, 1)), kind, positions), 9, 5, from_column=3)
    check(normed(groups_of(2, 2, (5, 7, 6, 4)), kind, positions), 9, 5)


@pytest.mark.parametrize("kind", ["LayerNorm", "RMSNorm"])
def test_norms_of_layers_without_bias(kind: str) -> None:
    check(normed(groups_of(2, 2, (5, 7, 6, 1), bias=False), kind), 9, 5)


@pytest.mark.parametrize("kind", ["LayerNorm", "RMSNorm"])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("batch_size", [1, 100])
def test_norms_on_any_number_of_threads(
    threads: Any, kind: str, count: int, batch_size: int
) -> None:
    threads(count)
    check(normed(groups_of(2, 1, (5, 40, 41, 1)), kind), batch_size, 5)
    check(normed(groups_of(2, 4, (5, 40, 41, 1)), kind), batch_size, 5)


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize(("mode", "coef"), [("normalize", 1.3), ("cap", 0.3)])
def test_norms_of_normalised_layers(kind: str, mode: str, coef: float) -> None:
    groups = normed(groups_of(2, 3, (5, 7, 6, 1)), kind)
    normalised(groups, (0, 1, 2), mode, coef)
    check(groups, 9, 5, from_column=3)


@pytest.mark.parametrize("kind", ["LayerNorm", "RMSNorm"])
def test_norms_of_rows_without_spread(kind: str) -> None:
    """What is divided by then is the root of eps."""
    groups = normed(groups_of(1, 2, (5, 7, 6, 1)), kind)
    with torch.no_grad():
        for network in groups[0]:
            network[0].weight.zero_()
            network[0].bias.fill_(1e-3)
    check(groups, 4, 5)


@pytest.mark.parametrize("kind", ["LayerNorm", "RMSNorm"])
def test_norms_in_float32_are_as_close_to_the_truth_as_autograd_is(kind: str) -> None:
    """Also where the mean is far above the spread, which no single pass over a row survives."""
    groups = normed(groups_of(1, 2, (17, 64, 64, 1), dtype=torch.float32), kind)
    with torch.no_grad():
        for network in groups[0]:
            network[0].bias.add_(100)
    truth = [copy.deepcopy(network).double() for network in groups[0]]
    for norm in (x for network in truth for x in network if isinstance(x, nn.RMSNorm)):
        norm.eps = torch.finfo(torch.float32).eps
    passes = Passes(groups, 64, from_column=3)
    passes.networks.give_gradients()
    x = torch.randn(64, 17)
    with torch.no_grad():
        mine = passes.forward(x).clone()
    passes.output_grads.fill_(1)
    passes.backward(to_weights=True, to_input=False)
    exact = torch.stack([formed(network, x.double()) for network in truth])
    theirs = torch.stack([formed(network, x) for network in groups[0]])
    assert (mine - exact).abs().max() <= 4 * (theirs - exact).abs().max()
    wanted = torch.autograd.grad(exact.sum(), parameters_of(truth))
    stock = torch.autograd.grad(theirs.sum(), parameters_of(groups[0]))
    for param, grad, close in zip(parameters_of(groups[0]), wanted, stock, strict=True):
        assert param.grad is not None
        allowed = 4 * (close - grad).abs().max() + 1e-6 * grad.abs().max()
        assert (param.grad - grad).abs().max() <= allowed


def test_a_step_moves_the_norm_that_is_applied() -> None:
    groups = groups_of(1, 2, (5, 7, 7, 1))
    normalizer = normalised(groups, (1,), "normalize", 1.0)
    passes = Passes(groups, 4)
    x = torch.randn(4, 5, dtype=torch.float64)
    for change in ("hand", "optimiser"):
        if change == "hand":
            with torch.no_grad():
                groups[0][0][2].weight.add_(torch.randn(7, 7, dtype=torch.float64))
            normalizer.reset()
        else:
            optimizer = torch.optim.SGD(parameters_of(groups[0]), lr=0.3)
            formed(groups[0][0], x).sum().backward()
            optimizer.step()
        with torch.no_grad():
            expected = torch.stack([formed(network, x) for network in groups[0]])
            torch.testing.assert_close(passes.forward(x), expected, **CLOSE)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("hidden", [(), (9,)])
def test_joint_layers(bias: bool, hidden: tuple[int, ...]) -> None:
    width = (5, *hidden)[-1]
    heads = [nn.Linear(width, m, bias).double() for m in (3, 2)]
    network = [*(chain_of((5, *hidden)) if hidden else []), *([nn.ReLU()] if hidden else [])]
    network.append(Joint(heads))
    check([[network], [network]], 7, 5)
    with torch.no_grad():
        for param in parameters_of([network]):
            param.mul_(1.5)
    check([[network], [network]], 7, 5)


def test_joint_layers_are_copied_anew_at_each_forward() -> None:
    joint = Joint([nn.Linear(4, 2).double(), nn.Linear(4, 3).double()])
    passes = Passes([[[joint]]], 5)
    x = torch.randn(5, 4, dtype=torch.float64)
    for _ in range(2):
        with torch.no_grad():
            torch.testing.assert_close(passes.forward(x)[0], formed([joint], x), **CLOSE)
            joint.layers[1].weight.add_(1)
            joint.layers[0].bias.add_(1)


def test_a_forward_of_the_first_group_alone() -> None:
    groups = groups_of(2, 3, (5, 7, 1))
    passes = Passes(groups, 4)
    x, y = torch.randn(2, 4, 5, dtype=torch.float64)
    with torch.no_grad():
        passes.forward(x, y)
        mine = passes.forward(y)
        assert mine.shape == (3, 4, 1)
        torch.testing.assert_close(mine, torch.stack([formed(g, y) for g in groups[0]]), **CLOSE)


def test_a_backward_writes_only_what_is_wanted() -> None:
    groups = groups_of(1, 2, (5, 7, 1))
    passes = Passes(groups, 4)
    passes.networks.give_gradients()
    x = torch.randn(4, 5, dtype=torch.float64)
    with torch.no_grad():
        passes.forward(x)
    params = parameters_of(groups[0])
    for to_weights in (True, False):
        passes.input_grads.fill_(7)
        for param in params:
            param.grad.fill_(7)  # type: ignore[union-attr]
        passes.output_grads.fill_(1)
        passes.backward(to_weights=to_weights, to_input=not to_weights)
        assert (passes.input_grads == 7).all() == to_weights
        assert all((param.grad == 7).all() for param in params) != to_weights


@pytest.mark.parametrize("threads_", [1, 3])
@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("batch_size", [1, 16, 17, 100])
@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 1.0])
def test_rows_without_a_gradient_may_be_left_out(
    threads: Any, threads_: int, depth: int, batch_size: int, share: float
) -> None:
    threads(threads_)
    groups = groups_of(1, 2, (5, *range(6, 6 + depth), 1))
    if depth:
        normalised(groups, (0,), "normalize", 1.3)
    passes = Passes(groups, batch_size, from_column=2)
    x = torch.randn(batch_size, 5, dtype=torch.float64)
    with torch.no_grad():
        passes.forward(x)
    grads = torch.randn_like(passes.output_grads)
    grads[torch.rand_like(grads) >= share] = 0
    found = []
    for some in (False, True):
        passes.input_grads.fill_(torch.nan)
        passes.output_grads.copy_(grads)
        passes.backward(to_weights=False, to_input=True, some=some)
        found.append(passes.input_grads.clone())
    torch.testing.assert_close(*found, **CLOSE)


def test_float32_is_as_close_to_the_truth_as_autograd_is() -> None:
    groups = groups_of(1, 2, (17, 64, 64, 1), dtype=torch.float32)
    truth = [[chain_of((17, 64, 64, 1)) for _ in groups[0]]]
    for one, other in zip(truth[0], groups[0], strict=True):
        one.load_state_dict(other.state_dict())
    passes = Passes(groups, 64)
    passes.networks.give_gradients()
    x = torch.randn(64, 17)
    with torch.no_grad():
        mine = passes.forward(x).clone()
    passes.output_grads.fill_(1)
    passes.backward(to_weights=True, to_input=False)
    exact = torch.stack([formed(network, x.double()) for network in truth[0]])
    theirs = torch.stack([formed(network, x) for network in groups[0]])
    assert (mine - exact).abs().max() <= 4 * (theirs - exact).abs().max()
    wanted = torch.autograd.grad(exact.sum(), parameters_of(truth[0]))
    for param, grad in zip(parameters_of(groups[0]), wanted, strict=True):
        assert param.grad is not None
        assert (param.grad - grad).abs().max() <= 1e-5 * grad.abs().max()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_stays_so(value: float) -> None:
    groups = groups_of(1, 2, (5, 7, 1))
    passes = Passes(groups, 4)
    passes.networks.give_gradients()
    x = torch.randn(4, 5, dtype=torch.float64)
    x[1, 2] = value
    expected = torch.stack([formed(network, x) for network in groups[0]])
    with torch.no_grad():
        mine = passes.forward(x)
    torch.testing.assert_close(mine, expected, equal_nan=True, **CLOSE)
    passes.output_grads.fill_(1)
    passes.backward(to_weights=True, to_input=False)
    wanted = torch.autograd.grad(expected.sum(), parameters_of(groups[0]))
    for param, grad in zip(parameters_of(groups[0]), wanted, strict=True):
        torch.testing.assert_close(param.grad, grad, equal_nan=True, **CLOSE)


# --- What it takes --------------------------------------------------------------------------------


class Other(nn.Linear):
    """May have a forward of its own."""


def frozen() -> nn.Sequential:
    network = chain_of((4, 5, 1))
    network[0].bias.requires_grad_(False)
    return network


def strided() -> nn.Sequential:
    network = chain_of((4, 5, 1))
    network[0].weight = nn.Parameter(torch.randn(4, 5).double().T)
    return network


def with_gain() -> nn.Sequential:
    network = chain_of((4, 5, 1))
    SpectralNormalizer(mode="gain").add([network[0]])
    return network


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)), "a layer of type Tanh"),
        (nn.Sequential(nn.Linear(4, 5), nn.ReLU6()), "a layer of type ReLU6"),
        (nn.Sequential(nn.ReLU(), nn.Linear(4, 5)), "a ReLU that follows no linear layer"),
        (nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.ReLU()), "a ReLU that follows no linear"),
        (nn.Sequential(Other(4, 5)), "a layer of type Other"),
        (nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 5)), "a LayerNorm that follows no linear"),
        (nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.RMSNorm(5)), "a RMSNorm that follows no"),
        (nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(1)), "a LayerNorm of another width"),
        (nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5, dtype=torch.float16)), "a weight that is"),
        (nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5)), "a layer of type BatchNorm1d"),
        (nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.1)), "a layer of type Dropout"),
        (nn.ModuleList([nn.Linear(4, 5)]), "a ModuleList in place of a chain"),
        (nn.Sequential(nn.Linear(4, 5)).bfloat16(), "a weight that is not on cpu"),
        (nn.Sequential(nn.Linear(4, 5, device="meta")), "a weight that is not on cpu"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)), "ParametrizedLinear"),
        (frozen(), "a weight that is not trained"),
        (strided(), "a weight that is not on cpu, contiguous"),
        (with_gain(), "a layer with a learned gain"),
    ],
)
def test_reasons_not_to(network: nn.Module, reason: str) -> None:
    found = why_not(network, torch.device("cpu"))
    assert found is not None
    assert reason in found


def test_nothing_is_said_of_linear_layers_norms_and_rectifiers() -> None:
    groups = groups_of(1, 1, (5, 7, 6, 1))
    normalised(groups, (1,), "normalize", 1.0)
    chains = [normed(groups_of(1, 1, (5, 7, 6, 1)), kind)[0][0] for kind in NORMS]
    for network in (*groups[0], *chains, nn.Linear(3, 2), chain_of((3, 2), bias=False)):
        assert why_not(network, torch.device("cpu")) is None


# --- Whether it still holds -----------------------------------------------------------------------


@pytest.fixture
def kept() -> tuple[nn.Sequential, SpectralNormalizer, Callable[[], bool]]:
    """A network, its normalizer, and whether what was prepared for them still holds."""
    groups = normed(groups_of(1, 2, (5, 7, 7, 1)), "LayerNorm", (2,))
    normalizer = normalised(groups, (1,), "normalize", 1.0)
    networks, watch = Passes(groups, 4).networks, Watch(groups[0])
    return groups[0][0], normalizer, lambda: networks.is_current() and watch.is_unchanged()


def test_steps_and_loads_in_place_are_followed(kept: Any) -> None:
    network, _, is_current = kept
    network.load_state_dict(
        normed([[chain_of((5, 7, 7, 1))]], "LayerNorm", (2,))[0][0].state_dict()
    )
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    assert is_current()


@pytest.mark.parametrize(
    "change",
    ["data", "parameter", "layer", "rectifier", "eps", "hook", "hook of all", "vectors", "dtype"],
)
def test_what_it_does_not_follow_is_noticed(kept: Any, change: str) -> None:
    network, normalizer, is_current = kept
    assert is_current()
    handle = None
    if change == "data":
        network[0].weight.data = network[0].weight.data.clone()
    elif change == "parameter":
        network[2].bias = nn.Parameter(network[2].bias.detach().clone())
    elif change == "layer":
        network[4] = nn.Linear(7, 1).double()
    elif change == "rectifier":
        network[1] = nn.Tanh()
    elif change == "eps":
        network[5].eps = 1e-3
    elif change == "hook":
        network[2].register_forward_hook(lambda *_: None)
    elif change == "hook of all":
        handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    elif change == "vectors":
        normalizer.float()
    else:
        network.float()
    assert not is_current()
    if handle is not None:
        handle.remove()
        assert is_current()


def test_a_layer_that_is_trained_no_more_is_noticed(kept: Any) -> None:
    network, _, is_current = kept
    network[0].weight.requires_grad_(False)
    assert not is_current()
