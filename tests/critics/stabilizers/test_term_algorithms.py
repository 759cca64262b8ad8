"""Terms in algorithms whose critics and losses are built otherwise."""

from typing import Any

import pytest
import torch
from sb3_contrib import TQC, CrossQ
from stable_baselines3 import DQN

from snrl.critics import access
from snrl.critics.stabilizers import resolve_critic
from snrl.critics.stabilizers.penalties import FeaturePenalty, GradientPenalty

ALGORITHMS = {"tqc": TQC, "crossq": CrossQ, "dqn": DQN}
TERMS = ("feature_penalty", "gradient_penalty", "weight_decay", "l2_penalty")


def make(algo: str, *names: str) -> Any:
    """A model with a critic of its own, to which terms are added."""
    model = ALGORITHMS[algo](
        "MlpPolicy",
        "CartPole-v1" if algo == "dqn" else "Pendulum-v1",
        policy_kwargs={"net_arch": [16, 12]},
        **{"seed": 0, "learning_starts": 20, "batch_size": 16, "buffer_size": 500},
        **({"train_freq": 1} if algo == "dqn" else {}),
        device="cpu",
    )
    model.policy.followers = {}
    for stabilizer in resolve_critic("+".join(names)):
        if stabilizer.why_not(model.policy) is None:
            stabilizer.install(model.policy)
    return model


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_each_update_has_its_terms(algo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    for kind in (GradientPenalty, FeaturePenalty):
        term = kind.term
        monkeypatch.setattr(kind, "term", lambda *args, term=term: seen.append(args) or term(*args))
    model = make(algo, *TERMS)
    assert ("gradient_penalty" in model.policy.followers) == (algo != "dqn")
    model.learn(30)
    assert model._n_updates == 10
    assert len(seen) == 10 * (1 if algo == "dqn" else 2)
    rows = 32 if algo == "crossq" else 16
    assert all(len(args[2]) == rows for args in seen)
    critic = access.online_critic(model)
    assert all(bool(x.isfinite().all()) for x in critic.parameters())


def test_the_slope_of_tqc_is_that_of_the_mean_of_its_quantiles() -> None:
    critic = access.online_critic(make("tqc", "layer_norm"))
    obs, actions = torch.randn(6, 3), torch.rand(6, 1)
    expected = 0.0
    for k in range(2):
        jacobian = torch.autograd.functional.jacobian(
            lambda a, k=k: critic(obs, a)[:, k].mean(1).sum(), actions
        )
        expected += (jacobian.norm(dim=1) - 0.1).square().mean().item()
    penalty = GradientPenalty(target=0.1, two_sided=True)
    assert penalty.term(critic, obs, actions).item() == pytest.approx(expected, rel=1e-4)


def test_crossqs_term_has_the_modes_and_statistics_of_its_loss() -> None:
    model = make("crossq", "gradient_penalty")
    model.learn(25)
    critic = access.online_critic(model)
    (follower,) = model.policy.followers.values()
    obs, actions = torch.randn(8, 3), torch.rand(8, 1)
    for module in critic.modules():
        if hasattr(module, "warmup_steps"):
            module.warmup_steps = 0  # running statistics are part of the values from here on
    term = follower._term
    values, statistics = [], []
    follower._term = lambda *args: values.append(critic(obs, actions)) or term(*args)
    critic.set_bn_training_mode(True)
    expected = critic(obs, actions)
    critic.set_bn_training_mode(False)
    statistics.append([x.clone() for x in critic.buffers()])
    sum(value.square().mean() for value in expected).backward()
    critic.optimizer.step()
    statistics.append([x.clone() for x in critic.buffers()])
    for got, value in zip(values[0], expected, strict=True):
        assert torch.equal(got, value)
    assert all(map(torch.equal, *statistics))
    assert not any(x.training for x in critic.modules() if hasattr(x, "warmup_steps"))


def test_redq_is_refused_where_the_target_is_no_minimum() -> None:
    for algo in ("tqc", "crossq", "dqn"):
        (redq,) = resolve_critic("redq")
        assert "as in SAC, TD3 and DDPG" in str(redq.why_not(make(algo, "layer_norm").policy))
