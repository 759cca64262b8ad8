"""Modes that leave the weights alone and give the optimiser what normalisation would give it.

Gogianu et al. 2021 trace most of the effect of spectral normalisation on deep RL to the size of the
updates: dividing a layer's weight by its norm also divides the gradients. Here that is done without
normalising. ``sigma`` is that of the weights before the step, and their 1 is the coefficient.

The paper's text gives products over the normalised layers for a network's output and for ``eps``;
where it leaves room (whether smaller layers are left alone, whether a gradient flows through
``sigma``), these follow the authors' code, ``floringogianu/snrl``, and say so.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from snrl.spectral.modes.base import Coef, Mode, Scaled, check_bool
from snrl.spectral.modes.forward import Normalize


@dataclass(frozen=True)
class DivGrad(Mode):
    """Divides the gradient of each layer's weight by ``sigma / coef``; biases keep theirs.

    Args:
        leave_smaller: Whether to divide by ``max(1, sigma / coef)``, so that no gradient grows.
    """

    name: ClassVar[str] = "div_grad"
    summary: ClassVar[str] = (
        "divide the weight's gradient by sigma/coef: smaller updates, the same function"
    )
    source: ClassVar[str] = "Gogianu et al. 2021, divGrad"
    scaled: ClassVar[Scaled] = "gradient"
    leave_smaller: bool = False

    def __post_init__(self) -> None:
        """Check the options."""
        check_bool("leave_smaller", self.leave_smaller)

    def scale(self, sigma: Tensor, coef: Coef) -> Tensor:
        """Compute ``coef / sigma``, at most 1 where smaller layers are left alone."""
        inverse = coef / torch.where(sigma != 0, sigma, coef)
        return inverse.clamp_max(1.0) if self.leave_smaller else inverse


@dataclass(frozen=True)
class LayerLr(DivGrad):
    """Divides the learning rate of each layer's weight by ``max(1, sigma / coef)``; biases keep it.

    The rate is read on the host, so a step with it cannot be captured in a CUDA graph. Decoupled
    weight decay, as in AdamW, shrinks with the rate.

    Args:
        leave_smaller: False to divide by ``sigma / coef`` also where that is below 1.
    """

    name: ClassVar[str] = "layer_lr"
    summary: ClassVar[str] = (
        "divide the weight's learning rate by sigma/coef above 1: Adam cannot undo it"
    )
    source: ClassVar[str] = "Gogianu et al. 2021, as in the authors' code (div_by_rho)"
    scaled: ClassVar[Scaled] = "lr"
    leave_smaller: bool = True


@dataclass(frozen=True)
class MulEps(Mode):
    """Multiplies ``eps`` for all of a network's parameters by the product of ``sigma / coef``.

    To multiply ``eps`` is to Adam, up to the change of ``sigma`` from step to step, what dividing
    all gradients is. A parameter of several networks (a features extractor) gets the geometric
    mean. The value is read on the host, so a step with it cannot be captured in a CUDA graph.
    """

    name: ClassVar[str] = "mul_eps"
    summary: ClassVar[str] = (
        "multiply Adam's eps by the product of sigma/coef: all gradients divided, to Adam"
    )
    source: ClassVar[str] = "Gogianu et al. 2021, mulEps"
    scaled: ClassVar[Scaled] = "eps"

    def scale(self, sigma: Tensor, coef: Coef) -> Tensor:
        """Compute ``sigma / coef``; a zero matrix does not count."""
        return torch.where(sigma != 0, sigma / coef, 1.0)


@dataclass(frozen=True)
class DivOut(Normalize):
    """Divides the network's output, bias included, by the product of ``sigma / coef``.

    In a ReLU network without biases that is :class:`Normalize`, value and gradient. The network's
    last linear or convolution layer is taken for its output.

    Args:
        detach: Whether the gradient leaves ``sigma`` out.
    """

    name: ClassVar[str] = "div_out"
    summary: ClassVar[str] = (
        "divide the network's output by the product of sigma/coef: normalize, biases too"
    )
    source: ClassVar[str] = "Gogianu et al. 2021, divOut"
    scaled: ClassVar[Scaled] = "output"
