"""A whole measurement, on critics whose error is known."""

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.logger import configure

from snrl.values.measurer import PLANS, Measurement, Measurer

from .truths import LinearQuadratic, linear_sac, set_critic, vectorised

GAMMA = 0.9


def measure(critic: Any, alpha: float = 0.2, measures: str = "light") -> Measurement:
    model = linear_sac(vectorised(LinearQuadratic, 50, 1), LinearQuadratic.K, 0.3, GAMMA, alpha)
    set_critic(model, *critic(LinearQuadratic().truth(GAMMA, alpha)))
    return Measurer(model, vectorised(LinearQuadratic, 50, 60), measures, 0, print).measure()


def test_the_truth_is_found_true() -> None:
    values = measure(lambda truth: [truth, truth]).values
    assert abs(values["bias_mean"]) < 3 * values["bias_error"] < 0.4
    assert values["bias_mean_normalised"] == pytest.approx(
        values["bias_mean"] / max(abs(values["return_mean"]), 10)
    )
    assert values["disagreement"] == 0
    # The values of the truth leave nothing but chance to a held-out error.
    chance = values["td_error_heldout"]
    assert measure(lambda truth: [lambda z: 2 * truth(z)]).values["td_error_heldout"] > 2 * chance


def test_a_known_error_comes_back_in_every_number() -> None:
    measured = measure(lambda truth: [lambda z: truth(z) + 5, lambda z: truth(z) + 3])
    values = measured.values
    assert values["bias_mean"] == pytest.approx(4, abs=3 * values["bias_error"])
    assert values["overestimation_rate"] > 0.9
    assert values["absolute_discrepancy"] == pytest.approx(4, abs=0.5)
    assert values["disagreement"] == pytest.approx(1)
    assert values["q_mean"] == pytest.approx(values["return_mean"] + values["bias_mean"])
    assert measured.returns is not None
    np.testing.assert_allclose(measured.histograms["errors"].numpy(), measured.q - measured.returns)


def test_a_critic_that_orders_wrongly_is_told() -> None:
    right = measure(lambda truth: [truth]).values["rank_correlation"]
    wrong = measure(lambda truth: [lambda z: -truth(z)]).values["rank_correlation"]
    assert right > 0.3
    assert wrong == pytest.approx(-right, abs=0.1)


def test_the_sets_agree() -> None:
    """Longer tails and more states find the same bias, within both intervals."""
    light, full = (
        measure(lambda truth: [lambda z: truth(z) + torch.tanh(z[:, 0])], measures=name).values
        for name in PLANS
    )
    interval = 3 * np.hypot(light["bias_error"], full["bias_error"])
    assert light["bias_mean"] == pytest.approx(full["bias_mean"], abs=interval)
    assert light["tail_weight"] > full["tail_weight"]


def test_what_is_measured_is_slope() -> None:
    """A linear critic: its slopes, by hand."""
    weight = torch.tensor([3.0, -4.0, 2.0], dtype=torch.float64)
    values = measure(lambda _: [lambda z: z @ weight, lambda z: z @ weight / 2]).values
    assert values["lipschitz_state"] == pytest.approx(5)
    assert values["lipschitz_state_mean"] == pytest.approx(3.75)
    assert values["lipschitz_action"] == pytest.approx(2)


def test_what_does_not_apply_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    model = linear_sac(vectorised(LinearQuadratic, 50, 1), LinearQuadratic.K, 0.3, GAMMA, 0.2)
    set_critic(model, LinearQuadratic().truth(GAMMA))
    measurer = Measurer(model, vectorised(LinearQuadratic, 50, 2), "light", 0, print)
    first, second = measurer.measure(), measurer.measure()
    said = capsys.readouterr().out.splitlines()
    assert len(said) == len(set(said)) == 4
    assert any("dormant units: the critic has no hidden layer" in line for line in said)
    for measured in (first, second):
        assert "srank" not in measured.values
        assert "bias_mean" in measured.values


def test_the_reference_is_not_of_the_episodes_measured_next() -> None:
    model = linear_sac(vectorised(LinearQuadratic, 50, 1), LinearQuadratic.K, 0.3, GAMMA, 0.2)
    measurer = Measurer(model, vectorised(LinearQuadratic, 50, 8), "light", 0, print)
    assert len(measurer.reference()) == 256
    assert measurer.reference() is measurer.reference()
    first = measurer.reference()
    measurer.measure()
    assert measurer.reference() is not first
    assert len(measurer.reference()) == 256


def test_the_gradient_is_that_of_the_update() -> None:
    """On the batch that was drawn: what the algorithm's own update would put into ``.grad``."""
    model = TD3(
        "MlpPolicy", "Pendulum-v1", learning_starts=20, batch_size=256, device="cpu", seed=0
    )
    model.set_logger(configure(None, []))
    model.learn(30)
    measurer = Measurer(model, "Pendulum-v1", "light", 0, print)
    batches = []
    sample = measurer.probe.sample_replay

    def recorded(n: int) -> Any:
        states = np.random.get_state(), torch.get_rng_state()
        batch = sample(n)
        batches.append(states)
        return batch

    measurer.probe.sample_replay = recorded  # type: ignore[method-assign]
    model.target_policy_noise = 1e-30  # which the update draws anew
    values = measurer.measure().values
    np.random.set_state(batches[0][0])
    torch.set_rng_state(batches[0][1])
    model.policy_delay = 1000
    model.train(1, 256)
    gradients = [parameter.grad.flatten() for parameter in model.critic.parameters()]
    assert values["grad_norm"] == pytest.approx(torch.cat(gradients).norm().item(), rel=1e-4)
    first = model.critic.q_networks[0][0].weight.grad.norm().item()
    assert values["grad_norm/qf0.0"] == pytest.approx(first, rel=1e-4)


@pytest.mark.parametrize("measures", PLANS)
def test_there_are_as_many_states_as_features(measures: str) -> None:
    """Or their number would bound the rank: here of features of full rank."""
    model = SAC(
        "MlpPolicy",
        "Pendulum-v1",
        policy_kwargs={"net_arch": {"pi": [8], "qf": [1000]}, "activation_fn": torch.nn.Tanh},
        buffer_size=10,
        gamma=GAMMA,
        device="cpu",
        seed=0,
    )
    measurer = Measurer(model, "Pendulum-v1", measures, 0, print)
    measured = measurer.measure()
    assert len(measured.rollouts.transitions) >= 1000
    assert measured.values["srank"] >= 1
