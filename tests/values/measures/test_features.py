import numpy as np
import pytest
import torch
from torch import nn

from snrl.values.measures import dormant_share, feature_ranks

from .critics import batch

SPECTRA = {
    "flat": np.ones(12),
    "decaying": 0.5 ** np.arange(12),
    "one": np.array([5.0, *np.zeros(11)]),
    "few": np.array([3.0, 2.0, 1.0, *np.zeros(9)]),
    "ill_conditioned": np.logspace(0, -12, 12),
}


def matrix(values, n=40, seed=0):
    rng = np.random.default_rng(seed)
    left, _ = np.linalg.qr(rng.normal(size=(n, len(values))))
    right, _ = np.linalg.qr(rng.normal(size=(len(values), len(values))))
    return left @ np.diag(values) @ right.T


def srank_by_definition(features, delta):
    values = np.linalg.svd(features, compute_uv=False)
    for k in range(1, len(values) + 1):
        if values[:k].sum() / values.sum() >= 1 - delta:
            return k
    raise AssertionError


@pytest.mark.parametrize("delta", [0.003, 0.01, 0.2])
@pytest.mark.parametrize("name", SPECTRA)
def test_srank_is_its_definition(name, delta):
    features = matrix(SPECTRA[name])
    found = feature_ranks(torch.from_numpy(features), delta)
    assert found.srank == srank_by_definition(features, delta)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", SPECTRA)
def test_the_other_ranks_are_those_of_numpy(name, dtype):
    features = torch.from_numpy(matrix(SPECTRA[name])).to(dtype)
    found = feature_ranks(features)
    assert found.numerical_rank == np.linalg.matrix_rank(features.numpy())
    stable = np.linalg.norm(features, "fro") ** 2 / np.linalg.norm(features, 2) ** 2
    assert found.stable_rank == pytest.approx(stable, rel=1e-5)
    np.testing.assert_allclose(
        found.singular_values, SPECTRA[name], atol=1e-6 if dtype is torch.float32 else 1e-14
    )


def test_the_three_ranks_are_three():
    found = feature_ranks(torch.from_numpy(matrix(SPECTRA["decaying"])))
    assert found.stable_rank == pytest.approx(4 / 3, rel=1e-6)
    assert (found.srank, found.numerical_rank) == (7, 12)


def test_of_a_hundred_equal_directions_srank_leaves_out_one():
    found = feature_ranks(torch.eye(100))
    assert (found.srank, found.numerical_rank) == (99, 100)
    assert found.stable_rank == pytest.approx(100)
    assert feature_ranks(torch.eye(100), delta=0.0).srank == 100


def test_scale_and_rotation_change_no_rank():
    features = matrix(SPECTRA["decaying"])
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(12, 12)))
    one = feature_ranks(torch.from_numpy(features))
    other = feature_ranks(torch.from_numpy(1e-200 * features @ rotation))
    assert (one.srank, one.numerical_rank) == (other.srank, other.numerical_rank)
    assert other.stable_rank == pytest.approx(one.stable_rank)


def test_a_network_that_collapsed_to_one_direction_has_rank_one():
    states = batch(200, 5)
    weight = batch(64, 1, seed=1) @ batch(1, 5, seed=2)
    collapsed = feature_ranks(states @ weight.T)
    assert (collapsed.srank, collapsed.numerical_rank) == (1, 1)
    healthy = feature_ranks((states @ batch(64, 5, seed=3).T).relu())
    assert healthy.srank > 20


def test_nothing_has_rank_nothing_and_nan_has_none():
    zero = feature_ranks(torch.zeros(5, 4))
    assert (zero.srank, zero.numerical_rank, zero.stable_rank) == (0, 0, 0)
    broken = torch.ones(5, 4)
    broken[2, 3] = float("nan")
    found = feature_ranks(broken)
    assert np.isnan([found.srank, found.numerical_rank, found.stable_rank]).all()
    assert found.singular_values.shape == (4,)


def test_too_few_states_are_refused():
    with pytest.raises(ValueError, match="at least as many states"):
        feature_ranks(torch.ones(63, 64))
    assert feature_ranks(torch.ones(64, 64)).srank == 1


@pytest.mark.parametrize("delta", [-0.1, 1.0])
def test_a_share_out_of_range_is_refused(delta):
    with pytest.raises(ValueError, match="delta"):
        feature_ranks(torch.ones(4, 4), delta)


def dormant_by_definition(layers, tau):
    dormant = units = 0
    for layer in layers:
        means = [
            np.mean([abs(layer[i, j]) for i in range(len(layer))]) for j in range(layer.shape[1])
        ]
        for mean in means:
            dormant += mean / (sum(means) / len(means)) <= tau
            units += 1
    return dormant / units


@pytest.mark.parametrize("tau", [0.0, 0.025, 0.1, 0.7])
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Tanh()])
def test_dormant_is_its_definition(tau, activation):
    scales = torch.logspace(-3, 0, 30, dtype=torch.float64)
    layers = [activation(batch(20, 30) * scales), activation(batch(20, 7, seed=1) - 2)]
    found = dormant_share(layers, tau)
    assert found == dormant_by_definition([layer.numpy() for layer in layers], tau)


def test_units_are_judged_by_their_own_layer():
    strong, weak = torch.full((10, 4), 100.0), torch.full((10, 4), 0.001)
    assert dormant_share([strong, weak], 0.1) == 0
    assert dormant_share([torch.cat((strong, weak), 1)], 0.1) == 0.5


def test_dead_units_are_dormant_and_so_is_a_silent_layer():
    layer = torch.ones(10, 8)
    layer[:, :3] = 0
    assert dormant_share([layer], 0.025) == 3 / 8
    assert dormant_share([layer, torch.zeros(10, 2)], 0.025) == 5 / 10


def test_a_unit_that_is_strong_with_either_sign_is_awake():
    layer = torch.ones(10, 2)
    layer[::2] = -1
    assert layer.mean() == 0
    assert dormant_share([layer], 0.1) == 0


def test_the_threshold_itself_is_dormant():
    layer = torch.tensor([[0.5, 1.0, 1.5, 1.0]])
    assert dormant_share([layer], 0.5) == 0.25
    assert dormant_share([layer], 0.499) == 0


def test_a_unit_of_a_convolution_is_a_channel():
    images = torch.zeros(6, 4, 5, 5)
    images[:, :3] = 1.0
    images[0, 3, 2, 2] = 1.0
    assert dormant_share([images], 0.1) == 0.25
    flat = images.movedim(1, -1).reshape(-1, 4)
    assert dormant_share([flat], 0.1) == 0.25


def test_nan_is_neither_dormant_nor_awake():
    assert np.isnan(dormant_share([torch.ones(3, 2), torch.full((3, 2), float("nan"))], 0.1))


@pytest.mark.parametrize("layers", [[], [torch.ones(3, 0)]])
def test_no_units_are_refused(layers):
    with pytest.raises(ValueError, match="no units"):
        dormant_share(layers, 0.1)
