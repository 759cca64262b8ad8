"""The norm to hold: a number, or a line from one to another along an optimiser's steps."""

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn

# START, or START, END, STEPS.
CoefOption = float | Sequence[float]


class Coefficient(nn.Module):
    """A coefficient, and how many steps of the optimiser it has seen, if that matters.

    On a schedule it goes linearly from the start to the end over a number of steps and stays there;
    the steps are counted in a buffer, so that a saved run goes on where it was.
    """

    steps: Tensor

    def __init__(self, coef: CoefOption) -> None:
        """Read the coefficient.

        Args:
            coef: A number, or ``(start, end, steps)``.

        Raises:
            ValueError: If a norm is not a positive number, or the steps no positive integer.
        """
        super().__init__()
        parts = coef if isinstance(coef, Sequence) and not isinstance(coef, str) else (coef,)
        if len(parts) not in (1, 3):
            raise ValueError(
                f"the coefficient must be a number, or start, end and steps, got {coef!r}"
            )
        for norm in parts[:2]:
            if not _is_a(Real, norm) or not 0 < norm < math.inf:
                raise ValueError(f"the coefficient must be a positive number, got {norm!r}")
        self.start, self.end = float(parts[0]), float(parts[:2][-1])
        self.duration: int | None = None
        if len(parts) == 3:
            if not _is_a(Integral, parts[2]) or parts[2] < 1:
                raise ValueError(
                    f"the coefficient's steps must be a positive integer, got {parts[2]!r}"
                )
            self.duration = int(parts[2])
            self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def value(self) -> float | Tensor:
        """The coefficient now: a number, or on a schedule a new float32 tensor of no dimensions."""
        if self.duration is None:
            return self.start
        # On the device, where a captured graph counts on.
        done = (self.steps.float() / self.duration).clamp(max=1.0)
        return torch.lerp(done.new_full((), self.start), done.new_full((), self.end), done)

    @property
    def largest(self) -> float:
        """The largest coefficient there will be."""
        return max(self.start, self.end)

    def advance(self) -> None:
        """Count a step."""
        if self.duration is not None:
            self.steps += 1

    def __str__(self) -> str:
        """The coefficient, as it was asked for."""
        if self.duration is None:
            return str(self.start)
        return f"({self.start}, {self.end}, {self.duration})"

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *_: Any) -> None:
        """Take over the count if there is one: a plain network has none."""
        if self.duration is not None and f"{prefix}steps" in state_dict:
            self.steps.copy_(state_dict[f"{prefix}steps"])


def _is_a(kind: type, value: object) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
