"""Batch statistics in CrossQ: torch's arithmetic, modes, and what is saved."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import CrossQ
from sb3_contrib.common.torch_layers import BatchRenorm1d
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import set_random_seed
from torch import nn

from snrl.critics.stabilizers.batch_norm import BatchNorm, BatchRenorm
from snrl.crossq import MlpPolicy

Make = Callable[..., Any]
TINY = {"learning_starts": 20, "batch_size": 16, "buffer_size": 500, "seed": 0, "device": "cpu"}


def crossq(critic: str, steps: int = 0, **options: Any) -> CrossQ:
    kwargs = {"net_arch": [16, 16], "critic": critic, "critic_options": {critic: options}}
    if critic == "plain" or "+" in critic:
        del kwargs["critic_options"]
    return CrossQ(MlpPolicy, "Pendulum-v1", policy_kwargs=kwargs, **TINY).learn(steps)


def norms(model: CrossQ) -> list[BatchRenorm1d]:
    return [x for x in model.critic.modules() if isinstance(x, BatchRenorm1d)]


def made(stabilizer: Any) -> BatchRenorm1d:
    before: list[nn.Module] = []
    stabilizer._put(before, 5)
    return before[0].double()


def test_batch_norm_is_torchs_with_the_unbiased_variance() -> None:
    torch.manual_seed(0)
    n, eps = 12, 1e-3
    own = made(BatchNorm())
    # torch divides by sqrt(biased + eps); with eps (n-1)/n that is sqrt((n-1)/n) of the other.
    other = nn.BatchNorm1d(5, eps * (n - 1) / n, momentum=0.01).double()
    ratio = np.sqrt((n - 1) / n)
    for _ in range(3):
        x = (3 + 2 * torch.randn(n, 5, dtype=torch.float64)).requires_grad_()
        outputs = [own(x), other(x) * ratio]
        up = torch.randn(n, 5, dtype=torch.float64)
        grads = [torch.autograd.grad(y, x, up)[0] for y in outputs]
        torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(own.ra_mean, other.running_mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(own.ra_var, other.running_var, rtol=1e-12, atol=1e-12)
    own.eval()
    other.eval().eps = eps
    torch.testing.assert_close(own(x), other(x), rtol=1e-12, atol=1e-12)


def test_batch_renorm_is_its_papers_algorithm_after_the_warm_up() -> None:
    torch.manual_seed(0)
    # sb3-contrib adds eps to a variance twice, the paper once: a small one tells them not apart.
    norm = made(BatchRenorm(warmup_steps=1, momentum=0.3, eps=1e-14))
    mean, var = np.zeros(5), np.ones(5)
    for i in range(5):
        x = (1 + i + 2 * torch.randn(9, 5, dtype=torch.float64)).requires_grad_()
        y = norm(x)
        batch = x.detach().numpy()
        mu, sigma = batch.mean(0), batch.std(0, ddof=1)
        r, d = np.ones(5), np.zeros(5)
        if i > 1:
            running = np.sqrt(var)
            r = np.clip(sigma / running, 1 / 3, 3)
            d = np.clip((mu - mean) / running, -5, 5)
        expected = (batch - mu) / sigma * r + d
        np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-10, atol=1e-10)
        mean, var = mean + 0.3 * (mu - mean), var + 0.3 * (batch.var(0, ddof=1) - var)
        np.testing.assert_allclose(norm.ra_mean, mean, rtol=1e-12)
        np.testing.assert_allclose(norm.ra_var, var, rtol=1e-12)
    assert norm.steps == 5


def test_they_stand_in_the_place_of_crossqs_own() -> None:
    stock = CrossQ("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [16, 16]}, **TINY)
    drawn = torch.rand(2)
    for critic in ("batch_norm", "batch_renorm", "plain"):
        model = crossq(critic)
        assert torch.equal(torch.rand(2), drawn)
        own, other = (x.critic.qf0 for x in (model, stock))
        assert [type(x) for x in own] == [type(x) for x in other]
        assert [x.num_features for x in norms(model)] == [x.num_features for x in norms(stock)]
        for part, its in zip(own.parameters(), other.parameters(), strict=True):
            assert torch.equal(part, its)
    assert {x.warmup_steps for x in norms(crossq("batch_renorm", warmup_steps=7))} == {7}


def test_batch_renorm_with_crossqs_options_is_crossqs_critic_bit_for_bit() -> None:
    own = crossq("batch_renorm", 60).policy
    stock = CrossQ("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [16, 16]}, **TINY)
    state = stock.learn(60).policy.state_dict()
    assert all(torch.equal(x, state[name]) for name, x in own.state_dict().items())


@pytest.mark.parametrize(
    "critic", ["batch_norm", "batch_renorm", "sn+batch_norm", "sn+batch_renorm"]
)
def test_it_trains_is_saved_loaded_and_goes_on_the_same(
    assert_normalised: Make, tmp_path: Path, critic: str
) -> None:
    model = crossq(critic, 40)
    assert {int(x.steps) for x in norms(model)} == {20}  # One joint batch for each update.
    if critic.startswith("sn"):
        assert_normalised(model, parts=("critic",))
    model.save(tmp_path / "model.zip")
    loaded = CrossQ.load(tmp_path / "model.zip", device="cpu")
    loaded.replay_buffer = copy.deepcopy(model.replay_buffer)
    for x in (model, loaded):
        x.set_logger(configure(None, []))
        set_random_seed(1)
        x.train(4, batch_size=16)
    state = loaded.policy.state_dict()
    assert all(torch.equal(x, state[name]) for name, x in model.policy.state_dict().items())
    assert {int(x.steps) for x in norms(loaded)} == {24}


def test_evaluation_uses_running_statistics_and_changes_none() -> None:
    model = crossq("batch_norm", 40)
    model.policy.set_training_mode(False)
    before = {name: x.clone() for name, x in model.policy.state_dict().items()}
    obs, actions = torch.randn(8, 3), torch.zeros(8, 1)
    together = torch.cat(model.critic(obs, actions))
    rows = [model.critic(obs[i : i + 1], actions[i : i + 1]) for i in range(8)]
    apart = torch.cat([torch.cat(head) for head in zip(*rows, strict=True)])
    torch.testing.assert_close(together, apart)
    for name, x in model.policy.state_dict().items():
        assert torch.equal(x, before[name])
