"""The probe of DQN: against SB3's own update, and where the values are known exactly."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.logger import configure
from torch import Tensor

from snrl.values.discrete import DiscreteProbe
from snrl.values.divergence import DivergenceWatch
from snrl.values.environment import own_env
from snrl.values.measurer import Measurement, Measurer, probe_of
from snrl.values.rollouts import Roller

from .truths import ConstantReward, Tabular, vectorised

GAMMA = 0.9
TINY = {"learning_starts": 20, "batch_size": 16, "buffer_size": 500, "seed": 0, "device": "cpu"}


def build(env: Any = "CartPole-v1", **kwargs: Any) -> DQN:
    policy_kwargs = {"net_arch": kwargs.pop("net_arch", [16, 16])}
    model = DQN("MlpPolicy", env, policy_kwargs=policy_kwargs, **(TINY | kwargs))
    model.set_logger(configure(None, []))
    return model


def set_values(model: Any, weight: Any, bias: Any, target_shift: float = 0.0) -> None:
    """Make online critic and target linear, with the given weight and bias."""
    for network, shift in ((model.q_net, 0.0), (model.q_net_target, target_shift)):
        (layer,) = network.q_net
        layer.weight.data = torch.as_tensor(weight, dtype=torch.float32)
        layer.bias.data = torch.as_tensor(bias, dtype=torch.float32) + shift


# --- against SB3 ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n_steps", [1, 3])
def test_the_loss_is_that_of_the_next_update(n_steps: int) -> None:
    model = build(n_steps=n_steps, train_freq=1, target_update_interval=30, learning_rate=1e-2)
    model.learn(70)
    probe = probe_of(model)
    assert isinstance(probe, DiscreteProbe)
    np.random.seed(3)
    batch = probe.sample_replay(16)
    assert batch is not None
    loss = probe.critic_loss(batch, probe.targets(batch))
    expected = torch.autograd.grad(loss, list(model.q_net.parameters()))
    np.random.seed(3)
    model.max_grad_norm = 1e9
    model.train(1, 16)
    assert model.logger.name_to_value["train/loss"] == pytest.approx(loss.item(), rel=1e-6)
    for parameter, gradient in zip(model.q_net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_values_and_units_are_the_critics() -> None:
    model = build().learn(60)
    probe = probe_of(model)
    observations = torch.randn(9, 4)
    values = model.q_net(observations)
    actions = torch.tensor([[0], [1], [1]] * 3)
    expected = torch.where(actions == 1, values[:, 1:], values[:, :1])[:, 0]
    torch.testing.assert_close(probe.heads(model.q_net, observations, actions), expected[None])
    torch.testing.assert_close(probe.q(observations, actions), expected)
    torch.testing.assert_close(probe.head(0, observations, actions), expected)
    (seen,) = probe.activations(observations, actions)
    assert [layer.shape for layer in seen.hidden] == [(9, 16), (9, 16)]
    torch.testing.assert_close(model.q_net.q_net[-1](seen.features), values)
    assert list(probe.effective_weights(model.q_net)) == ["q_net.0", "q_net.2", "q_net.4"]
    model.learning_rate = 0.5
    assert probe.learning_rate == model.policy.optimizer.param_groups[0]["lr"] == 1e-4


def test_the_greedy_policy_acts_and_draws_nothing() -> None:
    model = build()
    model.exploration_rate = 1.0
    probe = probe_of(model)
    observations = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    actions, log_prob = probe.act(observations)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    assert not log_prob.any()
    theirs, _ = model.policy.predict(observations.numpy(), deterministic=True)
    np.testing.assert_array_equal(probe.to_env(actions), theirs)
    assert probe.to_env(actions).dtype.kind == "i"
    assert set(theirs) == {0, 1}


def test_weights_that_are_not_finite_are_seen() -> None:
    model = build()
    assert probe_of(model).is_finite()
    model.q_net.q_net[0].weight.data[0, 0] = float("nan")
    assert not probe_of(model).is_finite()


# --- where the values are known -------------------------------------------------------------------


class Endless(ConstantReward):
    action_space = spaces.Discrete(3)


@pytest.mark.parametrize("limit", [5, None])
@pytest.mark.parametrize(("gamma", "error"), [(0.5, 0.0), (0.99, -3.0)])
def test_a_constant_reward(gamma: float, error: float, limit: int | None) -> None:
    """``Q = r / (1 - γ)`` for ever; a time limit changes nothing."""
    model = build(vectorised(Endless, limit, 1), gamma=gamma, net_arch=[])
    truth = 1.5 / (1 - gamma)
    set_values(model, torch.zeros(3, 2), [truth + error] * 3)
    values = Measurer(model, vectorised(Endless, limit, 2), "light", 0, print).measure().values
    # float32 holds the values.
    assert values["bias_mean"] == pytest.approx(error, abs=1e-5 * truth)
    assert values["bias_std"] == pytest.approx(0, abs=1e-5 * truth)
    # r + γ (Q + e) - (Q + e) = (γ - 1) e
    assert values["td_error_heldout"] == pytest.approx(((1 - gamma) * error) ** 2, rel=1e-3)


class Table(Tabular):
    """The tabular task with two discrete actions."""

    action_space: Any = spaces.Discrete(2)

    def step(self, action: Any) -> Any:
        return super().step([action - 0.5])

    def optimum(self) -> np.ndarray:
        """``Q*[s, a]``, by policy iteration on exact solutions."""
        policy = np.zeros(4, dtype=int)
        while True:
            q = self.truth(GAMMA, policy)
            if (q.argmax(1) == policy).all():
                return q
            policy = q.argmax(1)


def judge(offset: Any = 0.0, target_shift: float = 0.0) -> Measurement:
    """Measure a critic that holds the optimal values plus an error, ``(5, 2)`` or a number."""
    model = build(vectorised(Table, None, 1), gamma=GAMMA, net_arch=[])
    table = np.zeros((5, 2))
    table[:4] = Table().optimum()
    # Observations are one-hot.
    set_values(model, (table + offset).T, [0.0, 0.0], target_shift)
    return Measurer(model, vectorised(Table, None, 20), "light", 0, print).measure()


@pytest.fixture(scope="module")
def true() -> Measurement:
    return judge()


def test_the_optimal_values_are_found_true(true: Measurement) -> None:
    values = true.values
    assert abs(values["bias_mean"]) < 3 * values["bias_error"] < 0.3
    assert values["tail_weight"] < 0.05
    # What is left of the error of one step is chance alone, which the table tells exactly.
    task, states = Table(), true.rollouts.transitions
    value = np.append(task.optimum().max(1), 0.0)
    s = states.observations.numpy().astype(int).reshape(-1)
    a = states.actions.numpy().astype(int)[:, 0]
    mean = task.transitions[s, a] @ value
    chance = GAMMA**2 * (task.transitions[s, a] @ value**2 - mean**2)
    assert values["td_error_heldout"] == pytest.approx(chance.mean(), rel=0.15)
    assert (a == task.optimum().argmax(1)[s]).all()


def test_a_known_error_comes_back() -> None:
    values = judge(offset=2.0).values
    assert values["bias_mean"] == pytest.approx(2, abs=3 * values["bias_error"])
    assert values["overestimation_rate"] > 0.85


def test_only_the_greedy_actions_value_is_judged(true: Measurement) -> None:
    worse = np.zeros((5, 2))
    worse[np.arange(4), Table().optimum().argmin(1)] = -7.0
    values = judge(offset=worse).values
    for name in ("q_mean", "bias_mean", "bias_std", "return_mean", "td_error_heldout"):
        assert values[name] == true.values[name]


def test_targets_come_from_the_target(true: Measurement) -> None:
    values = judge(target_shift=5.0).values
    assert values["td_error_heldout"] > true.values["td_error_heldout"] + 5
    assert values["bias_mean"] == true.values["bias_mean"]
    assert values["q_target_mean"] == pytest.approx(values["q_mean"] + 5, abs=1e-4)


def test_slopes_in_the_state_are_those_of_the_greedy_action() -> None:
    model = build(vectorised(Endless, None, 1), gamma=GAMMA, net_arch=[])
    set_values(model, [[3.0, 4.0], [50.0, 0.0], [0.0, 60.0]], [1000.0, 0.0, 0.0])
    said: list[str] = []
    values = Measurer(model, vectorised(Endless, None, 2), "full", 0, said.append).measure().values
    assert values["lipschitz_state"] == pytest.approx(5)
    assert values["lipschitz_state_mean"] == pytest.approx(5)
    # The bound is of all actions' values together: the norm of the matrix.
    norm = np.linalg.norm([[3, 4], [50, 0], [0, 60]], 2)
    assert values["lipschitz_state_tightness"] == pytest.approx(5 / norm, rel=1e-5)
    assert not any("action" in name for name in values)
    assert any("geometry: there is no slope in actions that are discrete" in x for x in said)


def test_cartpole_pays_until_it_falls() -> None:
    """Of a policy that always pushes left: the return is ``(1 - γ^n) / (1 - γ)``, n steps left."""
    model = build(gamma=GAMMA, net_arch=[])
    set_values(model, torch.zeros(2, 4), [4.0, 0.0])
    env = own_env(vectorised(lambda: gym.make("CartPole-v1"), None, 4), model)
    env.seed(0)
    rollouts = Roller(probe_of(model), env, 200, 10_000, 0.01).roll()
    # All but the last four, which go on beyond the states that are kept.
    whole = np.unique(rollouts.episodes[rollouts.transitions.dones.numpy() == 1])
    assert len(whole) > 50
    lengths = set()
    for episode in whole:
        returns = rollouts.returns[rollouts.episodes == episode]
        expected = (1 - GAMMA ** np.arange(len(returns), 0, -1)) / (1 - GAMMA)
        np.testing.assert_allclose(np.sort(returns), np.sort(expected))
        lengths.add(len(returns))
    assert lengths >= {8, 9, 10}


# --- divergence -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "reason"),
    [
        (159.0, None),
        (161.0, "critic loss is 161, past its bound of 160"),
        (float("nan"), "critic loss is nan"),
    ],
)
def test_the_loss_of_the_last_update(loss: float, reason: str | None) -> None:
    model = build(gamma=GAMMA)
    divergences = DivergenceWatch(probe_of(model))
    divergences.see_rewards(np.array([-4.0, 1.0]))  # |Q| below 2 · 4 / 0.1
    model.logger.record("train/loss", loss)
    assert divergences.check() == reason


def test_the_bound_holds_for_any_error_within_it() -> None:
    bound = 3.0
    values = torch.linspace(-bound, bound, 41)
    pairs: Tensor = torch.cartesian_prod(values, values)
    worst = torch.nn.functional.smooth_l1_loss(*pairs.T, reduction="none").max().item()
    assert 0.9 * probe_of(build()).loss_bound(bound) < worst <= probe_of(build()).loss_bound(bound)
