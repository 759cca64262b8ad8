"""The product with an effective weight that is not formed, against the one that is."""

import copy

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import functional_call

from snrl.spectral import SpectralNormalizer, products, spectral_normalize
from snrl.spectral.products import can_scale, linear

PRODUCT = products._Product.apply


def network(bias=True):
    net = nn.Sequential(
        nn.Linear(7, 12, bias), nn.ReLU(), nn.Linear(12, 12, bias), nn.ReLU(), nn.Linear(12, 1)
    )
    return spectral_normalize(net.double(), layers=(-2, -1), coef=1.3)


def formed(net, x):
    """The same network, with effective weights formed by operations that autograd knows."""
    for layer in net:
        if isinstance(layer, nn.Linear):
            weight = layer.effective_weight() if hasattr(layer, "slot") else layer.weight
            x = nn.functional.linear(x, weight, layer.bias)
        elif isinstance(layer, nn.ReLU):
            x = x.relu()
    return x


@pytest.fixture
def taken(monkeypatch):
    """Counts how often the product stood in for single operations."""
    calls = []

    def apply(*args):
        calls.append(args)
        return PRODUCT(*args)

    monkeypatch.setattr(products._Product, "apply", apply)
    return calls


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("mode", ["normalize", "cap"])
def test_values_and_gradients_are_those_of_the_formed_weight(bias, mode):
    net = network(bias)
    extra = nn.Linear(12, 7, bias).double()
    SpectralNormalizer(0.4, mode=mode).add([extra])
    x = torch.randn(9, 12, dtype=torch.float64, requires_grad=True)
    parameters = [x, *extra.parameters(), *net.parameters()]
    factor = extra.slot.normalizer.factor(extra)
    mine = net(linear(x, extra.weight, extra.bias, factor).relu())
    theirs = formed(net, nn.functional.linear(x, extra.effective_weight(), extra.bias).relu())
    torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    cotangent = torch.randn_like(mine)
    for a, b in zip(
        torch.autograd.grad(mine, parameters, cotangent),
        torch.autograd.grad(theirs, parameters, cotangent),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_gradients_to_second_order():
    net = network()
    x = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    names, tensors = zip(*net.named_parameters(), strict=True)
    leaves = [part.detach().clone().requires_grad_() for part in tensors]

    def evaluate(x, *parts):
        return functional_call(net, dict(zip(names, parts, strict=True)), (x,))

    assert can_scale(x, leaves[2], None)
    assert gradcheck(evaluate, (x, *leaves))
    assert gradgradcheck(evaluate, (x, *leaves))


def test_only_the_gradients_asked_for():
    net = network()
    for parameter in net.parameters():
        parameter.requires_grad_(requires_grad=False)
    x = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    (mine,) = torch.autograd.grad(net(x).sum(), x)
    (theirs,) = torch.autograd.grad(formed(net, x).sum(), x)
    torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    net[2].weight.requires_grad_()
    net(x.detach()).sum().backward()
    assert net[2].weight.grad is not None
    assert net[0].weight.grad is None


def test_a_graph_outlives_a_refresh_of_the_vectors():
    net = network()
    x = torch.randn(5, 7, dtype=torch.float64)
    expected = torch.autograd.grad(net(x).sum(), net[2].weight)[0]
    kept = net(x)
    store = net.spectral.get_submodule(net[2].slot.shape)
    with torch.no_grad():
        store.u.normal_()
        store.block.normal_()
    torch.testing.assert_close(torch.autograd.grad(kept.sum(), net[2].weight)[0], expected)


def test_inputs_of_any_dimensions(taken):
    layer = network()[2]
    for shape in ((12,), (3, 12), (2, 3, 12), (0, 12)):
        x = torch.randn(shape, dtype=torch.float64)
        torch.testing.assert_close(
            layer(x), nn.functional.linear(x, layer.effective_weight(), layer.bias)
        )
    assert len(taken) == 4


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_what_transforms_or_traces_sees_single_operations(taken):
    net = network()
    x = torch.randn(5, 7, dtype=torch.float64)
    weights = dict(net.named_parameters())
    loss = torch.func.grad(lambda w: functional_call(net, w, (x,)).square().sum())
    expected = torch.autograd.grad(formed(net, x).square().sum(), list(net.parameters()))
    for mine, theirs in zip(loss(weights).values(), expected, strict=True):
        torch.testing.assert_close(mine, theirs)
    with forward_ad.dual_level():
        tangent = torch.randn_like(x)
        dual = forward_ad.unpack_dual(net(forward_ad.make_dual(x, tangent))).tangent
    torch.testing.assert_close(dual, torch.func.jvp(lambda y: formed(net, y), (x,), (tangent,))[1])
    traced = torch.jit.trace(net, (x,), check_trace=False)
    torch.testing.assert_close(traced(x + 1), net(x + 1).detach(), check_stride=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert copy.deepcopy(net).float()(x.float()).dtype == torch.bfloat16
    # Only the last comparison outside of all these went through it.
    assert len(taken) == len([m for m in net if hasattr(m, "slot")])


@pytest.mark.parametrize("make", [network, lambda: spectral_normalize(
    nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.Flatten()), layers="all"
).double()], ids=["linear", "convolution"])  # fmt: skip
def test_compiles_without_a_break_to_the_same_values_and_gradients(make):
    net = make()
    shape = (5, 7) if isinstance(net[0], nn.Linear) else (5, 2, 8, 8)
    x = torch.randn(shape, dtype=torch.float64)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    mine = torch.autograd.grad(compiled(x).sum(), list(net.parameters()))
    theirs = torch.autograd.grad(net(x).sum(), list(net.parameters()))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b)


def reused():
    """A normalised layer that is applied twice, and the same with its weight formed."""
    layer = nn.Linear(5, 5).double()
    SpectralNormalizer().add([layer])
    out = nn.Linear(5, 1).double()

    def formed_twice(x):
        weight = layer.effective_weight()
        y = nn.functional.linear(x, weight, layer.bias).relu()
        return out(nn.functional.linear(y, weight, layer.bias).relu())

    return layer, nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), out), formed_twice


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_weight_in_two_places_gets_the_gradient_of_both(create_graph):
    layer, twice, formed_twice = reused()
    x = torch.randn(3, 5, dtype=torch.float64)
    mine = twice(x)
    parameters = list(layer.parameters())
    for a, b in zip(
        torch.autograd.grad(mine.square().sum(), parameters, create_graph=create_graph),
        torch.autograd.grad(formed_twice(x).square().sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_the_output_may_be_changed_in_place():
    layer = network()[2]
    x = torch.randn(5, 12, dtype=torch.float64)
    y = layer(x)
    y += 1
    y.relu_()
    (mine,) = torch.autograd.grad(y.square().sum(), layer.weight)
    plain = (nn.functional.linear(x, layer.effective_weight(), layer.bias) + 1).relu()
    torch.testing.assert_close(mine, torch.autograd.grad(plain.square().sum(), layer.weight)[0])


def test_many_gradients_at_once():
    net = network()
    x = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    y = net(x).flatten()
    (batched,) = torch.autograd.grad(
        y,
        net[2].weight,
        torch.eye(5, dtype=torch.float64),
        is_grads_batched=True,
        retain_graph=True,
    )
    for row, gradient in enumerate(batched):
        torch.testing.assert_close(
            gradient, torch.autograd.grad(y[row], net[2].weight, retain_graph=True)[0]
        )
    torch.autograd.functional.jacobian(net, x, vectorize=True)


def test_layer_and_normalizer_of_different_dtypes_are_refused():
    layer = nn.Linear(6, 6)
    normalizer = SpectralNormalizer()
    normalizer.add([layer])
    normalizer.double()
    with pytest.raises(RuntimeError, match="dtype"):
        layer(torch.randn(2, 6))
    layer.double()
    normalizer.float()
    with torch.no_grad(), pytest.raises(RuntimeError, match="dtype"):
        layer(torch.randn(2, 6, dtype=torch.float64))
