"""The probe's targets and losses against what SB3's own update computes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from sb3_contrib import TQC
from stable_baselines3 import DDPG, SAC, TD3
from stable_baselines3.common.logger import configure

from snrl.values.probe import Probe

TINY = {"learning_starts": 20, "batch_size": 16, "buffer_size": 500, "seed": 0, "device": "cpu"}


def build(algorithm: Any, policy: str = "MlpPolicy", **kwargs: Any) -> Any:
    model = algorithm(policy, "Pendulum-v1", policy_kwargs={"net_arch": [16, 16]}, **TINY, **kwargs)
    model.set_logger(configure(None, []))
    return model.learn(60)


MODELS: dict[str, Callable[[], Any]] = {
    "sac": lambda: build(SAC),
    "sac, alpha": lambda: build(SAC, ent_coef=0.3),
    "sac, n steps": lambda: build(SAC, n_steps=3),
    "sn": lambda: build(SAC, "SNMlpPolicy"),
    "td3": lambda: build(TD3),
    "ddpg": lambda: build(DDPG),
    "tqc": lambda: build(TQC),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_is_that_of_the_next_update(name: str) -> None:
    """Same batch, same draws: the loss that SB3 logs is the probe's, bit for bit or nearly."""
    import numpy as np

    model = MODELS[name]()
    probe = Probe(model)
    np.random.seed(3)
    torch.manual_seed(3)
    batch = probe.sample_replay(16)
    assert batch is not None
    with probe.quiet():
        if probe.has_entropy:
            probe.act(batch.observations)  # SAC's update draws the actor's actions first
        # and its alpha moves before the targets are computed, as far as they use it: it does not
        loss = probe.critic_loss(batch, probe.targets(batch)).item()
    np.random.seed(3)
    torch.manual_seed(3)
    model.train(1, 16)
    assert model.logger.name_to_value["train/critic_loss"] == pytest.approx(loss, rel=1e-5)


def test_the_entropy_coefficient_is_the_current_one() -> None:
    model = build(SAC)
    assert Probe(model).entropy_coefficient == model.log_ent_coef.exp().item() != 1.0
    assert Probe(build(SAC, ent_coef=0.3)).entropy_coefficient == pytest.approx(0.3)
    assert Probe(build(TD3)).entropy_coefficient == 0.0


def test_a_deterministic_policy_acts_alike_and_draws_nothing() -> None:
    model = build(TD3)
    before = torch.get_rng_state()
    observations = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    actions, log_prob = Probe(model).act(observations)
    assert torch.equal(actions, model.actor(observations))
    assert torch.equal(log_prob, torch.zeros(5))
    assert torch.equal(torch.get_rng_state(), before)


def test_heads_of_quantiles_are_their_means() -> None:
    model = build(TQC)
    probe = Probe(model)
    observations, actions = torch.randn(5, 3), torch.rand(5, 1)
    heads = probe.heads(model.critic, observations, actions)
    assert heads.shape == (2, 5)
    quantiles = model.critic(observations, actions)
    torch.testing.assert_close(heads, quantiles.mean(2).T)
    for index in range(2):
        torch.testing.assert_close(probe.head(index, observations, actions), heads[index])


@pytest.mark.parametrize("policy", ["MlpPolicy", "SNMlpPolicy"])
def test_activations_are_what_the_layers_read(policy: str) -> None:
    model = build(SAC, policy)
    observations, actions = torch.randn(5, 3), torch.rand(5, 1)
    values = torch.stack(model.critic(observations, actions))
    seen = Probe(model).activations(observations, actions)
    for network, head, q in zip(model.critic.q_networks, seen, values, strict=True):
        x = torch.cat([observations, actions], 1)
        first = torch.relu(network[0](x))
        torch.testing.assert_close(head.hidden[0], first.detach())
        torch.testing.assert_close(head.features, torch.relu(network[2](first)).detach())
        torch.testing.assert_close(network[4](head.features), q)
        assert not any(module._forward_pre_hooks for module in network)


def test_effective_weights_are_what_is_applied(applied: Any) -> None:
    model = build(SAC, "SNMlpPolicy")
    weights = Probe(model).effective_weights(model.critic)
    assert list(weights) == ["qf0.0", "qf0.2", "qf0.4", "qf1.0", "qf1.2", "qf1.4"]
    for name, weight in weights.items():
        expected = torch.as_tensor(applied(model.critic.get_submodule(name)))
        torch.testing.assert_close(weight.double(), expected, atol=1e-5, rtol=1e-5)


def test_quiet_leaves_modes_and_noise() -> None:
    model = build(SAC, use_sde=True)
    model.policy.set_training_mode(True)
    model.critic_target.train(False)
    distribution = model.actor.action_dist
    before = dict(vars(distribution))
    probe = Probe(model)
    with probe.quiet():
        assert not any(module.training for module in model.policy.modules())
        probe.act(torch.randn(4, 3))
        assert vars(distribution)["exploration_mat"] is not before["exploration_mat"]
    assert model.critic.training
    assert not model.critic_target.training
    assert all(vars(distribution)[name] is value for name, value in before.items())


def test_an_empty_replay_buffer_gives_nothing() -> None:
    model = SAC("MlpPolicy", "Pendulum-v1", **TINY)
    assert Probe(model).sample_replay(4) is None


def test_weights_that_are_not_finite_are_seen() -> None:
    for part in ("actor", "critic"):
        model = build(TD3)
        assert Probe(model).is_finite()
        list(getattr(model, part).parameters())[-1].data[0] = float("inf")
        assert not Probe(model).is_finite()
