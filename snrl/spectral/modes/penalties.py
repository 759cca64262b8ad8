"""Modes that add a term to the loss, as its exact gradient before the optimiser's step.

The term's gradient is its derivative by ``sigma`` times ``u vᵀ``, so no graph is needed, and it is
there whatever the loss. It comes after whatever was done to the gradient before ``step()``, such as
clipping; a ``step(closure)`` that evaluates the loss anew does without it.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from snrl.spectral.modes.base import Coef, Held, Mode, check_number


@dataclass(frozen=True)
class _LossTerm(Mode):
    @abstractmethod
    def loss(self, sigma: Tensor, coef: Coef) -> Tensor:
        """Compute the term that each layer adds to the loss."""

    @abstractmethod
    def loss_slope(self, sigma: Tensor, coef: Coef) -> Tensor:
        """Compute the derivative of :meth:`loss` by ``sigma``."""

    @torch.no_grad()
    def before_step(self, held: Held) -> None:
        """Add the gradient of the term; a weight without gradient gets the term's alone."""
        u, v = held.vectors.u, held.vectors.v
        slopes = self.loss_slope(held.sigma(), held.coef)
        terms = (slopes.unsqueeze(-1) * u).unsqueeze(-1) * v.unsqueeze(-2)
        for weight, term in zip(held.weights, terms, strict=True):
            if not weight.requires_grad:
                continue
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            weight.grad.add_(term.view_as(weight))


@dataclass(frozen=True)
class Penalty(_LossTerm):
    """Adds ``strength/2 · sigma²`` to the loss, for each layer.

    Args:
        strength: Yoshida & Miyato's ``λ``.
    """

    name: ClassVar[str] = "penalty"
    summary: ClassVar[str] = (
        "add strength/2 · sigma² to the loss: a gentle pull, where no bound is needed"
    )
    source: ClassVar[str] = "Yoshida & Miyato 2017, eq. 3"
    uses_coef: ClassVar[bool] = False
    strength: float = 0.01

    def __post_init__(self) -> None:
        """Check the options."""
        check_number("strength", self.strength, above=0)

    def loss(self, sigma: Tensor, coef: Coef) -> Tensor:  # noqa: ARG002
        """Compute ``strength/2 · sigma²``."""
        return self.strength / 2 * sigma.square()

    def loss_slope(self, sigma: Tensor, coef: Coef) -> Tensor:  # noqa: ARG002
        """Compute ``strength · sigma``."""
        return self.strength * sigma


@dataclass(frozen=True)
class PenaltyToCoef(_LossTerm):
    """Adds ``strength · ((sigma/coef)ᵏ - 1)²`` to the loss, for each layer.

    With the coefficient 1 that is Lewandowski et al.'s term for a weight. Theirs for biases, which
    pulls them to 0, is not added.

    Args:
        strength: Factor of the term.
        exponent: ``k``; the larger, the gentler below the coefficient and the harder above.
    """

    name: ClassVar[str] = "penalty_to_coef"
    summary: ClassVar[str] = (
        "add strength · ((sigma/coef)^exponent - 1)² to the loss: a pull to coef"
    )
    source: ClassVar[str] = "Lewandowski et al. 2025 (towards 1)"
    strength: float = 0.001
    exponent: float = 2.0

    def __post_init__(self) -> None:
        """Check the options."""
        check_number("strength", self.strength, above=0)
        check_number("exponent", self.exponent, low=1)

    def loss(self, sigma: Tensor, coef: Coef) -> Tensor:
        """Compute ``strength · ((sigma/coef)ᵏ - 1)²``."""
        return self.strength * ((sigma / coef) ** self.exponent - 1).square()

    def loss_slope(self, sigma: Tensor, coef: Coef) -> Tensor:
        """Compute ``2k · strength/coef · ((sigma/coef)ᵏ - 1) · (sigma/coef)ᵏ⁻¹``."""
        ratio, k = sigma / coef, self.exponent
        return 2 * k * self.strength / coef * (ratio**k - 1) * ratio ** (k - 1)
