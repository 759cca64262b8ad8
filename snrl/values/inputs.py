"""A critic as a function of two tensors, whatever its observations are made of."""

from collections.abc import Callable

import torch
from gymnasium import spaces
from torch import Tensor

from snrl.values.probe import Observations, Probe


def is_continuous(space: spaces.Space[object]) -> bool:
    """Tell whether a value can be differentiated in every part of an observation."""
    if isinstance(space, spaces.Dict):
        return all(is_continuous(part) for part in space.values())
    return isinstance(space, spaces.Box)


def flatten(observations: Observations) -> Tensor:
    """Lay an observation's parts side by side: shape ``(n, d)``, floating-point."""
    if isinstance(observations, dict):
        return torch.cat([flatten(part) for part in observations.values()], dim=1)
    flat = observations.reshape(len(observations), -1)  # a discrete one has no second dimension
    return flat if flat.is_floating_point() else flat.float()


def head_functions(probe: Probe, like: Observations) -> list[Callable[[Tensor, Tensor], Tensor]]:
    """Give each critic as a function from ``(n, d)`` states and actions to ``(n,)`` values.

    Args:
        probe: The model.
        like: Observations whose parts the states are to be taken apart into.

    Returns:
        One function for each critic, differentiable in both, whoever owns the features extractor.
    """

    def head(index: int) -> Callable[[Tensor, Tensor], Tensor]:
        def q(states: Tensor, actions: Tensor) -> Tensor:
            return probe.head(index, _unflatten(states, like), actions)

        return q

    return [head(index) for index in range(len(probe.networks))]


def _unflatten(states: Tensor, like: Observations) -> Observations:
    if isinstance(like, dict):
        widths = [part[0].numel() for part in like.values()]
        parts = torch.split(states, widths, dim=1)
        return {
            key: part.reshape(-1, *value.shape[1:])
            for (key, value), part in zip(like.items(), parts, strict=True)
        }
    return states.reshape(-1, *like.shape[1:])
