"""The critic's values, gradients and purity, against SB3's critic and against the SVD."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.envs import FakeImageEnv
from torch import Tensor, nn

from snrl.critics import SpectralCritic, sigma_max
from snrl.spectral import SpectralLayer

from .extractors import BatchNormExtractor

Make = Callable[..., Any]


def batch(rows: int = 9, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    obs = torch.randn(rows, 3, generator=generator, dtype=dtype)
    actions = torch.rand(rows, 1, generator=generator, dtype=dtype) * 2 - 1
    return obs, actions


def one_by_one(critic: SpectralCritic, obs: Tensor, actions: Tensor) -> list[Tensor]:
    """What SB3's ``ContinuousCritic.forward`` does."""
    features = critic.extract_features(obs, critic.features_extractor)
    return [network(torch.cat([features, actions], 1)) for network in critic.q_networks]


def plain_values(critic: Any, obs: Tensor, actions: Tensor, layers: Any, coef: float) -> np.ndarray:
    """Evaluate an MLP critic in NumPy, with ``coef · W / svd(W)`` in the chosen layers."""
    inputs = torch.cat([obs, actions], 1).double().numpy()
    values = []
    for network in critic.q_networks:
        x = inputs
        linear = [module for module in network if isinstance(module, nn.Linear)]
        for position, layer in enumerate(linear):
            weight = layer.weight.detach().double().numpy()
            if position - len(linear) in layers:
                weight = coef * weight / np.linalg.svd(weight, compute_uv=False)[0]
            x = x @ weight.T + layer.bias.detach().double().numpy()
            if position < len(linear) - 1:
                x = np.maximum(x, 0)
        values.append(x)
    return np.stack(values)


@pytest.mark.parametrize("algo", ["sac", "td3"])
@pytest.mark.parametrize(("layers", "coef"), [((-2,), 1.0), ((-1, -3), 0.5), ((-1, -2, -3), 3.0)])
def test_the_values_are_those_of_weights_divided_by_their_svd_norm(
    make: Make, algo: str, layers: tuple[int, ...], coef: float
) -> None:
    model = make(algo, policy_kwargs={"sn_layers": layers, "sn_coef": coef})
    obs, actions = batch()
    for critic in (model.critic, model.critic_target):
        got = torch.stack(critic(obs, actions)).detach().numpy()
        expected = plain_values(critic, obs, actions, layers, coef)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_a_layer_that_has_the_norm_already_computes_the_plain_critics_values(make: Make) -> None:
    plain, normalised = make("sac", "MlpPolicy"), make("sac")
    with torch.no_grad():
        for network in plain.critic.q_networks:
            weight = network[2].weight
            weight /= torch.linalg.matrix_norm(weight.double(), 2)
    normalised.critic.load_state_dict(plain.critic.state_dict())
    obs, actions = batch()
    for got, expected in zip(
        normalised.critic(obs, actions), plain.critic(obs, actions), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n_critics", [1, 2, 3])
@pytest.mark.parametrize("layers", [(-2,), "all"])
def test_gradients_of_the_stacked_forward_are_those_of_the_loop(
    make: Make, n_critics: int, layers: Any
) -> None:
    model = make("sac", policy_kwargs={"n_critics": n_critics, "sn_layers": layers})
    critic = model.policy.double().critic
    obs, actions = batch(dtype=torch.float64)
    actions.requires_grad_()
    weights = torch.randn(n_critics, 9, 1, dtype=torch.float64)
    wanted = [actions, *critic.parameters()]

    looped = torch.stack(one_by_one(critic, obs, actions))
    stacked = torch.stack(critic(obs, actions))
    torch.testing.assert_close(stacked, looped, rtol=1e-12, atol=1e-12)
    expected = torch.autograd.grad((looped * weights).sum(), wanted)
    got = torch.autograd.grad((stacked * weights).sum(), wanted)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_the_gradient_flows_through_sigma(make: Make) -> None:
    """Scaling a weight leaves ``W / sigma(W)`` as it is, so its gradient is orthogonal to it."""
    model = make("sac")
    critic = model.policy.double().critic
    torch.cat(critic(*batch(dtype=torch.float64))).square().sum().backward()
    for network in critic.q_networks:
        layer = network[2]
        assert layer.weight.grad.norm() > 1e-6
        inner = (layer.weight.grad * layer.weight).sum()
        assert abs(inner) < 1e-10 * layer.weight.grad.norm() * layer.weight.norm()


@pytest.mark.parametrize("algo", ["sac", "td3"])
@pytest.mark.parametrize(
    "options",
    [
        {"activation_fn": nn.PReLU},
        {"features_extractor_class": BatchNormExtractor},
        {"activation_fn": nn.Tanh, "n_critics": 1},
    ],
)
def test_every_critic_gives_what_its_networks_give_one_by_one(
    make: Make, algo: str, options: dict[str, Any]
) -> None:
    model = make(algo, policy_kwargs=options, learn=40)
    obs, actions = batch()
    for critic in (model.critic, model.critic_target):
        critic.set_training_mode(False)
        got = critic(obs, actions)
        assert isinstance(got, tuple)
        for one, other in zip(got, one_by_one(critic, obs, actions), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_batch_statistics_move_once_for_each_forward_as_in_sb3(make: Make) -> None:
    options = {"features_extractor_class": BatchNormExtractor}
    plain = make("td3", "MlpPolicy", policy_kwargs=options)
    normalised = make("td3", policy_kwargs=options)
    for model in (plain, normalised):
        model.critic.set_training_mode(True)
        model.critic(*batch())
    expected = dict(plain.critic.features_extractor.named_buffers())
    for name, buffer in normalised.critic.features_extractor.named_buffers():
        torch.testing.assert_close(buffer, expected[name])


def test_a_parameterless_batch_statistic_sees_one_critic_at_a_time(make: Make) -> None:
    class Standardise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x - x.mean(0)) / (x.std(0) + 1e-3)

    critic = make("sac", policy_kwargs={"activation_fn": Standardise}).critic
    obs, actions = batch()
    for one, other in zip(critic(obs, actions), one_by_one(critic, obs, actions), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_critics", [1, 2, 3])
def test_q1_forward_is_the_first_of_forward(make: Make, n_critics: int) -> None:
    critic = make("td3", policy_kwargs={"n_critics": n_critics}).critic
    obs, actions = batch()
    values = critic(obs, actions)
    assert len(values) == n_critics
    assert all(value.shape == (9, 1) for value in values)
    torch.testing.assert_close(critic.q1_forward(obs, actions), values[0])


@pytest.mark.parametrize("algo", ["sac", "td3"])
@pytest.mark.parametrize("trained", [0, 40])
def test_forwards_predictions_and_modes_change_nothing(make: Make, algo: str, trained: int) -> None:
    model = make(algo, policy_kwargs={"sn_layers": "all"}, learn=trained)
    policy = model.policy
    before = copy.deepcopy(policy.state_dict())
    vectors = [buffer.clone() for buffer in policy.spectral.buffers()]
    random_state = torch.get_rng_state()
    obs, actions = batch()
    for mode in (True, False, True):
        policy.set_training_mode(mode)
        policy.train(mode)
        policy.critic_target.train(mode)
        for critic in (policy.critic, policy.critic_target):
            critic(obs, actions)
            critic.q1_forward(obs, actions)
            with torch.no_grad():
                critic(obs, actions)
            torch.cat(critic(obs, actions)).sum().backward()
        model.predict(obs.numpy(), deterministic=True)
    assert torch.equal(torch.get_rng_state(), random_state)
    after = policy.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(
        torch.equal(old, new) for old, new in zip(vectors, policy.spectral.buffers(), strict=True)
    )


def test_reading_the_targets_parameters_changes_nothing(make: Make) -> None:
    model = make("sac", policy_kwargs={"sn_layers": "all"}, learn=40)
    before = copy.deepcopy(model.policy.state_dict())
    assert sum(parameter.numel() for parameter in model.critic_target.parameters()) > 0
    after = model.policy.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_forwards_between_updates_leave_the_training_bit_identical(make: Make, algo: str) -> None:
    quiet, looked_at = make(algo, learn=30), make(algo, learn=30)
    for model in (quiet, looked_at):
        for _ in range(5):
            np.random.seed(0)
            torch.manual_seed(0)
            model.train(1, batch_size=16)
            if model is looked_at:
                for _ in range(7):
                    model.critic(*batch())
                    model.critic_target(*batch())
                    model.critic.train().eval()
    for name, value in quiet.policy.state_dict().items():
        assert torch.equal(value, looked_at.policy.state_dict()[name]), name


def test_parameters_are_sb3s_in_name_order_shape_and_value(make: Make) -> None:
    for algo in ("sac", "td3"):
        plain, normalised = make(algo, "MlpPolicy"), make(algo)
        for part in ("critic", "critic_target"):
            expected = list(getattr(plain, part).named_parameters())
            got = list(getattr(normalised, part).named_parameters())
            assert [name for name, _ in got] == [name for name, _ in expected]
            assert all(torch.equal(a, b) for (_, a), (_, b) in zip(got, expected, strict=True))
            listed = list(getattr(normalised, part).parameters())
            assert [id(p) for p in listed] == [id(p) for _, p in got]
            assert getattr(normalised, part).state_dict().keys() == (
                getattr(plain, part).state_dict().keys()
            )


def test_features_of_the_critics_own_cnn_are_normalised_on_request(
    make: Make, applied: Callable[[nn.Module], np.ndarray], assert_normalised: Make
) -> None:
    model = make(
        "td3",
        "SNCnnPolicy",
        FakeImageEnv(discrete=False, screen_height=40, screen_width=40),
        buffer_size=100,
        learning_rate=1e-3,
        policy_delay=1,
        tau=0.5,
        policy_kwargs={
            "sn_features": True,
            "sn_coef": 2.0,
            "features_extractor_kwargs": {"features_dim": 16},
        },
        learn=32,
    )
    assert_normalised(model, coef=2.0)
    for critic in (model.critic, model.critic_target):
        convolutions = [
            module
            for module in critic.features_extractor.modules()
            if isinstance(module, nn.Conv2d | nn.Linear)
        ]
        assert len(convolutions) == 4
        for layer in convolutions:
            assert np.linalg.norm(applied(layer), 2) == pytest.approx(2.0, rel=1e-2)
    assert not any(isinstance(module, SpectralLayer) for module in model.actor.modules())


def test_convolutions_stay_free_by_default(make: Make) -> None:
    env = FakeImageEnv(discrete=False, screen_height=40, screen_width=40)
    model = make("sac", "SNCnnPolicy", env, buffer_size=10)
    modules = model.critic.features_extractor.modules()
    assert not any(isinstance(module, SpectralLayer) for module in modules)


@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_a_critic_loaded_from_a_vector_is_normalised(
    make: Make, algo: str, assert_normalised: Make
) -> None:
    source, model = make(algo, seed=7), make(algo)
    vector = 3 * source.critic.parameters_to_vector()
    for critic in (model.critic, model.critic_target):
        critic.load_from_vector(vector)
        np.testing.assert_array_equal(critic.parameters_to_vector(), vector)
    assert_normalised(model, rtol=1e-5)


def test_a_critic_loaded_from_a_state_dict_is_normalised(
    make: Make, assert_normalised: Make
) -> None:
    source, model = make("sac", "MlpPolicy", seed=7), make("sac")
    for critic in (model.critic, model.critic_target):
        critic.load_state_dict({k: 5 * v for k, v in source.critic.state_dict().items()})
    assert_normalised(model, rtol=1e-5)


def test_a_zero_layer_trains_to_the_norm_without_nan(make: Make, assert_normalised: Make) -> None:
    for algo in ("sac", "td3"):
        model = make(algo, learn=25)
        with torch.no_grad():
            for critic in (model.critic, model.critic_target):
                for network in critic.q_networks:
                    network[2].weight.zero_()
                    network[2].bias.fill_(0.1)
                    network[4].weight.fill_(0.1)
                critic.refresh()
        values = torch.cat(model.critic(*batch()))
        assert torch.isfinite(values).all()
        model.tau = 0.5
        if algo == "td3":
            model.policy_delay = 1
        for _ in range(3):
            model.train(1, batch_size=16)
            assert_normalised(model)
        assert all(torch.isfinite(parameter).all() for parameter in model.policy.parameters())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_diverged_weight_does_not_raise_and_a_load_recovers(
    make: Make, bad: float, assert_normalised: Make
) -> None:
    model = make("sac", learn=25)
    good = copy.deepcopy(model.policy.state_dict())
    with torch.no_grad():
        model.critic.q_networks[0][2].weight[3, 4] = bad
    model.critic.optimizer.step()
    list(model.critic_target.parameters())
    assert np.isnan(sigma_max(model.critic))
    assert np.isfinite(sigma_max(model.critic_target))
    model.policy.load_state_dict(good)
    assert_normalised(model)
    model.train(2, batch_size=16)
    assert_normalised(model)


def test_sigma_max_is_the_largest_norm_applied(make: Make, applied: Any) -> None:
    for kwargs in ({"sn_coef": 0.7}, {"sn_layers": "all"}):
        model = make("sac", policy_kwargs=kwargs, learn=30)
        layers = [module for module in model.critic.modules() if isinstance(module, SpectralLayer)]
        expected = max(np.linalg.norm(applied(layer), 2) for layer in layers)
        assert sigma_max(model.critic) == pytest.approx(expected, rel=1e-5)
    plain = make("sac", "MlpPolicy").critic
    expected = max(np.linalg.norm(applied(network[2]), 2) for network in plain.q_networks)
    assert sigma_max(plain) == pytest.approx(expected, rel=1e-5)


def test_hooks_of_heads_and_of_all_modules_see_every_call():
    model = SAC("SNMlpPolicy", "Pendulum-v1")
    obs, actions = torch.randn(4, 3), torch.randn(4, 1)
    seen = []
    handle = model.critic.q_networks[0].register_forward_hook(lambda *_: seen.append("head"))
    model.critic(obs, actions)
    model.critic.q1_forward(obs, actions)
    handle.remove()
    assert seen == ["head", "head"]
    handle = nn.modules.module.register_module_forward_hook(lambda m, *_: seen.append(type(m)))
    model.critic(obs, actions)
    handle.remove()
    assert seen.count(nn.Linear) == 4
