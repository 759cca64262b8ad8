import numpy as np
import pytest
import torch

from snrl.values.measures import drift, q_statistics


def test_statistics_are_those_of_numpy():
    q = np.random.default_rng(0).normal(-30, 4, (5, 100))
    found = q_statistics(torch.from_numpy(q))
    assert found.mean == pytest.approx(q.mean())
    assert found.std == pytest.approx(q.std())
    assert (found.min, found.max) == (q.min(), q.max())
    assert found.disagreement == pytest.approx(q.std(0).mean())


def test_two_critics_disagree_by_half_their_difference():
    q = torch.tensor([[1.0, 5.0, -2.0], [3.0, 5.0, 4.0]])
    assert q_statistics(q).disagreement == pytest.approx((1 + 0 + 3) / 3)


def test_equal_critics_agree_however_much_their_values_vary():
    q = torch.randn(1, 50, generator=torch.Generator().manual_seed(0)).expand(10, 50)
    assert q_statistics(q).disagreement == pytest.approx(0, abs=1e-12)
    assert q_statistics(q).std > 0.5


def test_one_critic_has_nobody_to_disagree_with():
    found = q_statistics(torch.tensor([[1.0, 3.0]]))
    assert np.isnan(found.disagreement)
    assert (found.mean, found.std, found.min, found.max) == (2.0, 1.0, 1.0, 3.0)


def test_a_spread_far_below_the_mean_is_not_lost():
    q = torch.tensor([[2.0**23, 2.0**23 + 1]])
    assert q_statistics(q).std == 0.5


def test_nan_is_not_hidden():
    found = q_statistics(torch.tensor([[1.0, float("nan")], [1.0, 2.0]]))
    assert all(np.isnan([found.mean, found.std, found.min, found.max, found.disagreement]))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (3,)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="critics, n"):
        q_statistics(torch.zeros(shape))


def test_drift_is_a_distance_relative_to_the_target():
    rng = np.random.default_rng(0)
    ours = [rng.normal(size=shape) for shape in ((3, 4), (4,), (1,))]
    theirs = [rng.normal(size=x.shape) for x in ours]
    flat, other = (np.concatenate([x.ravel() for x in side]) for side in (ours, theirs))
    found = drift(*([torch.from_numpy(x) for x in side] for side in (ours, theirs)))
    assert found == pytest.approx(np.linalg.norm(flat - other) / np.linalg.norm(other))


def test_averaging_closes_the_drift_by_its_rate():
    online = [torch.tensor([1.0, 2.0], dtype=torch.float64)]
    target = [torch.tensor([1.0, 1.0], dtype=torch.float64)]
    before = drift(online, target) * target[0].norm()
    target[0].lerp_(online[0], 0.25)
    assert drift(online, target) * target[0].norm() == pytest.approx(0.75 * before)


def test_drift_of_a_copy_and_from_nothing():
    params = [torch.randn(3, 3)]
    assert drift(params, [params[0].clone()]) == 0
    assert np.isnan(drift(params, [torch.zeros(3, 3)]))


@pytest.mark.parametrize("target", [[], [torch.ones(4)], [torch.ones(3), torch.ones(1)]])
def test_drift_from_another_network_is_refused(target):
    with pytest.raises(ValueError, match="alike"):
        drift([torch.ones(3)], target)
