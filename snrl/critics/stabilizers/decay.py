"""Pulls of the critic's weights to zero: all of its parameters with two dimensions or more.

That is weight matrices and kernels, of a features extractor that the critic trains too, and neither
biases nor the scales and shifts of norms. What the optimiser does not train stays as it is.

A layer that SN scales in the forward applies the same weight whatever the size of the stored one.
There a decay acts as a larger learning rate (van Laarhoven 2017), and as no regulariser. A penalty
on ``sigma`` alone is SN's mode ``penalty``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from stable_baselines3.common.policies import BasePolicy
from torch import nn
from torch.optim import Optimizer

from snrl.critics import access
from snrl.critics.stabilizers.base import Place, Stabilizer
from snrl.critics.stabilizers.term import Held, Term
from snrl.spectral.modes.base import check_number


class _Pull(Term):
    def __init__(self, turn: int, critic: nn.Module, share: float) -> None:
        super().__init__(turn, (x for x in critic.parameters() if x.dim() > 1))
        self._share = share


class _Decay(_Pull):
    @torch.no_grad()
    def before_step(self, layers: Sequence[Held], optimizer: Optimizer) -> None:
        """Make the weights smaller, as torch's ``AdamW`` does it: what has no gradient is left."""
        followed = {id(x.weight) for x in layers if x.weight.grad is not None}
        for group in optimizer.param_groups:
            weights = [weight for weight in group["params"] if id(weight) in followed]
            if weights:
                torch._foreach_mul_(weights, 1 - group["lr"] * self._share)


class _Gradient(_Pull):
    @torch.no_grad()
    def before_step(self, layers: Sequence[Held], optimizer: Optimizer) -> None:  # noqa: ARG002
        """Add the weights to their gradients, as torch's ``weight_decay`` does."""
        pairs = [(x.weight.grad, x.weight) for x in layers if x.weight.grad is not None]
        if pairs:
            grads, weights = zip(*pairs, strict=True)
            torch._foreach_add_(grads, weights, alpha=self._share)


@dataclass(frozen=True)
class WeightDecay(Stabilizer):
    """Multiplies the weights by ``1 - lr · decay`` before each step, whichever the optimiser.

    With Adam that is torch's ``AdamW``, bit by bit, with the matrices alone in a group that decays.
    ``lr`` is that of the weight's group, without the factors that a mode of SN may have for it.

    Args:
        decay: The ``weight_decay`` of torch's ``AdamW``, and its default.
    """

    name: ClassVar[str] = "weight_decay"
    summary: ClassVar[str] = (
        "shrink the weight matrices a little at each step, past Adam's scaling: small and safe"
    )
    source: ClassVar[str] = "Loshchilov & Hutter 2019, algorithm 2"
    place: ClassVar[Place] = Place.LOSS
    turn: ClassVar[int] = 1
    decay: float = 1e-2

    def __post_init__(self) -> None:
        """Check the options."""
        check_number("decay", self.decay, above=0)

    def install(self, policy: BasePolicy) -> None:
        """Follow the online critic's weights."""
        critic: Any = access.critic_of(policy)
        followers: dict[str, Any] = policy.followers  # type: ignore[assignment]
        followers[self.name] = _Decay(self.turn, critic, self.decay)


@dataclass(frozen=True)
class L2Penalty(Stabilizer):
    """Adds ``strength/2 · ‖W‖²`` (Frobenius) of every weight matrix to the loss.

    Its gradient is added before the step, so that Adam scales it as it scales the rest.

    Args:
        strength: Factor of the term: the ``weight_decay`` of torch's ``Adam``.
    """

    name: ClassVar[str] = "l2_penalty"
    summary: ClassVar[str] = (
        "add the weights' squares to the loss: the textbook regulariser, which Adam rescales"
    )
    source: ClassVar[str] = "Krogh & Hertz 1991; in value functions Farebrother et al. 2018"
    place: ClassVar[Place] = Place.LOSS
    turn: ClassVar[int] = -3
    strength: float = 1e-4

    def __post_init__(self) -> None:
        """Check the options."""
        check_number("strength", self.strength, above=0)

    def install(self, policy: BasePolicy) -> None:
        """Follow the online critic's weights."""
        critic: Any = access.critic_of(policy)
        followers: dict[str, Any] = policy.followers  # type: ignore[assignment]
        followers[self.name] = _Gradient(self.turn, critic, self.strength)
