import numpy as np
import pytest
import torch

from snrl.values.measures import effective_learning_rates, norms

from .critics import batch, network


def params_and_gradients():
    net = network(3)
    net(batch(10, 3)).square().mean().backward()
    weights = dict(net.named_parameters())
    return weights, {name: weight.grad for name, weight in weights.items()}


def test_norms_are_those_of_numpy():
    weights, _ = params_and_gradients()
    found = norms(weights)
    arrays = {name: weight.detach().numpy().ravel() for name, weight in weights.items()}
    assert found.each == pytest.approx({name: np.linalg.norm(x) for name, x in arrays.items()})
    assert found.whole == pytest.approx(np.linalg.norm(np.concatenate(list(arrays.values()))))


def test_large_entries_do_not_overflow():
    found = norms({"a": torch.full((3, 3), 1e30), "b": torch.full((7,), 1e30)})
    assert found.each == pytest.approx({"a": 3e30, "b": np.sqrt(7) * 1e30})
    assert found.whole == pytest.approx(4e30)


def test_nan_stays_with_its_tensor():
    found = norms({"good": torch.ones(4), "bad": torch.tensor([float("nan")])})
    assert found.each["good"] == 2
    assert np.isnan(found.each["bad"])
    assert np.isnan(found.whole)


def test_nothing_to_measure_is_refused():
    with pytest.raises(ValueError, match="no tensors"):
        norms({})


def test_the_rate_is_gradient_over_weight_and_as_a_whole_weighted_by_size():
    weights, gradients = params_and_gradients()
    found = effective_learning_rates(weights, gradients, 3e-4)
    rates, sizes = [], []
    for name, weight in weights.items():
        rates.append(np.linalg.norm(gradients[name]) / np.linalg.norm(weight.detach()))
        sizes.append(weight.numel())
        assert found.each[name] == pytest.approx(rates[-1])
    assert found.whole == pytest.approx(np.average(rates, weights=sizes))
    assert found.whole != pytest.approx(np.mean(rates), rel=1e-3)


def test_is_the_relative_step_of_gradient_descent():
    weights, gradients = params_and_gradients()
    found = effective_learning_rates(weights, gradients, 0.01)
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    torch.optim.SGD(weights.values(), lr=0.01).step()
    for name, weight in weights.items():
        step = (weight.detach() - before[name]).norm() / before[name].norm()
        assert step.item() == pytest.approx(0.01 * found.each[name])


def test_in_a_scale_invariant_network_both_fall_with_the_square_of_the_weights():
    inputs, targets = batch(50, 4), batch(50, seed=1)
    found = {}
    for scale in (1.0, 3.0):
        weight = torch.nn.Parameter(scale * batch(4, seed=2))
        (inputs @ (weight / weight.norm()) - targets).square().mean().backward()
        found[scale] = effective_learning_rates({"w": weight}, {"w": weight.grad}, 0.1)
    assert found[3.0].whole == pytest.approx(found[1.0].whole / 9)
    assert found[3.0].scale_invariant == pytest.approx(found[1.0].scale_invariant / 9)
    norm = batch(4, seed=2).norm().item()
    assert found[1.0].scale_invariant == pytest.approx(0.1 / norm**2)


def test_a_zero_tensor_has_no_rate_and_is_left_out():
    weights = {"w": torch.full((2, 2), 2.0), "b": torch.zeros(5)}
    gradients = {"w": torch.ones(2, 2), "b": torch.ones(5)}
    found = effective_learning_rates(weights, gradients, 0.1)
    assert np.isnan(found.each["b"])
    assert found.whole == found.each["w"] == 0.5
    nothing = effective_learning_rates({"b": weights["b"]}, {"b": gradients["b"]}, 0.1)
    assert np.isnan([nothing.whole, nothing.scale_invariant]).all()


def test_other_names_are_refused():
    with pytest.raises(ValueError, match="same names"):
        effective_learning_rates({"a": torch.ones(1)}, {"b": torch.ones(1)}, 0.1)
