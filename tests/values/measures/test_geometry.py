import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd.functional import hessian

from snrl.values.measures import geometry

from .critics import batch, critic, network


def by_brute_force(q, states, actions):
    """A dense Hessian for each state, its blocks by full SVD and eigenvalues."""
    mixed, action = [], []
    for state, act in zip(states, actions, strict=True):
        k = len(state)
        whole = hessian(lambda x, k=k: q(x[None, :k], x[None, k:])[0], torch.cat((state, act)))
        whole = whole.numpy()
        mixed.append(np.linalg.svd(whole[:k, k:], compute_uv=False)[0])
        action.append(np.abs(np.linalg.eigvalsh(whole[k:, k:])).max())
    return mixed, action


@pytest.mark.parametrize(("states", "actions"), [(5, 1), (5, 3), (2, 4), (1, 1)])
@pytest.mark.parametrize("activation", [nn.SiLU, nn.Tanh])
def test_is_that_of_the_dense_hessian(states, actions, activation):
    q = critic(network(states + actions, activation=activation))
    inputs = batch(12, states), batch(12, actions, seed=1)
    for found, expected in zip(geometry(q, *inputs), by_brute_force(q, *inputs), strict=True):
        assert found.shape == (12,)
        assert found.dtype == torch.float64
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_is_that_of_finite_differences():
    q, step = critic(network(5)), 1e-4
    states, actions = batch(6, 3), batch(6, 2, seed=1)
    both = torch.cat((states, actions), 1)
    shifts = step * torch.eye(5, dtype=torch.float64)

    def at(x):
        return q(x[:, :3], x[:, 3:]).detach()

    second = np.zeros((6, 5, 5))
    for i in range(5):
        for j in range(5):
            corners = [
                one * other * at(both + one * shifts[i] + other * shifts[j])
                for one in (1, -1)
                for other in (1, -1)
            ]
            second[:, i, j] = sum(corners) / (4 * step**2)
    found = geometry(q, states, actions)
    np.testing.assert_allclose(
        found.mixed, np.linalg.norm(second[:, :3, 3:], 2, axis=(1, 2)), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        found.action,
        np.abs(np.linalg.eigvalsh(second[:, 3:, 3:])).max(1),
        rtol=1e-4,
        atol=1e-5,
    )


def test_of_a_quadratic_is_known_in_closed_form():
    mixed = batch(4, 3)
    rotation, _ = torch.linalg.qr(batch(3, 3, seed=1))
    curvature = rotation @ torch.diag(torch.tensor([-5.0, 2.0, 1.0]).double()) @ rotation.T

    def q(states, actions):
        crossed = torch.einsum("ni,ij,nj->n", states, mixed, actions)
        return crossed + torch.einsum("ni,ij,nj->n", actions, curvature, actions) / 2

    found = geometry(q, batch(7, 4, seed=2), batch(7, 3, seed=3))
    np.testing.assert_allclose(found.mixed, np.linalg.norm(mixed, 2))
    np.testing.assert_allclose(found.action, 5.0)


def test_what_is_linear_in_pieces_shows_none():
    relu = geometry(critic(network(5, activation=nn.ReLU)), batch(9, 3), batch(9, 2))
    linear = geometry(critic(nn.Linear(5, 1).double()), batch(9, 3), batch(9, 2))
    for found in (*relu, *linear):
        assert found.tolist() == [0.0] * 9


def test_an_action_that_does_not_matter_shows_none():
    found = geometry(lambda s, _: s.square().sum(1), batch(4, 3), batch(4, 2))
    assert [x.tolist() for x in found] == [[0.0] * 4] * 2
    curved = geometry(lambda _, a: (a**3).sum(1) / 6, batch(4, 3), batch(4, 2))
    assert curved.mixed.tolist() == [0.0] * 4
    np.testing.assert_allclose(curved.action, batch(4, 2).abs().amax(1))


def test_images_are_vectors_too():
    net = network(3 * 4 + 2)
    states, actions = batch(5, 3, 2, 2), batch(5, 2, seed=1)
    found = geometry(critic(net), states, actions)
    flat = geometry(critic(net), states.flatten(1), actions)
    for one, other in zip(found, flat, strict=True):
        np.testing.assert_allclose(one, other)


def test_a_state_that_is_not_finite_spoils_its_own_row_alone():
    q = critic(network(7))
    states, actions = batch(6, 3), batch(6, 4, seed=1)
    clean = geometry(q, states, actions)
    states[2, 1] = float("nan")
    for found, before in zip(geometry(q, states, actions), clean, strict=True):
        assert found.isnan().tolist() == [i == 2 for i in range(6)]
        np.testing.assert_allclose(found[found.isfinite()], before[[0, 1, 3, 4, 5]])


def test_leaves_no_gradient_behind_and_works_without():
    net = network(5)
    states, actions = batch(8, 3), batch(8, 2)
    with torch.no_grad():
        found = geometry(critic(net), states, actions)
    assert all(param.grad is None for param in net.parameters())
    assert not any(x.requires_grad for x in (states, actions, *found))
