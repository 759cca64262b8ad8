"""What can be proven of a critic: how steep its values are in the state and in the action."""

from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor
from torch import nn

from snrl.spectral.certificate import RTOL, lipschitz_bounds


def head_inputs(critic: ContinuousCritic) -> dict[str, slice]:
    """Name the parts of a head's input in which it can be bounded.

    Args:
        critic: Any SB3 critic. Not modified.

    Returns:
        ``action``; and where the features extractor passes the observation on as it is, whose
        constant is 1, also ``state`` and both together, ``state_action``.
    """
    features = critic.features_extractor.features_dim
    inputs = {"action": slice(features, None)}
    if _is_flat(critic.features_extractor):
        inputs |= {"state": slice(0, features), "state_action": slice(None)}
    return inputs


def critic_lipschitz(critic: ContinuousCritic, rtol: float = RTOL) -> dict[str, float]:
    """Bound the Lipschitz constants of a critic, certified: see :func:`lipschitz_bounds`.

    Args:
        critic: Any SB3 critic, normalised or not. Not modified.
        rtol: How far above its norm the bound of a layer may lie.

    Returns:
        By name of the input (:func:`head_inputs`), the largest of all heads, in units of value per
        unit of observation or scaled action. Empty where a head has a part of no known constant.
    """
    inputs = head_inputs(critic)
    heads = [lipschitz_bounds(tuple(head.children()), inputs, rtol) for head in critic.q_networks]
    if not all(heads):
        return {}
    return {name: max(head[name] for head in heads) for name in inputs}


def _is_flat(extractor: nn.Module) -> bool:
    if isinstance(extractor, CombinedExtractor):
        return all(type(part) is nn.Flatten for part in extractor.extractors.values())
    return type(extractor) is FlattenExtractor
