"""Networks as one node of autograd's graph, against their modules, one by one."""

import copy
import gc
import io
import pickle
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from snrl.critics.evaluate import Evaluate
from snrl.passes.evaluator import Evaluator
from snrl.passes.networks import Networks
from snrl.spectral import SpectralNormalizer, native

pytestmark = pytest.mark.skipif(not native.is_available(), reason="no compiler")
CLOSE = {"rtol": 1e-11, "atol": 1e-12}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def plain(heads: int = 2, n: int = 5, outputs: int = 1) -> list[nn.Sequential]:
    return [
        nn.Sequential(
            *(nn.Linear(n, 33), nn.ReLU(), nn.Linear(33, 20), nn.ReLU(), nn.Linear(20, outputs))
        ).double()
        for _ in range(heads)
    ]


def normalised(mode: str = "normalize", **options: Any) -> list[nn.Sequential]:
    networks = plain()
    normalizer = SpectralNormalizer(0.7, mode=mode, **options)
    normalizer.add([x for i in (0, 2, 4) for network in networks for x in (network[i],)], networks)
    normalizer.double()
    return networks


def normed() -> list[nn.Sequential]:
    return [
        nn.Sequential(
            *(nn.Linear(5, 8), nn.LayerNorm(8), nn.ReLU()),
            *(nn.Linear(8, 7, bias=False), nn.RMSNorm(7), nn.Linear(7, 2), nn.ReLU()),
        ).double()
        for _ in range(3)
    ]


MADE: dict[str, Callable[[], list[nn.Sequential]]] = {
    "plain": plain,
    "one": lambda: plain(1),
    "quantiles": lambda: plain(outputs=40),
    "linear": lambda: [nn.Sequential(nn.Linear(5, 3)).double() for _ in range(2)],
    "normalize": normalised,
    "detached": lambda: normalised(mode_options={"detach": True}),
    "cap": lambda: normalised("cap"),
    "project": lambda: normalised("project"),
    "norms": normed,
}
made = pytest.mark.parametrize("make", MADE.values(), ids=MADE)


def inputs(batch: int = 50, n: int = 5) -> Tensor:
    return torch.randn(batch, n, dtype=torch.float64, requires_grad=True)


def by_modules(networks: Sequence[nn.Sequential], x: Tensor) -> tuple[Tensor, ...]:
    """The same by operations that autograd knows, each effective weight formed."""
    found = []
    for network in networks:
        y = x
        for module in network:
            if isinstance(module, nn.Linear):
                weight: Any = getattr(module, "effective_weight", lambda own=module.weight: own)()
                y = nn.functional.linear(y, weight, module.bias)
            else:
                y = module(y)
        found.append(y)
    return tuple(found)


def parameters(networks: Sequence[nn.Sequential]) -> list[nn.Parameter]:
    return [x for network in networks for x in network.parameters()]


def evaluated(networks: Sequence[nn.Sequential], x: Tensor) -> tuple[Tensor, ...]:
    found = Evaluator(networks)(x)
    assert found is not None
    return found


def assert_close(mine: Sequence[Any], theirs: Sequence[Any], **close: float) -> None:
    assert [x is None for x in mine] == [x is None for x in theirs]
    for a, b in zip(mine, theirs, strict=True):
        if a is not None:
            torch.testing.assert_close(a, b, **(close or CLOSE))


@made
@pytest.mark.parametrize("batch", [1, 2, 3, 16, 50])
def test_values_and_gradients_are_those_of_the_modules(make: Callable[[], Any], batch: int) -> None:
    networks, x = make(), inputs(batch)
    mine, theirs = evaluated(networks, x), by_modules(networks, x)
    assert_close(mine, theirs)
    with torch.no_grad():
        assert_close(evaluated(networks, x), theirs)
    sent = [torch.randn_like(y) for y in mine]
    wanted = [x, *parameters(networks)]
    assert_close(torch.autograd.grad(mine, wanted, sent), torch.autograd.grad(theirs, wanted, sent))


@made
def test_gradients_of_gradients(make: Callable[[], Any]) -> None:
    networks, x = make(), inputs(6)
    wanted = [x, *parameters(networks)]
    found = []
    for values in (evaluated(networks, x), by_modules(networks, x)):
        slopes = torch.autograd.grad(sum(y.sin().sum() for y in values), wanted, create_graph=True)
        total = sum(slope.square().sum() for slope in slopes)
        found.append(torch.autograd.grad(total, wanted, allow_unused=True))
    assert_close(*found)


def test_many_gradients_at_once() -> None:
    networks, x = normalised(), inputs(4)
    y = evaluated(networks, x)[1].flatten()
    weight = networks[1][2].weight
    eye = torch.eye(4, dtype=torch.float64)
    batched = torch.autograd.grad(y, weight, eye, is_grads_batched=True, retain_graph=True)[0]
    each = [torch.autograd.grad(one, weight, retain_graph=True)[0] for one in y]
    torch.testing.assert_close(batched, torch.stack(each), **CLOSE)


def test_a_network_that_nobody_asked_has_no_gradient() -> None:
    networks, x = normalised(), inputs()
    wanted = [x, *parameters(networks)]
    mine, theirs = evaluated(networks, x)[1], by_modules(networks, x)[1]
    assert_close(
        torch.autograd.grad(mine.sum(), wanted, allow_unused=True),
        torch.autograd.grad(theirs.sum(), wanted, allow_unused=True),
    )


def test_only_the_gradients_asked_for() -> None:
    networks = normalised()
    mine = evaluated(networks, inputs().detach())
    sum(y.sum() for y in mine).backward()  # type: ignore[union-attr]
    assert all(param.grad is not None for param in parameters(networks))
    x = inputs()
    weight = networks[0][2].weight
    (found,) = torch.autograd.grad(evaluated(networks, x)[0].sum(), weight)
    (expected,) = torch.autograd.grad(by_modules(networks, x)[0].sum(), weight)
    torch.testing.assert_close(found, expected, **CLOSE)
    assert x.grad is None


def test_autograd_takes_gradients_without_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody else holds is copied into ``.grad``: a pass over all weights."""
    networks, places = plain(), []
    new_gradients = Networks.new_gradients

    def noted(self: Networks) -> list[Tensor]:
        found = new_gradients(self)
        places[:] = [grad.data_ptr() for grad in found]
        return found

    monkeypatch.setattr(Networks, "new_gradients", noted)
    sum(evaluated(networks, inputs())).sum().backward()  # type: ignore[arg-type,union-attr]
    assert [param.grad.data_ptr() for param in parameters(networks)] == places  # type: ignore[union-attr]


def test_graphs_at_once_and_again() -> None:
    networks, x = normalised(), inputs()
    evaluator = Evaluator(networks)
    wanted = [x, *parameters(networks)]
    scales = [1.0, -2.0, 3.0, 0.5, 4.0, 5.0]
    values = [evaluator(scale * x) for scale in scales]
    with torch.no_grad():
        evaluator(100 * x)
    for _ in range(2):
        for scale, found in zip(reversed(scales), reversed(values), strict=True):
            assert found is not None
            assert_close(
                torch.autograd.grad(sum(found).sum(), wanted, retain_graph=True),  # type: ignore[arg-type,union-attr]
                torch.autograd.grad(sum(by_modules(networks, scale * x)).sum(), wanted),  # type: ignore[arg-type,union-attr]
            )


def test_memory_is_used_again_after_a_backward_and_else_not() -> None:
    networks, x = plain(), inputs()
    evaluator = Evaluator(networks)
    spare = evaluator._spare
    first = evaluator(x)
    key = (len(x), True)
    assert not spare[key]
    sum(first).sum().backward(retain_graph=True)  # type: ignore[arg-type,union-attr]
    assert not spare[key]
    sum(first).sum().backward()  # type: ignore[arg-type,union-attr]
    assert len(spare[key]) == 1
    second = evaluator(x)
    assert not spare[key]
    del second
    assert len(spare[key]) == 1
    many = [evaluator(x) for _ in range(5)]
    del many
    assert len(spare[key]) == 2
    for batch in range(1, 12):
        evaluator(inputs(batch))
    assert len(spare) == 8


def test_the_output_may_be_changed_in_place_and_the_weights_may_not() -> None:
    networks, x = normalised(), inputs()
    values = evaluated(networks, x)
    values[0].add_(1).relu_()
    theirs = (by_modules(networks, x)[0] + 1).relu()
    weight = networks[0][0].weight
    assert_close(
        torch.autograd.grad(values[0].sum(), weight, retain_graph=True),
        torch.autograd.grad(theirs.sum(), weight),
    )
    with torch.no_grad():
        networks[0][2].weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        values[0].sum().backward()


def test_a_graph_outlives_a_refresh_and_weights_that_are_put_elsewhere() -> None:
    networks, x = normalised(), inputs()
    layer: Any = networks[0][2]
    wanted = [x, layer.weight]
    expected = torch.autograd.grad(by_modules(networks, x)[0].sum(), wanted)
    kept = evaluated(networks, x)[0]
    store = layer.slot.normalizer.get_submodule(layer.slot.shape)
    with torch.no_grad():
        store.u.normal_()
        store.block.normal_()
    layer.weight.data = torch.full_like(layer.weight, torch.nan)
    taken = [torch.full_like(layer.weight, torch.nan) for _ in range(100)]
    assert_close(torch.autograd.grad(kept.sum(), wanted), expected)
    del taken


def _change_structure(networks: list[nn.Sequential]) -> None:
    networks[1][1] = nn.Tanh()


def _change_weights(networks: list[nn.Sequential]) -> None:
    with torch.no_grad():
        networks[0][0].weight.mul_(1.5)


def _replace_weight(networks: list[nn.Sequential]) -> None:
    networks[0][0].weight = nn.Parameter(2 * networks[0][0].weight.detach())


def _put_elsewhere(networks: list[nn.Sequential]) -> None:
    networks[0][2].weight.data = 3 * networks[0][2].weight.detach()


def _freeze(networks: list[nn.Sequential]) -> None:
    networks[0].requires_grad_(False)


def _step(networks: list[nn.Sequential]) -> None:
    optimizer = torch.optim.SGD(parameters(networks), lr=0.1)
    sum(by_modules(networks, inputs())).sum().backward()  # type: ignore[arg-type,union-attr]
    optimizer.step()


def _reset(networks: list[nn.Sequential]) -> None:
    _change_weights(networks)
    layer: Any = networks[0][0]
    layer.slot.normalizer.reset()


def _more_layers(networks: list[nn.Sequential]) -> None:
    layer: Any = networks[0][0]
    layer.slot.normalizer.add([nn.Linear(5, 33).double()])


@pytest.mark.parametrize(
    "change",
    [
        *(_change_structure, _change_weights, _replace_weight, _put_elsewhere, _freeze, _step),
        *(_reset, _more_layers),
    ],
)
def test_changes_are_seen(change: Callable[[list[nn.Sequential]], None]) -> None:
    networks, x = normalised(), inputs()
    evaluate = Evaluate()
    evaluate(networks, x)
    change(networks)
    mine, theirs = evaluate(networks, x), by_modules(networks, x)
    assert_close(mine, theirs)
    wanted = [x, networks[1][0].weight]
    assert_close(
        torch.autograd.grad(sum(mine).sum(), wanted),  # type: ignore[arg-type,union-attr]
        torch.autograd.grad(sum(theirs).sum(), wanted),  # type: ignore[arg-type,union-attr]
    )


def test_hooks_are_called() -> None:
    networks, x = normalised(), inputs()
    evaluate, seen = Evaluate(), []
    evaluate(networks, x)
    hook = networks[1][3].register_forward_hook(lambda *_: seen.append(1))
    evaluate(networks, x)
    assert seen == [1]
    hook.remove()
    evaluate(networks, x)
    assert seen == [1]
    grads: list[Tensor] = []
    networks[0][0].weight.register_hook(grads.append)
    sum(evaluate(networks, x)).sum().backward()  # type: ignore[arg-type,union-attr]
    assert len(grads) == 1


REFUSED: dict[str, Callable[[list[nn.Sequential], Tensor], tuple[Any, Any]]] = {
    "another dtype": lambda n, x: (n, x.float()),
    "three dimensions": lambda n, x: (n, x[None]),
    "no rows": lambda n, x: (n, x[:0]),
    "many rows": lambda n, x: (n, x.repeat(21, 1)),
    "another width": lambda n, x: (n, x[:, :4]),
    "several shapes": lambda n, x: ([n[0], *plain(1, 5, 2)], x),
    "another activation": lambda _, x: ([nn.Sequential(nn.Linear(5, 2), nn.Tanh()).double()], x),
    "nothing": lambda _, x: ([nn.Sequential()], x),
    "one module in two places": lambda _, x: (
        [nn.Sequential(layer := nn.Linear(5, 5).double(), nn.ReLU(), layer)],
        x,
    ),
    "a learned gain": lambda _, x: (normalised("gain"), x),
    "scaled outputs": lambda _, x: (normalised("div_out"), x),
    "networks of two dtypes": lambda n, x: ([n[0], n[1].float()], x),
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED)
def test_what_is_left_to_the_modules(change: Callable[..., Any]) -> None:
    networks, x = change(normalised(), inputs())
    assert Evaluator(networks)(x) is None


class Seen(TorchDispatchMode):
    """Keeps the names of operations."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_who_follows_single_operations_sees_them() -> None:
    networks, x = normalised(), inputs()
    evaluate = Evaluate()
    evaluate(networks, x)
    with Seen() as seen:
        evaluate(networks, x)
    assert seen.names.count("aten.addmm.default") == 6
    with torch.autograd.graph.save_on_cpu():
        values = evaluate(networks, x)
    wanted = parameters(networks)
    expected = torch.autograd.grad(sum(by_modules(networks, x)).sum(), wanted)  # type: ignore[arg-type,union-attr]
    assert_close(torch.autograd.grad(sum(values).sum(), wanted), expected)  # type: ignore[arg-type,union-attr]
    again = checkpoint(lambda y: sum(evaluate(networks, y)), x, use_reentrant=False)
    assert_close(torch.autograd.grad(again.sum(), wanted), expected)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x.detach(), torch.ones_like(x))
        assert forward_ad.unpack_dual(evaluate(networks, dual)[0]).tangent is not None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (
            evaluate([network.float() for network in plain()], x.float())[0].dtype == torch.bfloat16
        )
    assert torch.func.vmap(lambda row: evaluate(networks, row[None])[0])(x).shape == (50, 1, 1)
    compiled = torch.compile(lambda y: evaluate(networks, y)[0], backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), values[0], **CLOSE)


def test_copies_and_saved_ones_begin_anew() -> None:
    class Critic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.networks = nn.ModuleList(plain())
            self.evaluate = Evaluate()

        def forward(self, x: Tensor) -> Any:
            return self.evaluate(list(self.networks), x)  # type: ignore[arg-type]

    critic, x = Critic(), inputs()
    before = critic(x)
    copied = copy.deepcopy(critic)
    with torch.no_grad():
        critic.networks[0][0].weight.zero_()  # type: ignore[index]
    assert_close(copied(x), before)
    pickle.loads(pickle.dumps(critic.evaluate))
    torch.save(copied.state_dict(), io.BytesIO())


def test_nothing_is_held_by_what_is_gone() -> None:
    networks, x = plain(), inputs()
    values = evaluated(networks, x)
    sum(values).sum().backward()  # type: ignore[arg-type,union-attr]
    del values
    gc.collect()
    memory = [y for y in gc.get_objects() if type(y).__name__ == "_Memory"]
    assert memory == []


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_results_do_not_depend_on_the_number_of_threads(threads: int) -> None:
    torch.manual_seed(1)
    networks, x = [nn.Sequential(nn.Linear(5, 10), nn.ReLU(), nn.Linear(10, 10))], inputs(200)
    x = x.float()
    found = []
    before = torch.get_num_threads()
    try:
        for count in (1, threads):
            torch.set_num_threads(count)
            values = evaluated(networks, x)
            found.append([*values, *torch.autograd.grad(values, parameters(networks), values)])
    finally:
        torch.set_num_threads(before)
    assert all(a.equal(b) for a, b in zip(*found, strict=True))


def test_a_default_device_is_another_one() -> None:
    networks, x = normalised(), inputs()
    before = by_modules(networks, x)
    with torch.device("meta"):
        evaluator = Evaluator(networks)
        values = evaluator(x)
        assert values is not None
        wanted = [x, *parameters(networks)]
        grads = torch.autograd.grad(values, wanted, [y.detach() for y in values])
    assert_close(values, before)
    assert all(grad.is_cpu for grad in grads)


def test_a_head_that_nobody_asked_sends_nothing_to_the_input() -> None:
    networks, x = plain(), inputs()
    with torch.no_grad():
        networks[1][0].weight.fill_(torch.nan)
    found, expected = (
        torch.autograd.grad(values[0].sum(), x)
        for values in (evaluated(networks, x), by_modules(networks, x))
    )
    assert_close(found, expected)


@pytest.mark.parametrize(
    "grad",
    [torch._neg_view(torch.ones(50, 1).double()), torch._efficientzerotensor(50, 1).double()],
    ids=["negated", "zero"],
)
def test_gradients_that_are_not_what_is_in_memory(grad: Tensor) -> None:
    networks, x = normalised(), inputs()
    found, expected = (
        torch.autograd.grad(values[0], [x, networks[0][2].weight], grad)
        for values in (evaluated(networks, x), by_modules(networks, x))
    )
    assert_close(found, expected)


class Wrapped(Tensor):
    """A tensor of which somebody wants to know what is done with it."""


UNUSUAL: dict[str, Callable[[list[nn.Sequential]], object]] = {
    "a width that does not fit": lambda n: n[0].__setitem__(2, nn.Linear(34, 20).double()),
    "a weight of another shape": lambda n: setattr(
        n[0][0], "weight", nn.Parameter(torch.ones(33, 6).double())
    ),
    "a bias that is broadcast": lambda n: setattr(
        n[0][0], "bias", nn.Parameter(torch.ones(1).double())
    ),
    "a norm of another width": lambda n: n.__setitem__(
        slice(None), [nn.Sequential(nn.Linear(5, 4), nn.LayerNorm((50, 4))).double()]
    ),
    "a subclass of tensors": lambda n: setattr(
        n[0][0], "weight", nn.Parameter(torch.ones(33, 5).double().as_subclass(Wrapped))
    ),
    "another forward": lambda n: setattr(n[0][1], "forward", lambda y: y),
    "another dtype of the vectors": lambda n: n[0][0].slot.normalizer.float(),
}


@pytest.mark.parametrize("change", UNUSUAL.values(), ids=UNUSUAL)
@pytest.mark.parametrize("used", [False, True])
def test_what_does_not_fit_is_left_to_the_modules(
    change: Callable[[list[nn.Sequential]], object], used: bool
) -> None:
    networks, x = normalised(), inputs()
    evaluator = Evaluator(networks)
    if used:
        evaluator(x)
    change(networks)
    evaluator = evaluator if len(networks) == 2 else Evaluator(networks)
    assert evaluator(x) is None


def test_an_unusual_input_is_left_to_the_modules() -> None:
    networks = normalised()
    x = torch.randn(50, 5, dtype=torch.float64)
    for unusual in (x.as_subclass(Wrapped), x.to_sparse(), torch._neg_view(x)):
        assert Evaluator(networks)(unusual) is None


def _transpose(layer: Any) -> None:
    layer.weight.data = layer.weight.data.t()


def _cut(layer: Any) -> None:
    layer.weight.data, layer.bias.data = layer.weight.data[:3], layer.bias.data[:3]


@pytest.mark.parametrize("change", [_transpose, _cut])
def test_a_weight_of_another_form_at_the_same_place_is_seen(
    change: Callable[[Any], None],
) -> None:
    networks, x = [nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5)).double()], inputs()
    evaluate = Evaluate()
    evaluate(networks, x)
    change(networks[0][2])
    assert_close(evaluate(networks, x), by_modules(networks, x))


def test_what_a_norm_adds_to_the_variance_may_change() -> None:
    networks, x = normed(), inputs()
    evaluator = Evaluator(networks)
    evaluator(x)
    for network in networks:
        network[4].eps = 0.5
    for _ in range(2):
        assert_close(evaluator(x) or (), by_modules(networks, x))


def test_a_weight_in_two_layers_gets_the_gradients_of_both() -> None:
    networks, x = plain(1, 5), inputs()
    networks[0].append(nn.ReLU()).append(nn.Linear(1, 20).double())
    networks[0].append(nn.ReLU()).append(nn.Linear(20, 1).double())
    networks[0][8].weight = networks[0][4].weight
    found = []
    for evaluate in (evaluated, by_modules):
        for create_graph in (False, True):
            (slope,) = torch.autograd.grad(
                evaluate(networks, x)[0].sum(), networks[0][4].weight, create_graph=create_graph
            )
            found.append(slope)
        found += torch.autograd.grad(slope.square().sum(), parameters(networks), allow_unused=True)
    half = len(found) // 2
    assert_close(found[:half], found[half:])


def test_vectors_that_fit_again_are_taken_again() -> None:
    networks, x = normalised(), inputs()
    evaluator = Evaluator(networks)
    layer: Any = networks[0][0]
    layer.slot.normalizer.float()
    assert evaluator(x) is None
    layer.slot.normalizer.double()
    assert evaluator(x) is not None


def test_frozen_parameters_get_no_gradient() -> None:
    networks, x = normalised(), inputs()
    evaluator = Evaluator(networks)
    networks[0].requires_grad_(requires_grad=False)
    networks[1][0].weight.requires_grad_(requires_grad=False)
    values = evaluator(x)
    assert values is not None
    sum(y.sum() for y in values).backward()  # type: ignore[union-attr]
    free = [param for param in parameters(networks) if param.requires_grad]
    assert [param.grad is None for param in parameters(networks)] == [
        not param.requires_grad for param in parameters(networks)
    ]
    expected = torch.autograd.grad(sum(y.sum() for y in by_modules(networks, x)), [x, *free])  # type: ignore[arg-type]
    assert_close([x.grad, *(param.grad for param in free)], expected)
    networks[1].requires_grad_(requires_grad=False)
    assert not any(y.requires_grad for y in evaluator(x.detach()) or ())


def test_frozen_between_forward_and_backward() -> None:
    networks, x = normalised(), inputs()
    found = []
    for evaluate in (evaluated, by_modules):
        for param in parameters(networks):
            param.requires_grad_()
        values = evaluate(networks, x)
        for param in parameters(networks):
            param.requires_grad_(requires_grad=False)
        found.append(torch.autograd.grad(values[0].sum(), x, create_graph=True)[0])
    assert_close([found[0]], [found[1]])


def test_threads_that_ask_one_graph_at_once() -> None:
    networks, x = normalised(), inputs(256)
    evaluator = Evaluator(networks)
    values = evaluator(x)
    assert values is not None
    wanted = [x, *parameters(networks)]
    expected = [
        torch.autograd.grad(scale * values[0].sum(), wanted, retain_graph=True, allow_unused=True)
        for scale in range(1, 5)
    ]
    total = values[0].sum()
    wrong = []

    def ask(scale: int) -> None:
        for _ in range(30):
            evaluator(inputs(20 + scale))
            grads = torch.autograd.grad(scale * total, wanted, retain_graph=True, allow_unused=True)
            pairs = zip(grads, expected[scale - 1], strict=True)
            wrong.extend(1 for a, b in pairs if a is not None and b is not None and not a.equal(b))

    threads = [Thread(target=ask, args=(scale,)) for scale in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
