"""What is DQN's own: one network with its extractor, hard updates, a network saved alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.envs import FakeImageEnv, IdentityEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.dqn.policies import QNetwork
from torch import nn

import snrl
from snrl.spectral import SpectralLayer

Make = Callable[..., Any]
IMAGES = {"features_extractor_kwargs": {"features_dim": 16}}


def images(make: Make, **options: Any) -> Any:
    env = FakeImageEnv(discrete=True, screen_height=36, screen_width=36)
    # SB3's default for images, which the small networks of these tests would replace.
    options = {"net_arch": None, **IMAGES, **options}
    return make("dqn", "SNCnnPolicy", env, buffer_size=60, policy_kwargs=options)


def applied_norm(layer: nn.Module) -> float:
    return float(np.linalg.norm(layer.effective_weight().detach().flatten(1).numpy(), 2))


def test_gogianus_setting_learns_a_task_of_one_step(make: Make, watch: Make) -> None:
    """SN on the last hidden layer; the target copied whole, at an interval."""
    model = make(
        "dqn",
        env=IdentityEnv(4),
        learning_rate=3e-3,
        gamma=0.0,
        exploration_fraction=0.5,
        tau=1.0,
        target_update_interval=50,
    )
    model.learn(500)
    seen = watch(model)
    model.learn(60, reset_num_timesteps=False)
    assert {"critic", "critic_target"} <= {*seen}
    mean, _ = evaluate_policy(model, model.get_env(), n_eval_episodes=3, warn=False)
    assert mean == 100  # Every one of an episode's 100 steps.


def test_a_network_for_images_has_its_last_hidden_layer_normalised(make: Make) -> None:
    """SB3's has none in its head: it is the extractor's linear layer."""
    model = images(make)
    for network in (model.q_net, model.q_net_target):
        assert len(network.q_net) == 1
        held = [x for x in network.modules() if isinstance(x, SpectralLayer)]
        assert held == [network.features_extractor.linear[0]]
    model.learn(40)
    assert all(applied_norm(x) == pytest.approx(1, rel=1e-3) for x in model.policy.spectral.layers)


@pytest.mark.parametrize(
    ("options", "expected", "in_head"),
    [
        ({"sn_layers": "all"}, 5, 1),
        ({"sn_layers": "hidden"}, 3, 0),
        ({"sn_layers": (-1, -5)}, 2, 1),
        ({"sn_layers": (-1,), "sn_features": True}, 5, 1),
        ({"sn_layers": (-2,), "sn_features": True}, 4, 0),
        ({"sn_layers": (-2,), "net_arch": [8]}, 1, 1),
    ],
)
def test_layers_are_counted_through_the_extractor(
    make: Make, options: dict[str, Any], expected: int, in_head: int
) -> None:
    model = images(make, **options)
    for network in (model.q_net, model.q_net_target):
        held = [x for x in network.modules() if isinstance(x, SpectralLayer)]
        assert len(held) == expected
        head = [x for x in held if any(x is other for other in network.q_net)]
        assert len(head) == in_head
    with pytest.raises(ValueError, match=r"layer -6 is outside .* 5 layers"):
        images(make, sn_layers=(-6,))


@pytest.mark.parametrize("kind", ["Mlp", "Cnn"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"critic": "sn+layer_norm", "sn_layers": (-1,), "net_arch": [16]},
        {"sn_mode": "gain", "sn_coef": 2.0},
    ],
)
def test_a_network_is_saved_and_loaded_alone(
    make: Make, kind: str, options: dict[str, Any], tmp_path: Path
) -> None:
    model = images(make, **options) if kind == "Cnn" else make("dqn", policy_kwargs=options)
    model.learn(30)
    network = model.q_net
    network.save(tmp_path / "network.pth")
    loaded = type(network).load(tmp_path / "network.pth", device="cpu")
    held = [x for x in loaded.modules() if isinstance(x, SpectralLayer)]
    assert len(held) == 1
    obs = torch.as_tensor(np.stack([model.observation_space.sample() for _ in range(5)]))
    network.set_training_mode(False)
    expected = network(obs)
    torch.testing.assert_close(loaded(obs), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(loaded.predict(obs.numpy())[0], network.predict(obs.numpy())[0])
    loaded.save(tmp_path / "again.pth")
    again = type(network).load(tmp_path / "again.pth", device="cpu")
    torch.testing.assert_close(again(obs), expected, rtol=1e-5, atol=1e-6)
    plain = snrl.fold_spectral_norm(model).q_net
    assert (type(plain) is QNetwork) == ("critic" not in options)
    plain.set_training_mode(False)
    plain.save(tmp_path / "plain.pth")
    for one in (plain, type(plain).load(tmp_path / "plain.pth", device="cpu")):
        assert not any(isinstance(x, SpectralLayer) for x in one.modules())
        torch.testing.assert_close(one(obs), expected, rtol=1e-5, atol=1e-6)


def test_a_hard_update_gives_the_target_the_online_values(make: Make) -> None:
    model = make("dqn", learning_rate=1e-2, tau=1.0, target_update_interval=1000, learn=60)
    obs = torch.randn(8, 4)
    assert not torch.allclose(model.q_net(obs), model.q_net_target(obs))
    model.target_update_interval = 1
    model._on_step()
    torch.testing.assert_close(model.q_net(obs), model.q_net_target(obs), rtol=1e-5, atol=1e-6)


def test_clipping_sees_the_gradient_of_the_normalised_loss(make: Make) -> None:
    """The gradient is clipped as a whole, that through sigma included."""
    model = make("dqn", max_grad_norm=1e-3, learn=25)
    norms = []
    model.policy.optimizer.register_step_pre_hook(
        lambda *_: norms.append(
            torch.cat([p.grad.flatten() for p in model.q_net.parameters()]).norm().item()
        )
    )
    model.train(3, batch_size=16)
    assert norms == pytest.approx([1e-3] * 3, rel=1e-2)
    layer = model.q_net.normalized[0]
    # What is normalised does not change with its weight's size: no gradient along the weight.
    along = (layer.weight.grad * layer.weight).sum() / layer.weight.norm()
    assert abs(along.item()) < 1e-3 * layer.weight.grad.norm().item() + 1e-8
