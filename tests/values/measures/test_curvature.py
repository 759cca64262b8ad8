import numpy as np
import pytest
import torch
from torch.autograd.functional import hessian
from torch.func import functional_call

from snrl.values.measures import extreme_eigenvalues, loss_curvature

from .critics import batch, network

SPECTRA = {
    "positive": np.linspace(0.5, 9, 40),
    "negative": -np.logspace(0, 2, 40),
    "both": np.concatenate((-np.logspace(-2, 0, 20), np.logspace(-3, 1, 20))),
    "outliers": np.concatenate((np.full(36, 0.1) + np.linspace(0, 0.01, 36), [5, 6, 70, -50])),
    "repeated": np.repeat([-2.0, 0.5, 3.0], [10, 20, 10]),
}


def symmetric(values, seed=0):
    vectors, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values),) * 2))
    return torch.from_numpy(vectors @ np.diag(values) @ vectors.T)


def eigenvalues(name, steps, seed=1, dtype=torch.float64):
    matrix = symmetric(SPECTRA[name]).to(dtype)
    return extreme_eigenvalues(lambda v: matrix @ v, batch(40, seed=seed).to(dtype), steps)


@pytest.mark.parametrize("steps", [40, 10**12])
@pytest.mark.parametrize("name", SPECTRA)
def test_after_as_many_steps_as_dimensions_all_is_exact(name, steps):
    found = eigenvalues(name, steps)
    magnitudes = np.abs(SPECTRA[name])
    assert found.largest == pytest.approx(magnitudes.max(), rel=1e-12)
    assert found.smallest == pytest.approx(magnitudes.min(), rel=1e-9)
    assert found.condition_number == pytest.approx(magnitudes.max() / magnitudes.min(), rel=1e-9)
    assert found.error < 1e-8 * found.largest


@pytest.mark.parametrize("steps", [1, 2, 5, 10, 20, 39])
@pytest.mark.parametrize("name", SPECTRA)
def test_after_fewer_what_is_stated_is_true(name, steps):
    values = SPECTRA[name]
    magnitudes = np.abs(values)
    slack = 1e-12 * magnitudes.max()
    for seed in range(20):
        found = eigenvalues(name, steps, seed)
        assert found.largest <= magnitudes.max() + slack
        assert np.abs(magnitudes - found.largest).min() <= found.error + slack
        assert found.smallest >= magnitudes.min() - slack
        assert found.condition_number <= magnitudes.max() / magnitudes.min() * (1 + 1e-9)


def test_the_largest_is_there_long_before_the_smallest():
    found = eigenvalues("outliers", 12)
    assert found.largest == pytest.approx(70, rel=1e-6)
    assert found.error < 1e-3
    both = eigenvalues("both", 20)
    assert both.largest == pytest.approx(10, rel=1e-3)
    assert both.smallest > 2 * np.abs(SPECTRA["both"]).min()


def test_distinct_eigenvalues_take_one_step_each():
    for steps in (3, 40):
        found = eigenvalues("repeated", steps)
        assert found.condition_number == pytest.approx(6.0)
        assert found.error < 1e-12
    one = extreme_eigenvalues(lambda v: -3 * v, batch(10), 10)
    assert (one.largest, one.smallest) == pytest.approx((3.0, 3.0))
    assert one.condition_number == pytest.approx(1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_singular_is_what_products_can_not_tell_from_it(dtype):
    matrix = symmetric(np.array([*np.zeros(30), *np.linspace(1, 4, 10)])).to(dtype)
    found = extreme_eigenvalues(lambda v: matrix @ v, batch(40).to(dtype), 40)
    eps = torch.finfo(dtype).eps
    assert found.largest == pytest.approx(4.0, rel=10 * eps)
    assert found.condition_number <= 1 / eps
    assert found.condition_number > 0.001 / eps


def test_float32_is_as_good_as_its_rounding():
    for name, values in SPECTRA.items():
        found = eigenvalues(name, 40, dtype=torch.float32)
        assert found.largest == pytest.approx(np.abs(values).max(), rel=1e-5)


def test_of_nothing_there_is_nothing():
    zero = extreme_eigenvalues(torch.zeros_like, batch(6), 6)
    assert (zero.largest, zero.smallest) == (0, 0)
    assert np.isnan(zero.condition_number)
    for value in ("nan", "inf"):
        broken = extreme_eigenvalues(lambda v, x=float(value): v * x, batch(6), 6)
        assert all(np.isnan(x) for x in vars(broken).values())


@pytest.mark.parametrize("start", [torch.zeros(4), torch.full((4,), float("nan"))])
def test_a_start_without_direction_is_refused(start):
    with pytest.raises(ValueError, match="start"):
        extreme_eigenvalues(lambda v: v, start, 3)
    with pytest.raises(ValueError, match="step"):
        extreme_eigenvalues(lambda v: v, torch.ones(4), 0)


def critics_and_loss():
    nets = torch.nn.ModuleList([network(3, width=4, seed=seed) for seed in (0, 1)])
    inputs, targets = batch(30, 3), batch(30, 1, seed=1)

    def loss(params=None):
        named = dict(nets.named_parameters()) if params is None else params
        total = 0.0
        for i, net in enumerate(nets):
            own = {name: named[f"{i}.{name}"] for name, _ in net.named_parameters()}
            total = total + (functional_call(net, own, inputs) - targets).square().mean()
        return total

    return nets, loss


def dense_hessian(nets, loss):
    shapes = {name: param.shape for name, param in nets.named_parameters()}
    flat = torch.cat([param.detach().flatten() for param in nets.parameters()])

    def of(vector):
        parts = vector.split([shape.numel() for shape in shapes.values()])
        pairs = zip(shapes.items(), parts, strict=True)
        return loss({name: part.view(shape) for (name, shape), part in pairs})

    return hessian(of, flat).numpy()


def test_curvature_is_that_of_the_dense_hessian():
    nets, loss = critics_and_loss()
    values = np.abs(np.linalg.eigvalsh(dense_hessian(nets, loss)))
    generator = torch.Generator().manual_seed(0)
    full = loss_curvature(loss, list(nets.parameters()), steps=len(values), generator=generator)
    assert full.largest == pytest.approx(values.max(), rel=1e-10)
    assert full.smallest == pytest.approx(values.min(), rel=1e-4)
    assert full.condition_number == pytest.approx(values.max() / values.min(), rel=1e-4)
    few = loss_curvature(loss, list(nets.parameters()), steps=15, generator=generator)
    assert few.largest == pytest.approx(values.max(), rel=1e-3)
    assert few.condition_number < full.condition_number


def test_curvature_of_least_squares_is_known_in_closed_form():
    inputs, targets = batch(25, 4), batch(25, seed=1)
    weight = torch.nn.Parameter(batch(4, seed=2))
    found = loss_curvature(
        lambda: (inputs @ weight - targets).square().mean(),
        [weight],
        steps=4,
        generator=torch.Generator().manual_seed(0),
    )
    singular = np.linalg.svd(inputs.numpy(), compute_uv=False)
    assert found.largest == pytest.approx(2 * singular[0] ** 2 / 25)
    assert found.smallest == pytest.approx(2 * singular[-1] ** 2 / 25)
    assert found.condition_number == pytest.approx((singular[0] / singular[-1]) ** 2)


def test_a_linear_loss_and_a_parameter_that_is_not_used_are_flat():
    used, unused = (torch.nn.Parameter(batch(3, seed=seed)) for seed in (0, 1))
    generator = torch.Generator().manual_seed(0)
    flat = loss_curvature(used.sum, [used, unused], steps=6, generator=generator)
    assert flat.largest == 0
    bowl = loss_curvature(
        lambda: 2 * used.square().sum(), [used, unused], steps=6, generator=generator
    )
    assert bowl.largest == pytest.approx(4.0)
    assert bowl.smallest < 1e-12


def test_draws_from_its_own_generator_and_leaves_the_parameters_alone():
    nets, loss = critics_and_loss()
    before = [param.detach().clone() for param in nets.parameters()]
    state = torch.get_rng_state()
    found = []
    for seed in (0, 0, 1):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            found.append(
                loss_curvature(loss, list(nets.parameters()), steps=5, generator=generator)
            )
    assert found[0] == found[1] != found[2]
    assert torch.equal(torch.get_rng_state(), state)
    for param, old in zip(nets.parameters(), before, strict=True):
        assert param.grad is None
        assert torch.equal(param, old)
