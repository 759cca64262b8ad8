"""What every way to hold a norm has in common."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from snrl.spectral.iteration import sigma_estimate
from snrl.spectral.tracking import Vectors

# A number, or, where it is on a schedule, a tensor of no dimensions on the weights' device.
Coef = float | Tensor
Scaled = Literal["weight", "gradient", "lr", "output", "eps"] | None


@dataclass(frozen=True)
class Held:
    """Layers of one shape and their vectors, as a mode sees them around an optimiser's step.

    Attributes:
        weights: The ``k`` parameters; flattened from the second dimension on, ``(m, n)`` each.
        coef: The norm they are to be held to.
        vectors: Their vectors; views, or copies where their rows are not contiguous. Not to be
            written to.
    """

    weights: Sequence[nn.Parameter]
    coef: Coef
    vectors: Vectors

    def matrices(self) -> Tensor:
        """Stack the weights as matrices, shape ``(k, m, n)``: a copy, without gradient."""
        return torch.stack([weight.detach().flatten(1) for weight in self.weights])

    def sigma(self) -> Tensor:
        """Compute ``uᵀ W v`` of the current weights, shape ``(k,)``, without gradient."""
        return sigma_estimate(self.matrices(), self.vectors.u, self.vectors.v)


@dataclass(frozen=True)
class Mode:
    """One way to hold a layer's norm: what it does in the forward and around a step.

    A mode keeps no state; its fields are its options. There are three places where it can act,
    and in each of them nothing is done unless a mode says so:

    - ``scaled`` names what :meth:`scale` is a factor of;
    - :meth:`before_step` changes gradients;
    - :meth:`hold` changes weights, after a step and whenever they are replaced.

    Attributes:
        name: How it is asked for.
        summary: What it does and when to choose it, one line.
        source: Where it is from.
        scaled: What is multiplied by :meth:`scale` of a layer: its weight in the forward, its
            weight's gradient before the step, or its weight's learning rate during the step; or by
            the product over all normalised layers of a network: its output in the forward, or the
            ``eps`` of its parameters during the step.
        uses_coef: Whether the coefficient means anything to it.
        learns_gain: Whether each layer has a parameter ``gain``, 1 at first, that multiplies its
            effective weight.
        both_unfoldings: Whether ``sigma`` of a convolution is the mean of the norms of its two
            unfoldings, ``(out, in·k)`` and ``(in, out·k)``, in place of the first alone.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    scaled: ClassVar[Scaled] = None
    uses_coef: ClassVar[bool] = True
    learns_gain: ClassVar[bool] = False
    both_unfoldings: ClassVar[bool] = False

    @property
    def in_forward(self) -> bool:
        """Whether a layer applies another weight than the stored one."""
        return self.scaled == "weight"

    def scale(self, sigma: Tensor, coef: Coef) -> Tensor:
        """Compute the factor of one layer: see ``scaled``.

        Args:
            sigma: ``uᵀ W v``, shape ``(...)``; zero for a zero matrix.
            coef: The norm to hold.

        Returns:
            Same shape; finite also where ``sigma`` is zero. The gradient that flows through it to
            ``sigma`` is the one that the forward has.
        """
        raise NotImplementedError

    def factors(self, sigma: float, coef: float) -> tuple[float, float]:
        """Compute :meth:`scale` of one layer and its derivative, as numbers.

        A forward on the CPU has no time for tensors of one element. This default takes it; modes
        that act in the forward do better.

        Args:
            sigma: ``uᵀ W v``.
            coef: The norm to hold.

        Returns:
            The factor, and its derivative with respect to ``sigma``.
        """
        with torch.enable_grad():
            x = torch.tensor(sigma, dtype=torch.float64, requires_grad=True)
            scale = self.scale(x, coef)
            (slope,) = torch.autograd.grad(scale + 0 * x, x)
        return scale.item(), slope.item()

    def before_step(self, held: Held) -> None:
        """Change gradients (``weight.grad``) before the optimiser reads them."""

    def hold(self, held: Held) -> None:
        """Bring weights to their norm; what is held already stays as it is, to rounding.

        Called when the optimiser has moved them and the vectors have followed. The vectors must
        fit the weights when it returns.
        """


def check_number(
    name: str, value: object, above: float | None = None, low: float | None = None
) -> None:
    """Refuse an option that is not a finite number in its range.

    Raises:
        ValueError: If it is not greater than ``above``, or not at least ``low``.
    """
    wanted = f"greater than {above:g}" if above is not None else f"of at least {low:g}"
    good = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not good or (above is not None and value <= above) or (low is not None and value < low):  # type: ignore[operator]
        raise ValueError(f"{name} must be a number {wanted}, got {value!r}")


def check_bool(name: str, value: object) -> None:
    """Refuse an option that is not true or false.

    Raises:
        ValueError: If it is something else.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")
