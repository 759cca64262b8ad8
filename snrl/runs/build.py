"""From a configuration to an SB3 model."""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.noise import (
    ActionNoise,
    NormalActionNoise,
    OrnsteinUhlenbeckActionNoise,
)
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

import snrl
import snrl.aliases  # registers the SN policies with SB3
from snrl.runs.config import RunConfig
from snrl.runs.errors import ConfigError

_STOCK: dict[str, type[SAC] | type[TD3]] = {"sac": SAC, "td3": TD3}
_FAST: dict[str, type[SAC] | type[TD3]] = {"sac": snrl.SAC, "td3": snrl.TD3}
_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}
_NOISES: dict[str, type[NormalActionNoise] | type[OrnsteinUhlenbeckActionNoise]] = {
    "normal": NormalActionNoise,
    "ornstein-uhlenbeck": OrnsteinUhlenbeckActionNoise,
}


def build_model(config: RunConfig, env: VecEnv) -> SAC | TD3:
    """Build the model that a configuration describes.

    Args:
        config: The run.
        env: Its training environments.

    Returns:
        An SB3 model, seeded.

    Raises:
        ConfigError: If SB3 or the SN policy refuses a value, or it does not fit into memory.
    """
    _check_device(config.device)
    prefix = "SN" if config.sn else ""
    try:
        return (_FAST if config.fast else _STOCK)[config.algo](
            prefix + _policy_name(env.observation_space),
            env,
            action_noise=_action_noise(config, env),
            policy_kwargs=_policy_kwargs(config),
            seed=config.seed,
            device=config.device,
            **_arguments(config),
        )
    except (ValueError, AssertionError, NotImplementedError, MemoryError) as error:
        raise ConfigError(f"{config.algo} on {config.env}: {error}") from error


def _policy_name(space: spaces.Space[Any]) -> str:
    if isinstance(space, spaces.Dict):
        return "MultiInputPolicy"
    return "CnnPolicy" if is_image_space(space) else "MlpPolicy"


def _arguments(config: RunConfig) -> dict[str, Any]:
    arguments = dict(config.algorithm)
    rate = arguments["learning_rate"]
    if isinstance(rate, str):
        arguments["learning_rate"] = LinearSchedule(float(rate.removeprefix("lin_")), 0.0, 1.0)
    if isinstance(arguments["train_freq"], list):
        arguments["train_freq"] = tuple(arguments["train_freq"])
    if not arguments.pop("handle_timeout_termination"):
        arguments["replay_buffer_kwargs"] = {"handle_timeout_termination": False}
    return arguments


def _policy_kwargs(config: RunConfig) -> dict[str, Any]:
    kwargs = {**config.policy, **config.sn_options}
    kwargs["activation_fn"] = _ACTIVATIONS[kwargs["activation_fn"]]
    return kwargs


def _action_noise(config: RunConfig, env: VecEnv) -> ActionNoise | None:
    if config.noise["noise_type"] is None:
        return None
    assert env.action_space.shape is not None
    ones = np.ones(env.action_space.shape)
    return _NOISES[config.noise["noise_type"]](0 * ones, config.noise["noise_std"] * ones)


def _check_device(name: str) -> None:
    """Refuse a device that is not there, where SB3 would quietly take the CPU."""
    if name == "auto":
        return
    try:
        device = torch.device(name)
        # Only a value that comes back tells whether the device is there and computes.
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(f"device {name} is not available") from error
