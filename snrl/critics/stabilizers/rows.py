"""Layers that apply their rows at lengths learned apart, and what such stabilisers share."""

from collections.abc import Iterable
from itertools import count
from typing import Any, ClassVar, Self

import torch
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor, nn
from torch.optim import Optimizer

from snrl.critics import access
from snrl.critics.head import Head, linear_layers
from snrl.critics.stabilizers.base import Stabilizer

# Below this a row counts as this long: a row of zeros stays one, without NaN.
SHORTEST = 1e-8


def row_lengths(weight: Tensor) -> Tensor:
    """Compute the Euclidean length of each row, shape ``(m,)``, at least :data:`SHORTEST`."""
    lengths: Tensor = torch.linalg.vector_norm(weight, dim=1)
    return lengths.clamp_min(SHORTEST)


class RowScaled(nn.Linear):
    """``nn.Linear`` with one more parameter, a learned scale for each row, and so for each unit.

    ``weight`` and ``bias`` keep their names. A state dict without the scales, as a plain layer has,
    is loaded so that the layer computes what the plain one did.

    Attributes:
        scale_name: What the scales are called.
    """

    scale_name: ClassVar[str]

    @classmethod
    def take(cls, layer: nn.Linear) -> Self:
        """Turn a plain layer into one of these, which computes the same to rounding.

        Args:
            layer: Mutated: its class changes, and it gains the scales.

        Returns:
            The same layer.
        """
        layer.__class__ = cls
        assert isinstance(layer, cls)
        weight, scales = cls._split(layer.weight.detach())
        layer.weight.data.copy_(weight)
        layer.register_parameter(cls.scale_name, nn.Parameter(scales))
        return layer

    @property
    def scales(self) -> Tensor:
        """The learned scales, shape ``(out_features,)``."""
        scales: Tensor = getattr(self, self.scale_name)
        return scales

    @classmethod
    def _split(cls, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Split a plain layer's weight into the stored one and the scales."""
        raise NotImplementedError

    def effective_weight(self) -> Tensor:
        """Compute the weight that is applied, shape ``(out_features, in_features)``.

        The gradient flows to ``weight`` and to the scales. No state changes.
        """
        raise NotImplementedError

    def forward(self, input: Tensor) -> Tensor:
        """Apply the effective weight and the bias to ``(..., in_features)``."""
        return nn.functional.linear(input, self.effective_weight(), self.bias)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        weight, scales = prefix + "weight", prefix + self.scale_name
        if weight in state_dict and scales not in state_dict:
            state_dict[weight], state_dict[scales] = self._split(state_dict[weight])
        super()._load_from_state_dict(state_dict, prefix, *args)


class RowScaling(Stabilizer):
    """A stabiliser whose layers are :class:`RowScaled`; those that SN takes are left to SN.

    Attributes:
        layer_class: What the layers become.
    """

    layer_class: ClassVar[type[RowScaled]]

    def choose(self, layers: list[nn.Linear]) -> list[nn.Linear]:
        """Choose among all linear layers of a head, from its input to its output."""
        return layers

    def build(self, head: Head) -> None:
        """Take the layers."""
        for layer in self.choose(linear_layers(head.network())):
            if not any(layer is other for other in head.normalized):
                self.layer_class.take(layer)

    def take_released(self, network: nn.Module) -> None:
        """Take those that were SN's, too."""
        for layer in self.choose(linear_layers(network)):
            if type(layer) is nn.Linear:
                self.layer_class.take(layer)

    def install(self, policy: BasePolicy) -> None:
        """Let the optimiser load the state of a plain critic's."""
        optimizer: Any = policy.critic_optimizer
        critic: Any = access.critic_of(policy)
        accept_without(optimizer, [x.scales for x in critic.modules() if isinstance(x, RowScaled)])


def accept_without(optimizer: Optimizer, parameters: Iterable[Tensor]) -> None:
    """Let an optimiser load the state of one that lacks parameters; they begin without a state.

    Args:
        optimizer: Mutated: it gets a hook.
        parameters: Of those that it holds.
    """
    lacking = {id(parameter) for parameter in parameters}

    def complete(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        own, saved = optimizer.param_groups, state["param_groups"]
        kept = [[id(x) not in lacking for x in group["params"]] for group in own]
        if [sum(group) for group in kept] != [len(group["params"]) for group in saved]:
            return state
        numbers, moved, groups = count(), {}, []
        for group, keeps in zip(saved, kept, strict=True):
            old, params = iter(group["params"]), []
            for keep in keeps:
                params.append(next(numbers))
                if keep:
                    moved[next(old)] = params[-1]
            groups.append({**group, "params": params})
        states = {moved[old]: value for old, value in state["state"].items()}
        return {**state, "state": states, "param_groups": groups}

    optimizer.register_load_state_dict_pre_hook(complete)
