"""What the tests of critics and policies share: small real models, and an oracle for the norm."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import TQC, CrossQ
from stable_baselines3 import DDPG, DQN, SAC, TD3
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from torch import nn

import snrl  # noqa: F401  (registers the aliases)
from snrl.critics import access

from .studies.real_runs import short_tasks, study  # noqa: F401  (the README's code reads it too)

ALGORITHMS = {"sac": SAC, "td3": TD3, "ddpg": DDPG, "tqc": TQC, "crossq": CrossQ, "dqn": DQN}
# As often as the others, where a step of DQN's own is one in four and its target moves late.
OFTEN = {"dqn": {"train_freq": 1, "target_update_interval": 3}}
TINY = {"learning_starts": 20, "batch_size": 16, "buffer_size": 500, "seed": 0, "device": "cpu"}


@pytest.fixture(scope="session")
def make() -> Callable[..., OffPolicyAlgorithm]:
    """Make a small model: ``make("sac")``; ``policy_kwargs`` are merged with a small network."""

    def build(
        algo: str,
        policy: Any = "SNMlpPolicy",
        env: Any = None,
        learn: int = 0,
        **kwargs: Any,
    ) -> OffPolicyAlgorithm:
        policy_kwargs = {"net_arch": [32, 32]} | kwargs.pop("policy_kwargs", {})
        env = env or ("CartPole-v1" if algo == "dqn" else "Pendulum-v1")
        kwargs = TINY | OFTEN.get(algo, {}) | kwargs
        model = ALGORITHMS[algo](policy, env, policy_kwargs=policy_kwargs, **kwargs)
        return model.learn(learn) if learn else model

    return build


def _part(owner: Any, part: str) -> Any:
    """The critic or the target of a model or a policy; None where it has none."""
    return access.critic_of(owner, part.removeprefix("critic"))


@torch.no_grad()
def _applied(layer: nn.Module) -> np.ndarray:
    """The matrix a linear or convolution layer applies, read off its answers to unit inputs."""
    weight = layer.weight
    inputs = torch.eye(weight[0].numel(), dtype=weight.dtype, device=weight.device)
    inputs = inputs.view(-1, *weight.shape[1:])
    answers = layer(inputs) - layer(torch.zeros_like(inputs[:1]))
    return answers.flatten(1).T.double().cpu().numpy()


@pytest.fixture(scope="session")
def applied() -> Callable[[nn.Module], np.ndarray]:
    return _applied


@pytest.fixture(scope="session")
def assert_normalised() -> Callable[..., None]:
    """Assert, by SVD, that the chosen layers of all critics have the norm, and no other changed."""

    def check(
        owner: Any,
        layers: tuple[int, ...] | str = (-2,),
        coef: float = 1.0,
        rtol: float = 1e-2,
        parts: tuple[str, ...] = ("critic", "critic_target"),
        others: bool = True,
    ) -> None:
        assert access.critic_of(owner) is not None
        for part in parts:
            for network in access.heads(_part(owner, part)):
                linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
                named = {"hidden": linear[1:-1], "all": linear}
                chosen = named[layers] if isinstance(layers, str) else [linear[i] for i in layers]
                assert chosen
                for layer in chosen:
                    norm = np.linalg.norm(_applied(layer), 2)
                    assert norm == pytest.approx(coef, rel=rtol), (part, layer)
                rest = [x for x in linear if all(x is not layer for layer in chosen)]
                for layer in rest if others else ():
                    raw = layer.weight.detach().cpu().numpy()
                    np.testing.assert_allclose(_applied(layer), raw, atol=1e-5 * np.abs(raw).max())

    return check


@pytest.fixture(scope="session")
def watch(assert_normalised: Callable[..., None]) -> Callable[..., list[str]]:
    """Check the norm each time a critic or a target is evaluated; the list tells which it was."""

    def install(model: OffPolicyAlgorithm, *args: Any, **kwargs: Any) -> list[str]:
        seen: list[str] = []

        def before(part: str) -> Callable[..., None]:
            def hook(*_: Any) -> None:
                if not busy:
                    busy.append(True)
                    assert_normalised(model, *args, parts=(part,), others=False, **kwargs)
                    busy.clear()
                    seen.append(part)

            return hook

        busy: list[bool] = []
        for part in ("critic", "critic_target"):
            if _part(model, part) is not None:
                _part(model, part).register_forward_pre_hook(before(part))
        return seen

    return install


@pytest.fixture(autouse=True)
def precision_of_products() -> Iterator[None]:
    """No test leaves torch's products less precise than it found them."""
    yield
    torch.set_float32_matmul_precision("highest")
