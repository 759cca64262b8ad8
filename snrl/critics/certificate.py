"""What can be proven of a critic: how steep its values are in the state and in the action."""

from typing import Any

from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor
from torch import nn

from snrl.critics import access
from snrl.spectral.certificate import RTOL, lipschitz_bounds


def head_inputs(critic: nn.Module) -> dict[str, slice]:
    """Name the parts of a head's input in which it can be bounded.

    Args:
        critic: Any critic of :mod:`snrl.critics.access`. Not modified.

    Returns:
        ``action``, where the critic reads it; and where the features extractor passes the
        observation on as it is, whose constant is 1, ``state``, and ``state_action`` for both.
    """
    extractor: Any = critic.features_extractor
    inputs: dict[str, slice] = {}
    if access.reads_action(critic):
        inputs["action"] = slice(extractor.features_dim, None)
    if _is_flat(extractor):
        inputs["state"] = slice(0, extractor.features_dim)
        if access.reads_action(critic):
            inputs["state_action"] = slice(None)
    return inputs


def critic_lipschitz(critic: nn.Module, rtol: float = RTOL) -> dict[str, float]:
    """Bound the Lipschitz constants of a critic, certified: see :func:`lipschitz_bounds`.

    Args:
        critic: Any critic of :mod:`snrl.critics.access`, normalised or not. Not modified.
        rtol: How far above its norm the bound of a layer may lie.

    Returns:
        By name of the input (:func:`head_inputs`), the largest of all heads, in units of value per
        unit of observation or scaled action. It holds for all outputs of a head together (the
        quantiles of TQC, the actions of DQN), hence for each of them and for their mean. Empty
        where a head has a part of no known constant.
    """
    inputs = head_inputs(critic)
    networks = access.heads(critic)
    bounds = [lipschitz_bounds(tuple(network.children()), inputs, rtol) for network in networks]
    if not all(bounds):
        return {}
    return {name: max(bound[name] for bound in bounds) for name in inputs}


def _is_flat(extractor: nn.Module) -> bool:
    if isinstance(extractor, CombinedExtractor):
        return all(type(part) is nn.Flatten for part in extractor.extractors.values())
    return type(extractor) is FlattenExtractor
