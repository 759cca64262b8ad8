"""Pairs of models, one of this library and one of SB3, that start equal and see equal numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from snrl.ddpg.ddpg import DDPG
from snrl.sac.sac import SAC
from snrl.td3.td3 import TD3

FAST = {"sac": SAC, "td3": TD3, "ddpg": DDPG}
STOCK = {
    "sac": stable_baselines3.SAC,
    "td3": stable_baselines3.TD3,
    "ddpg": stable_baselines3.DDPG,
}
# Fewer than these leave too little for a batch; a prime, so that no buffer is full by chance.
N_TRANSITIONS = 97
BATCH = 16
# Of a tensor's largest entry, after ten updates. Adam divides by the size of the gradient: where
# that is as small as rounding and as its eps of 1e-8, the direction of a step is rounding too.
# Pairs with that eps differ by up to 4e-5 of the largest entry, with this one by less than 1e-5.
FLOAT32 = 1e-5
CALM = {"optimizer_kwargs": {"eps": 1e-4}}


def make_one(
    algorithm: type, policy: Any = "MlpPolicy", env: Any = "Pendulum-v1", **kwargs: Any
) -> Any:
    """Make a small model whose buffer holds random transitions."""
    policy_kwargs = {"net_arch": [16, 16]} | kwargs.pop("policy_kwargs", {})
    options = {"buffer_size": 200, "seed": 0, "device": "cpu", "learning_rate": 1e-3} | kwargs
    model = algorithm(policy, env, policy_kwargs=policy_kwargs, **options)
    model.set_logger(Logger(None, []))
    fill(model)
    return model


def make_pair(
    algo: str, policy: Any = "MlpPolicy", env: Any = "Pendulum-v1", **kwargs: Any
) -> tuple[Any, Any]:
    """Make one of this library's and one of SB3's, in this order; an ``env`` may make one."""
    return tuple(
        make_one(algorithm, policy, env() if callable(env) else env, **kwargs)
        for algorithm in (FAST[algo], STOCK[algo])
    )


def fill(model: Any, n_transitions: int = N_TRANSITIONS, seed: int = 0) -> None:
    """Add transitions to a buffer: some end an episode, some of these by a time limit."""
    buffer, rng = model.replay_buffer, np.random.default_rng(seed)
    env: VecEnv = model.get_env()
    env.observation_space.seed(seed)
    env.action_space.seed(seed)

    def observe() -> Any:
        drawn: Any = [env.observation_space.sample() for _ in range(env.num_envs)]
        if isinstance(env.observation_space, spaces.Dict):
            return {key: np.stack([x[key] for x in drawn]) for key in drawn[0]}
        return np.stack(drawn)

    for _ in range(n_transitions):
        dones = rng.random(env.num_envs) < 0.2
        infos = [{"TimeLimit.truncated": bool(x)} for x in dones & (rng.random(len(dones)) < 0.5)]
        actions = rng.uniform(-1, 1, (env.num_envs, *env.action_space.shape))
        buffer.add(observe(), observe(), actions, rng.normal(size=len(dones)), dones, infos)


@contextmanager
def in_float64(*models: Any) -> Iterator[None]:
    """Let models compute in float64 while the context lasts, in which SB3 converts to float32."""
    make_double(*models)
    place = "stable_baselines3.common.policies.preprocess_obs"
    with mock.patch(place, lambda obs, *_, **__: obs.double()):
        yield


def make_double(*models: Any) -> None:
    """Convert what models have learned to float64: see ``in_float64``."""
    for model in models:
        model.policy.double()
        if getattr(model, "log_ent_coef", None) is not None:
            model.log_ent_coef.data = model.log_ent_coef.data.double()
        if getattr(model.policy, "spectral", None) is not None:
            model.policy.spectral.reset()


def train(
    models: Any, calls: int, gradient_steps: int = 1, batch_size: int = BATCH, first: int = 0
) -> None:
    """Train each model by as many calls, all from the same random numbers."""
    for model in models:
        for call in range(first, first + calls):
            torch.manual_seed(call)
            np.random.seed(call)
            model.train(gradient_steps, batch_size)


def state(model: Any) -> Iterator[tuple[str, Tensor]]:
    """All that an update changes, and what it logs; not the vectors of a normalizer."""
    for name, value in model.policy.state_dict().items():
        if not name.startswith("spectral."):
            yield name, value
    optimizers = {"actor": model.actor.optimizer, "critic": model.critic.optimizer}
    if getattr(model, "ent_coef_optimizer", None) is not None:
        yield "log_ent_coef", model.log_ent_coef.detach()
        optimizers["ent_coef"] = model.ent_coef_optimizer
    for name, optimizer in optimizers.items():
        saved = optimizer.state_dict()
        for i, kept in saved["state"].items():
            for key, value in kept.items():
                yield f"{name}.{i}.{key}", torch.as_tensor(value)
        for i, group in enumerate(saved["param_groups"]):
            yield f"{name}.lr.{i}", torch.tensor(float(group["lr"]))
    for name, value in model.logger.name_to_value.items():
        yield name, torch.tensor(float(value), dtype=torch.float64)
    yield "n_updates", torch.tensor(model._n_updates)


def distance(fast: Any, stock: Any) -> tuple[float, str]:
    """The largest difference, relative to the largest entry of what it is in, and where it is."""
    mine, theirs = dict(state(fast)), dict(state(stock))
    assert mine.keys() == theirs.keys()
    worst = (0.0, "")
    for name, value in theirs.items():
        assert mine[name].dtype == value.dtype, name
        assert mine[name].shape == value.shape, name
        a, b = mine[name].double(), value.double()
        if not value.numel() or torch.equal(a, b):
            continue
        found = ((a - b).abs().max() / b.abs().max()).item()
        worst = max(worst, (found, name)) if found == found else (float("nan"), name)
    return worst


def assert_equal(fast: Any, stock: Any, rtol: float) -> None:
    """Assert that two models are in the same state, to a share of each tensor's largest entry."""
    found, where = distance(fast, stock)
    assert found <= rtol, f"{where} differs by {found:.1e}"


def nudged(model: Any, seed: int = 0) -> Any:
    """Move weights of the critic by their last digits: how far it goes is what rounding can do."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in (x for x in model.critic.parameters() if x.dim() == 2):
            digits = torch.randint(-1, 2, weight.shape, generator=generator)
            weight.mul_(1 + torch.finfo(weight.dtype).eps * digits.to(weight.dtype))
    return model


def is_fast(model: Any) -> bool:
    """Tell whether the last ``train()`` went the fast way."""
    return model._update is not None
