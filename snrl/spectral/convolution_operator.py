"""A convolution as a linear operator between images of a given size, and its adjoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

PADDING_MODES = ("zeros", "circular")
_CONVOLUTIONS = (functional.conv1d, functional.conv2d, functional.conv3d)
_TRANSPOSED = (
    functional.conv_transpose1d,
    functional.conv_transpose2d,
    functional.conv_transpose3d,
)


class Convolution(NamedTuple):
    """A kernel and the options of ``nn.Conv1d``, ``nn.Conv2d`` or ``nn.Conv3d``.

    Attributes:
        weight: Shape ``(out, in/groups, *kernel)`` with one to three kernel axes, real.
        stride: One number, or one per axis.
        padding: One number, one per axis, ``"same"`` (stride 1 only) or ``"valid"``.
        dilation: One number, or one per axis.
        groups: Number of groups of channels.
        padding_mode: ``"zeros"`` or ``"circular"``.
    """

    weight: Tensor
    stride: int | Sequence[int] = 1
    padding: int | Sequence[int] | str = 0
    dilation: int | Sequence[int] = 1
    groups: int = 1
    padding_mode: str = "zeros"

    @classmethod
    def of(cls, layer: nn.Module) -> "Convolution":
        """Read the convolution that a layer applies.

        Args:
            layer: ``Conv1d``, ``Conv2d`` or ``Conv3d``; a layer normalised by this library counts
                with its effective weight, one parametrised by torch with the resulting weight.

        Returns:
            The convolution, without the bias. Its weight is attached to the layer's graph.

        Raises:
            ValueError: If it is another layer.
        """
        if not isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            raise ValueError(f"expected a Conv1d, Conv2d or Conv3d layer, got {layer}")
        effective = getattr(layer, "effective_weight", None)
        weight = layer.weight if effective is None else effective()
        return cls(
            weight, layer.stride, layer.padding, layer.dilation, layer.groups, layer.padding_mode
        )


class Axis(NamedTuple):
    """One axis of a convolution: output ``j`` reads the padded inputs ``j·stride + t·dilation``.

    Attributes:
        size: Length of the input.
        kernel: Number of taps.
        stride: Distance between the starts of neighbouring outputs.
        dilation: Distance between neighbouring taps.
        left: Padding in front of the input.
        right: Padding behind it.
        circular: Whether the padding continues the input periodically; it is zero otherwise.
    """

    size: int
    kernel: int
    stride: int
    dilation: int
    left: int
    right: int
    circular: bool

    @property
    def padded(self) -> int:
        """Length of the padded input."""
        return self.left + self.size + self.right

    @property
    def reach(self) -> int:
        """Distance between the first and the last tap."""
        return self.dilation * (self.kernel - 1)

    @property
    def out(self) -> int:
        """Length of the output."""
        return (self.padded - self.reach - 1) // self.stride + 1

    @property
    def reads(self) -> Tensor:
        """The input that each output reads with each tap, -1 for none: int64, ``(out, kernel)``."""
        starts = torch.arange(self.out)[:, None] * self.stride - self.left
        places = starts + torch.arange(self.kernel) * self.dilation
        inside = (places >= 0) & (places < self.size)
        return places % self.size if self.circular else places.where(inside, -1)

    @property
    def most_reads(self) -> int:
        """How often the input that is read most often is read, over all outputs and taps."""
        reads = self.reads
        return int(torch.bincount(reads[reads >= 0], minlength=1).max())


@dataclass(frozen=True)
class ConvolutionOperator:
    """The linear operator of a convolution on inputs of one size, in float64.

    Attributes:
        weight: The kernel, zero for taps that only ever read padding, over ``scale``, so that no
            square of the weight's scale is formed; float64, shape ``(out, in/groups, *kernel)``.
        scale: Its largest absolute entry before (1 for a zero kernel), float64, shape ``()``.
        groups: Number of groups of channels.
        axes: The spatial axes, in the order of the kernel's.
    """

    weight: Tensor
    scale: Tensor
    groups: int
    axes: tuple[Axis, ...]

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input: ``(in, *size)``."""
        return (self.weight.shape[1] * self.groups, *(axis.size for axis in self.axes))

    @property
    def out_size(self) -> tuple[int, ...]:
        """Spatial size of the output."""
        return tuple(axis.out for axis in self.axes)

    def apply(self, inputs: Tensor) -> Tensor:
        """Convolve.

        Args:
            inputs: float64, shape ``(b, in, *size)``.

        Returns:
            float64, shape ``(b, out, *out_size)``.
        """
        for dim, axis in enumerate(self.axes, start=2):
            if axis.circular:
                inputs = inputs.index_select(dim, _sources(axis, inputs.device))
            else:
                inputs = _pad(inputs, dim, axis.left, axis.right)
        outputs: Tensor = _CONVOLUTIONS[len(self.axes) - 1](
            inputs,
            self.weight,
            stride=tuple(axis.stride for axis in self.axes),
            dilation=tuple(axis.dilation for axis in self.axes),
            groups=self.groups,
        )
        return outputs

    def adjoint(self, outputs: Tensor) -> Tensor:
        """Apply the adjoint: ``⟨apply x, y⟩ = ⟨x, adjoint y⟩`` for all ``x`` and ``y``.

        Args:
            outputs: float64, shape ``(b, out, *out_size)``.

        Returns:
            float64, shape ``(b, in, *size)``.
        """
        inputs: Tensor = _TRANSPOSED[len(self.axes) - 1](
            outputs,
            self.weight,
            stride=tuple(axis.stride for axis in self.axes),
            dilation=tuple(axis.dilation for axis in self.axes),
            groups=self.groups,
        )
        for dim, axis in enumerate(self.axes, start=2):
            # What the last window does not reach was read by no output.
            inputs = _pad(inputs, dim, 0, axis.padded - inputs.shape[dim])
            if axis.circular:
                # The padding repeats entries, so the adjoint adds the copies up.
                shape = (*inputs.shape[:dim], axis.size, *inputs.shape[dim + 1 :])
                sources = _sources(axis, inputs.device)
                inputs = inputs.new_zeros(shape).index_add(dim, sources, inputs)
            else:
                inputs = inputs.narrow(dim, axis.left, axis.size)
        return inputs


def convolution_operator(
    convolution: nn.Module | Convolution, size: int | Sequence[int]
) -> ConvolutionOperator:
    """Make the operator of a convolution on inputs of a given spatial size.

    Args:
        convolution: A ``Conv1d``, ``Conv2d`` or ``Conv3d`` layer, or a kernel with its options.
        size: Spatial size of the input, one number or one per axis.

    Returns:
        The operator, on the device of the weight; no gradient flows through it.

    Raises:
        ValueError: If the convolution is of a kind that is not supported (the message says which
            are), if its options contradict each other, or if the size does not fit it.
    """
    given = convolution if isinstance(convolution, Convolution) else Convolution.of(convolution)
    weight = given.weight.detach()
    n_axes = weight.dim() - 2
    if n_axes not in (1, 2, 3) or not weight.numel() or weight.is_complex():
        raise ValueError(
            f"expected a real weight of shape (out, in/groups, *kernel) with 1 to 3 kernel axes, "
            f"got {weight.dtype} of shape {tuple(weight.shape)}"
        )
    if given.groups < 1 or weight.shape[0] % given.groups:
        out = weight.shape[0]
        raise ValueError(f"groups must divide the {out} output channels, got {given.groups}")
    if given.padding_mode not in PADDING_MODES:
        raise ValueError(
            f"the operator norm is known for padding_mode "
            f"{' and '.join(map(repr, PADDING_MODES))}, got {given.padding_mode!r}"
        )
    sizes = _per_axis("size", size, n_axes, at_least=1)
    strides = _per_axis("stride", given.stride, n_axes, at_least=1)
    dilations = _per_axis("dilation", given.dilation, n_axes, at_least=1)
    circular = given.padding_mode == "circular"
    pads = _padding(given, tuple(weight.shape[2:]), strides, dilations)
    axes = tuple(
        Axis(n, kernel, stride, dilation, *pad, circular)
        for n, kernel, stride, dilation, pad in zip(
            sizes, weight.shape[2:], strides, dilations, pads, strict=True
        )
    )
    exact = weight.double()
    for dim, axis in enumerate(axes, start=2):
        _check_size(axis)
        alive = (axis.reads >= 0).any(0).to(exact)
        exact = exact * alive.view(-1, *(1,) * (weight.dim() - dim - 1))
    scale = exact.abs().amax()
    scale = scale.where(scale > 0, 1.0)
    return ConvolutionOperator(exact / scale, scale, given.groups, axes)


def _per_axis(
    name: str, value: int | Sequence[int] | str, n_axes: int, at_least: int
) -> tuple[int, ...]:
    values = (value,) * n_axes if isinstance(value, Integral) else value
    if (
        not isinstance(values, Sequence)
        or len(values) != n_axes
        or not all(isinstance(x, Integral) and int(x) >= at_least for x in values)
    ):
        raise ValueError(
            f"{name} must be an integer of at least {at_least}, or {n_axes} of them, got {value!r}"
        )
    return tuple(int(x) for x in values)


def _padding(
    given: Convolution,
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> list[tuple[int, int]]:
    if given.padding == "same":
        if max(strides) > 1:
            raise ValueError(f"padding='same' needs stride 1, as in torch, got stride {strides}")
        totals = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)]
        # Where the total is odd torch pads the longer side behind.
        return [(total // 2, total - total // 2) for total in totals]
    if isinstance(given.padding, str) and given.padding != "valid":
        raise ValueError(f"padding must be integers, 'same' or 'valid', got {given.padding!r}")
    widths = 0 if isinstance(given.padding, str) else given.padding
    return [(width, width) for width in _per_axis("padding", widths, len(kernel), at_least=0)]


def _check_size(axis: Axis) -> None:
    if axis.padded <= axis.reach:
        raise ValueError(
            f"the kernel spans {axis.reach + 1}, more than the padded input: expected a size of "
            f"at least {axis.reach + 1 - axis.left - axis.right}, got {axis.size}"
        )
    if axis.circular and max(axis.left, axis.right) > axis.size:
        raise ValueError(
            f"circular padding wraps round at most once, as in torch: expected a size of at least "
            f"{max(axis.left, axis.right)}, got {axis.size}"
        )


def _sources(axis: Axis, device: torch.device) -> Tensor:
    """For each place of the circularly padded input, the place it was copied from."""
    return (torch.arange(axis.padded, device=device) - axis.left) % axis.size


def _pad(images: Tensor, dim: int, left: int, right: int) -> Tensor:
    # torch counts the widths from the last dimension.
    return functional.pad(images, (*(0, 0) * (images.dim() - dim - 1), left, right))
