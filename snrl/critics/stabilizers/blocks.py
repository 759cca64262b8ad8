"""Critics of residual blocks: SimBa's and BRO's."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import ClassVar

import torch
from torch import Tensor, nn

from snrl.critics.head import Head, Hidden
from snrl.critics.stabilizers.base import Place, Stabilizer
from snrl.spectral.modes.base import check_number

# Of a normal distribution that is cut off at two standard deviations.
_CUT_STD = 0.87962566103423978


class ResidualBlock(nn.Sequential):
    """A chain of modules around which its input is passed on: ``x + f(x)``."""

    def forward(self, input: Tensor) -> Tensor:
        """Add the chain's output to its input."""
        return input + super().forward(input)  # type: ignore[no-any-return,no-untyped-call]


class Blocks(Stabilizer):
    """What SimBa and BRO have in common.

    ``net_arch=[w, w, …]`` is an embedding of width ``w`` and a residual block of that width for
    every further entry. Layers draw their initial weights as the authors' code does, output layer
    included; biases start at zero. No state but parameters, no mode.

    Linear layers are counted from the output through the blocks: with the default ``sn_layers``, SN
    takes the last layer of the last block, which bounds that block's branch and not the sum.

    What stands before the first hidden layer, and before the output, as CrossQ's norms do, stays.
    """

    def build(self, head: Head) -> None:
        """Replace the hidden layers."""
        widths = set(head.widths)
        if len(head.widths) < 2 or len(widths) > 1:
            raise ValueError(
                f"critic {self.name!r} needs a net_arch of equal widths, at least two: an "
                f"embedding and a block for each further one, got {head.widths}"
            )
        first, *rest = head.hidden
        (width,) = widths
        bias = isinstance(first.layer, nn.Linear) and first.layer.bias is not None
        activations = [hidden.activation for hidden in rest]
        embedding = self.embed(nn.Linear(head.in_features, width, bias=bias), first)
        blocks = [Hidden([], self.block(width, x or nn.ReLU())) for x in activations]
        head.hidden = [embedding, *blocks]
        self.finish(head, width)

    def embed(self, layer: nn.Linear, first: Hidden) -> Hidden:
        """Make the first hidden layer of a new linear one, and of what it replaces."""
        raise NotImplementedError

    def block(self, width: int, activation: nn.Module) -> ResidualBlock:
        """Make a block."""
        raise NotImplementedError

    def finish(self, head: Head, width: int) -> None:
        """Do what comes behind the blocks."""
        raise NotImplementedError


@dataclass(frozen=True)
class Simba(Blocks):
    """SimBa: ``x + W₂ · ReLU(W₁ · LN(x))`` for each block, and a norm before the output.

    Without the running statistics of observations that the paper has in front of it: they belong to
    the environment, where SB3 has ``VecNormalize``. The activation is the policy's, ReLU by default
    as in the paper.

    Args:
        expansion: How many times wider a block is inside.
        eps: Added to the norms' variance; the default is that of the authors' framework.
    """

    name: ClassVar[str] = "simba"
    summary: ClassVar[str] = (
        "pre-norm residual blocks, four times wider inside: for larger critics; normalise inputs"
    )
    source: ClassVar[str] = "Lee et al. 2024 (SimBa)"
    place: ClassVar[Place] = Place.BLOCKS
    expansion: int = 4
    eps: float = 1e-6

    def __post_init__(self) -> None:
        """Check the options."""
        _check_count("expansion", self.expansion)
        check_number("eps", self.eps, above=0)

    def embed(self, layer: nn.Linear, first: Hidden) -> Hidden:
        """Take the linear layer alone."""
        return Hidden(first.before, _drawn(layer, _orthogonal(1.0)))

    def block(self, width: int, activation: nn.Module) -> ResidualBlock:
        """Make a norm, and two layers with the activation between them."""
        inside = self.expansion * width
        return ResidualBlock(
            nn.LayerNorm(width, self.eps),
            _drawn(nn.Linear(width, inside), _he_normal),
            activation,
            _drawn(nn.Linear(inside, width), _he_normal),
        )

    def finish(self, head: Head, width: int) -> None:
        """Put a norm behind the last block, and draw the output layer."""
        head.features.insert(0, nn.LayerNorm(width, self.eps))
        _drawn(head.output, _orthogonal(1.0))


@dataclass(frozen=True)
class Bro(Blocks):
    """BroNet: a norm behind every hidden layer, and blocks ``x + LN(W₂ · ReLU(LN(W₁ · x)))``.

    Of BRO this is the network. Its optimism, quantiles, resets and decay are not here; the last is
    ``bro+weight_decay``. The activation is the policy's, ReLU by default as in the paper.

    Args:
        eps: Added to the norms' variance; the default is that of the authors' framework.
    """

    name: ClassVar[str] = "bro"
    summary: ClassVar[str] = (
        "residual blocks with a norm behind each layer: for larger critics and many updates"
    )
    source: ClassVar[str] = "Nauman et al. 2024 (BRO)"
    place: ClassVar[Place] = Place.BLOCKS
    eps: float = 1e-6

    def __post_init__(self) -> None:
        """Check the options."""
        check_number("eps", self.eps, above=0)

    def embed(self, layer: nn.Linear, first: Hidden) -> Hidden:
        """Put a norm between the linear layer and its activation."""
        norm = nn.LayerNorm(layer.out_features, self.eps)
        _drawn(layer, _orthogonal(math.sqrt(2)))
        return Hidden(first.before, layer, [norm], first.activation)

    def block(self, width: int, activation: nn.Module) -> ResidualBlock:
        """Make two layers with a norm behind each, and the activation behind the first."""
        first, second = (
            _drawn(nn.Linear(width, width), _orthogonal(math.sqrt(2))) for _ in range(2)
        )
        norms = [nn.LayerNorm(width, self.eps) for _ in range(2)]
        return ResidualBlock(first, norms[0], activation, second, norms[1])

    def finish(self, head: Head, width: int) -> None:  # noqa: ARG002
        """Draw the output layer."""
        _drawn(head.output, _orthogonal(math.sqrt(2)))


def _drawn(layer: nn.Linear, draw: Callable[[Tensor], object]) -> nn.Linear:
    with torch.no_grad():
        draw(layer.weight)
        if layer.bias is not None:
            layer.bias.zero_()
    return layer


def _orthogonal(gain: float) -> Callable[[Tensor], object]:
    return lambda weight: nn.init.orthogonal_(weight, gain)


def _he_normal(weight: Tensor) -> None:
    std = math.sqrt(2 / weight.shape[1]) / _CUT_STD
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
