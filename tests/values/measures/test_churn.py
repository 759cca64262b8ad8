import numpy as np
import pytest
import torch

from snrl.values.measures import churn

from .critics import batch


def test_is_the_mean_absolute_change():
    before, after = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([2.0, -5.0, 3.0])
    assert churn(before, after) == pytest.approx(4 / 3)
    assert churn(after, before) == churn(before, after)
    assert churn(before, before) == 0


def test_changes_that_cancel_in_the_mean_are_churn():
    before = torch.zeros(2, 10)
    after = torch.tensor([1.0, -1.0]).repeat(2, 5)
    assert (after - before).mean() == 0
    assert churn(before, after) == 1


def test_of_a_linear_critic_is_known_in_closed_form():
    weight = torch.nn.Parameter(batch(4).clone())
    train, reference = batch(32, 4, seed=1), batch(20, 4, seed=2)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    before = reference @ weight
    (train @ weight - 1).square().mean().backward()
    gradient = weight.grad.clone()
    optimizer.step()
    expected = np.abs(0.1 * reference.numpy() @ gradient.numpy()).mean()
    assert churn(before, reference @ weight) == pytest.approx(expected)


def test_a_small_change_of_large_values_is_not_lost():
    before = torch.full((1000,), 2.0**20)
    assert churn(before, before + 0.125) == 0.125


@pytest.mark.parametrize("after", [torch.zeros(3), torch.zeros(2, 1), torch.zeros(0)])
def test_other_shapes_are_refused(after):
    with pytest.raises(ValueError, match="one shape"):
        churn(torch.zeros(2) if len(after) else after, after)
