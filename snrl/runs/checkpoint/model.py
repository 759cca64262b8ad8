"""The state of an SB3 off-policy algorithm, whichever it is, between two rollouts.

SB3's own ``save`` is for models to be used or trained further, not for a training to go on as if
nothing had happened: it leaves out the logger, the replay buffer and the generators, it loads into
a new object, and what loading computes anew (singular vectors, say) differs in its last bits.
"""

from collections import deque
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.noise import ActionNoise, VectorizedActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.save_util import recursive_getattr
from torch import Tensor, nn
from torch.optim import Optimizer

from snrl.fast.algorithm import FastAlgorithm
from snrl.spectral import SpectralNormalizer
from snrl.values.env_generators import capture_space, install_space

# Of the clock, and of this call of learn().
_NOT_KEPT = frozenset({"start_time", "_num_timesteps_at_start", "_total_timesteps"})
# What torch calls, in a state dict, that which a module keeps besides parameters and buffers.
_EXTRA_STATE = "_extra_state"


def model_state(model: OffPolicyAlgorithm) -> dict[str, Any]:
    """Collect the state of an algorithm, but for its replay buffer and the global generators.

    What is a network, an optimiser or a variable is what the algorithm names for its own ``save``;
    the rest is every attribute that is a number, an array or a queue, whatever it is called.

    Args:
        model: Between two rollouts. Not modified.

    Returns:
        Plain values, arrays and tensors; tensors are those of the model, not copies.
    """
    parts, variables = model._get_torch_save_params()
    logger = model.logger
    return {
        "attributes": {k: _plain(v) for k, v in vars(model).items() if _is_state(k, v)},
        "parts": {name: recursive_getattr(model, name).state_dict() for name in parts},
        "variables": {name: recursive_getattr(model, name).detach() for name in variables},
        "carried": {name: module.carried() for name, module in _normalizers(model)},
        "exploration": [dict(_matrices(part)) for part in _distributions(model)],
        "noise": [dict(_arrays(noise)) for noise in _noises(model.action_noise)],
        "action_space": capture_space(model.action_space),
        "is_prepared": isinstance(model, FastAlgorithm) and model.is_prepared,
        "logger": {
            "values": dict(logger.name_to_value),
            "counts": dict(logger.name_to_count),
            "excluded": dict(logger.name_to_excluded),
        },
    }


@torch.no_grad()
def restore_model(model: OffPolicyAlgorithm, state: dict[str, Any]) -> None:
    """Bring an algorithm of the same configuration to a state, bit by bit.

    Args:
        model: Between two rollouts. Mutated in place, so that whoever holds a part of it holds the
            right one.
        state: What :func:`model_state` gave.

    Raises:
        KeyError: If a part is missing.
        RuntimeError: If a part is of another shape.
    """
    for name, value in state["attributes"].items():
        own = getattr(model, name)
        if isinstance(own, deque):
            own.clear()
            own.extend(value)
        else:
            setattr(model, name, value)
    for name, part in state["parts"].items():
        _restore_part(recursive_getattr(model, name), part)
    for name, value in state["variables"].items():
        recursive_getattr(model, name).data.copy_(value)
    normalizers = dict(_normalizers(model))
    for name, carried in state["carried"].items():
        normalizers[name].take_back(carried)
    for distribution, matrices in zip(_distributions(model), state["exploration"], strict=True):
        vars(distribution).update(matrices)
    for noise, arrays in zip(_noises(model.action_noise), state["noise"], strict=True):
        vars(noise).update(arrays)
    install_space(model.action_space, state["action_space"])
    if state["is_prepared"] and isinstance(model, FastAlgorithm):
        # Actions come from what is prepared, once it is, and are rounded in another way.
        model.prepare()
    logger = model.logger
    for kept, saved in (
        (logger.name_to_value, state["logger"]["values"]),
        (logger.name_to_count, state["logger"]["counts"]),
        (logger.name_to_excluded, state["logger"]["excluded"]),
    ):
        kept.clear()
        kept.update(saved)


def _restore_part(part: nn.Module | Optimizer, saved: dict[str, Any]) -> None:
    if isinstance(part, Optimizer):
        part.load_state_dict(saved)
        return
    # Not by load_state_dict, which computes and holds norms anew.
    own = part.state_dict()
    if own.keys() != saved.keys():
        raise KeyError(f"parameters {sorted(own.keys() ^ saved.keys())}")
    for name, value in own.items():
        if value.shape != saved[name].shape:
            raise RuntimeError(f"{name} has the shape {tuple(value.shape)}")
        module, _, kind = name.rpartition(".")
        if kind == _EXTRA_STATE:
            # What a state dict gives of it is a copy.
            part.get_submodule(module).set_extra_state(saved[name])
        else:
            value.copy_(saved[name])


def _is_state(name: str, value: Any) -> bool:
    if name in _NOT_KEPT:
        return False
    if isinstance(value, dict):
        return bool(value) and all(isinstance(part, np.ndarray) for part in value.values())
    return isinstance(value, (bool, int, float, np.generic, np.ndarray, deque))


def _plain(value: Any) -> Any:
    if isinstance(value, deque):
        return list(value)
    return dict(value) if isinstance(value, dict) else value


def _normalizers(model: OffPolicyAlgorithm) -> list[tuple[str, SpectralNormalizer]]:
    modules = model.policy.named_modules()
    return [(name, x) for name, x in modules if isinstance(x, SpectralNormalizer)]


def _distributions(model: OffPolicyAlgorithm) -> list[Any]:
    """Distributions that hold what a state-dependent exploration has drawn."""
    if not model.use_sde:
        return []
    modules: Any = model.policy.modules()
    return [module.action_dist for module in modules if hasattr(module, "action_dist")]


def _matrices(distribution: Any) -> dict[str, Tensor]:
    names = ("exploration_mat", "exploration_matrices")
    return {name: getattr(distribution, name) for name in names}


def _noises(noise: ActionNoise | None) -> list[ActionNoise]:
    if noise is None:
        return []
    return noise.noises if isinstance(noise, VectorizedActionNoise) else [noise]


def _arrays(noise: ActionNoise) -> dict[str, np.ndarray]:
    return {name: value for name, value in vars(noise).items() if isinstance(value, np.ndarray)}
