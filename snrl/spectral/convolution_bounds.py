"""A certified upper bound on the operator norm of a convolution.

Every convolution is a part of some convolution on a torus: the axes closed to circles, periodic or
with a sign change at the seam. On a torus the Fourier transform splits it into one small matrix
per frequency, the *symbol* (Sedghi, Gupta & Long, ICLR 2019), and a part has no larger norm than
the whole.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from math import gcd, prod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from snrl.spectral.bounds import gram_bound
from snrl.spectral.convolution_operator import (
    Axis,
    Convolution,
    ConvolutionOperator,
    convolution_operator,
)

# Above what rounding does to an eigenvalue: LAPACK's solver is backward stable, so that the error
# is a small multiple of the matrix's side times 1.1e-16, relative to the largest.
_ROUNDING = 1e-10
_RTOL = 1e-7  # of the reshaped kernel's bound
_CHUNK = 1 << 21  # entries of symbols held at once


class _Circle(NamedTuple):
    """How one axis is closed to a circle.

    Attributes:
        stride: Entries of the axis that are gathered into channels (space to depth), after which
            the convolution has stride 1.
        dilation: Distance between neighbouring taps before that.
        length: Length of the circle after that, which is the number of outputs on it.
        twists: 0 for periodic, 1/2 for a sign change at the seam: those that are valid.
        repeats: How often an input or an output of the circle occurs in the operator.
    """

    stride: int
    dilation: int
    length: int
    twists: tuple[float, ...]
    repeats: int = 1


@torch.no_grad()
def convolution_bound(convolution: nn.Module | Convolution, size: int | Sequence[int]) -> Tensor:
    """Bound the norm of a convolution on inputs of one size from above.

    - Stride: gathering blocks of ``s`` entries into channels permutes the input and leaves a
      convolution of stride 1 (as Delattre et al. 2023 do; the polyphase form of filter banks).
    - Dilation: with zero padding, taps ``d`` apart connect only entries of one coset modulo ``d``,
      each a convolution without dilation on a ``d`` times shorter axis.
    - Zero padding: the operator is a part of the convolution on a circle just long enough that no
      window reads round the seam. This holds as well if the seam changes the sign, which moves the
      frequencies by half a step. The least of the bounds, over both kinds for each axis, has about
      half the excess of the periodic one; neither exceeds the supremum of the symbol, the bound
      for all sizes of Yi 2020 and Araujo et al. 2021.
    - Circular padding whose output has length ``size/stride`` is the convolution on the circle
      itself: the bound is the norm, but for 1e-10. With fewer outputs it is a part of that. Where
      the stride does not divide the size, or outputs occur twice, entries are counted as often as
      they occur: the bound can be too large by ``sqrt(2)`` for each such axis, by more if the
      kernel is larger than the input.
    - Groups: the largest of the groups' bounds.
    - It never exceeds the bound by the reshaped kernel (``reshaped_factor``), group by group, which
      is the better one for inputs of few windows.

    Args:
        convolution: A ``Conv1d``, ``Conv2d`` or ``Conv3d`` layer, or a kernel with its options.
            Not modified.
        size: Spatial size of the input, one number or one per axis.

    Returns:
        float64, shape ``()``: at least the norm, rounding included. NaN if the weight is not
        finite. No gradient flows.

    Raises:
        ValueError: If the convolution is not supported or the size does not fit it.
    """
    operator = convolution_operator(convolution, size)
    if not operator.weight.isfinite().all():
        return operator.scale * torch.nan
    weight = operator.weight
    by_group = weight.reshape(operator.groups, -1, weight[0].numel())
    reads = prod(axis.most_reads for axis in operator.axes)
    best = math.sqrt(reads) * gram_bound(by_group, rtol=_RTOL).amax()
    for circles in itertools.product(*(_circles(axis) for axis in operator.axes)):
        factor = math.sqrt(prod(circle.repeats for circle in circles))
        kernel = _gather(operator, circles)
        for twists in itertools.product(*(circle.twists for circle in circles)):
            lengths = [circle.length for circle in circles]
            best = torch.minimum(best, factor * _largest(kernel, lengths, twists))
    return operator.scale * best * (1 + _ROUNDING)


def _circles(axis: Axis) -> Iterator[_Circle]:
    """Yield the ways to close an axis; each gives a valid bound."""
    if not axis.circular:
        yield _closed(axis, range(axis.left, axis.left + axis.size))
        return
    step = gcd(axis.stride, axis.size)
    length = axis.size // step
    yield _Circle(step, axis.dilation, length, (0.0,), -(-axis.out // length))
    if step != axis.stride or axis.out != length:
        # Cut open: the padded input, some of whose entries are copies of others.
        read = (axis.out - 1) * axis.stride + axis.reach + 1
        yield _closed(axis, range(read))._replace(repeats=-(-read // axis.size))


def _closed(axis: Axis, inputs: range) -> _Circle:
    """Close an axis whose padding is zero, the given places of the padded input being the rest."""
    # Every window and every tap begins at a multiple of this; the rest is never read.
    step = gcd(axis.stride, axis.dilation)
    stride, dilation = axis.stride // step, axis.dilation // step
    first, last = -(-inputs.start // step), (inputs.stop - 1) // step
    taps = -(-axis.kernel // stride)
    length = 0
    for coset in range(min(dilation, axis.out)):
        # Output coset + i·dilation reads place coset·stride + dilation·(i·stride + t): a
        # convolution without dilation whose input has the places low to high, in blocks of stride.
        low = max(-(-(first - coset * stride) // dilation), 0) // stride
        high = (last - coset * stride) // dilation // stride
        # Windows that read no input are left out.
        start = max(low - taps + 1, 0)
        stop = min(-(-(axis.out - coset) // dilation) - 1, high)
        high = min(high, stop + taps - 1)
        if start <= stop and low <= high:
            length = max(length, high - start + 1, stop + taps - low, stop - start + 1)
    return _Circle(stride, 1, length, (0.0, 0.5))


def _gather(operator: ConvolutionOperator, circles: Sequence[_Circle]) -> Tensor:
    """Gather blocks of the kernel into channels.

    Args:
        operator: Its weight has shape ``(out, in/groups, *kernel)``.
        circles: One for each axis.

    Returns:
        Shape ``(*taps, groups, out/groups, in/groups·block)``.
    """
    weight = operator.weight
    kernel = weight.reshape(operator.groups, -1, *weight.shape[1:])
    for circle in circles:
        # The kernel's next axis is always the fourth: its blocks join the channels, its taps go
        # last.
        groups, m, n, k, *rest = kernel.shape
        reach = circle.dilation * (k - 1) + 1
        taps = -(-reach // circle.stride)
        spread = kernel.new_zeros(groups, m, n, taps * circle.stride, *rest)
        spread[:, :, :, : reach : circle.dilation] = kernel
        blocks = spread.reshape(groups, m, n, taps, circle.stride, *rest).movedim(3, -1)
        kernel = blocks.flatten(2, 3)
    return torch.movedim(kernel, (0, 1, 2), (-3, -2, -1))


def _largest(kernel: Tensor, lengths: Sequence[int], twists: Sequence[float]) -> Tensor:
    """Compute the largest singular value of a symbol over the frequencies of a torus.

    Args:
        kernel: Shape ``(*taps, groups, m, n)``, real.
        lengths: Length of each axis.
        twists: 0 for a periodic axis, 1/2 for one with a sign change.

    Returns:
        Shape ``()``, with what the rounding of the symbol may take away added; 0 if an axis has
        no length.
    """
    if not all(lengths):
        return kernel.new_zeros(())
    waves = kernel.new_ones(1, 1, dtype=torch.complex128)
    for axis, (length, twist) in enumerate(zip(lengths, twists, strict=True)):
        # The kernel is real, so opposite frequencies have conjugate symbols: half of those of the
        # first axis tell all.
        count = length if axis else (length + (2 if twist == 0 else 1)) // 2
        steps = torch.arange(count, device=kernel.device).double() + twist
        taps = torch.arange(kernel.shape[axis], device=kernel.device).double()
        angles = steps[:, None] * taps * (2 * math.pi / length)
        waves = torch.kron(waves, torch.polar(torch.ones_like(angles), angles))
    matrices = kernel.flatten(0, len(lengths) - 1)
    symbols_of = matrices.flatten(1).to(waves.dtype)
    largest = kernel.new_zeros(())
    for chunk in torch.split(waves, max(1, _CHUNK // symbols_of.shape[1])):
        symbol = (chunk @ symbols_of).reshape(-1, *matrices.shape[1:])
        tall = symbol if symbol.shape[-2] >= symbol.shape[-1] else symbol.mH
        largest = torch.maximum(largest, torch.linalg.eigvalsh(tall.mH @ tall).amax())
    rounding = 16 * len(matrices) * torch.finfo(kernel.dtype).eps
    allowance: Tensor = rounding * torch.linalg.vector_norm(matrices.abs().sum(0))
    return largest.sqrt() + allowance
