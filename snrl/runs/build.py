"""From a configuration to an SB3 model."""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.noise import (
    ActionNoise,
    NormalActionNoise,
    OrnsteinUhlenbeckActionNoise,
)
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

import snrl.aliases  # noqa: F401  (registers the SN policies with SB3)
from snrl.algorithms import NotInstalledError, load_algorithm
from snrl.runs.config import RunConfig
from snrl.runs.errors import ConfigError
from snrl.runs.stabilizers import PLAIN

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


def build_model(config: RunConfig, env: VecEnv) -> OffPolicyAlgorithm:
    """Build the model that a configuration describes.

    Args:
        config: The run.
        env: Its training environments.

    Returns:
        An SB3 model, seeded.

    Raises:
        ConfigError: If the algorithm is not installed, SB3 or the policy refuses a value, or it
            does not fit into memory.
    """
    _check_device(config.device)
    try:
        # Each algorithm takes some of the arguments, which the options of the run follow.
        algorithm: Any = load_algorithm(config.algo, config.fast)
        model: OffPolicyAlgorithm = algorithm(
            _policy_name(config, algorithm, env.observation_space),
            env,
            policy_kwargs=_policy_kwargs(config),
            seed=config.seed,
            device=config.device,
            **_arguments(config, env),
        )
    except NotInstalledError as error:
        raise ConfigError(str(error)) from error
    except (ValueError, AssertionError, NotImplementedError, MemoryError) as error:
        raise ConfigError(f"{config.algo} on {config.env}: {error}") from error
    except RuntimeError as error:
        # Of a network too large torch says no more in its type.
        if "allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        raise ConfigError(
            f"{config.algo} on {config.env}: its networks do not fit into memory; make them smaller"
        ) from error
    return model


def _policy_name(
    config: RunConfig, algorithm: type[OffPolicyAlgorithm], space: spaces.Space[Any]
) -> str:
    name = "CnnPolicy" if is_image_space(space) else "MlpPolicy"
    if isinstance(space, spaces.Dict):
        name = "MultiInputPolicy"
    known = algorithm.policy_aliases
    if name not in known:
        raise ConfigError(
            f"{config.algo} cannot observe what {config.env} shows, which takes a {name}; it has "
            f"{', '.join(plain for plain in known if not plain.startswith('SN'))}"
        )
    return name if config.composition == PLAIN else f"SN{name}"


def _arguments(config: RunConfig, env: VecEnv) -> dict[str, Any]:
    arguments = dict(config.algorithm)
    if config.noise:
        arguments["action_noise"] = _action_noise(config, env)
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
    if config.composition != PLAIN:
        kwargs |= {"critic": config.composition, "critic_options": config.critic_options}
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
