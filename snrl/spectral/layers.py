"""Layers that apply their weight divided by its spectral norm."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from snrl.spectral.products import Factor, can_scale, linear


class Quotient(NamedTuple):
    """``coef / sigma``, of a layer.

    Attributes:
        sigma: Address of where a refresh writes the norm, NaN where it finds none.
        coef: The norm to hold.
        capped: Whether it is at most 1.
        detached: Whether no gradient flows to ``sigma``.
    """

    sigma: int
    coef: float
    capped: bool
    detached: bool


class Normalizer(Protocol):
    """What a layer needs of the module that keeps its vectors: ``SpectralNormalizer``."""

    def effective_weight(self, layer: "SpectralLayer") -> Tensor:
        """Compute the weight that the layer applies."""

    def factor(self, layer: "SpectralLayer") -> Factor | None:
        """Compute what a linear layer's weight is multiplied by, where that is all there is."""

    @property
    def is_factor(self) -> bool:
        """Whether a layer's weight is multiplied by a function of ``sigma``, and no more."""

    def vectors(self, layer: "SpectralLayer") -> tuple[Tensor, Tensor]:
        """Give the layer's leading singular vectors."""

    def addresses(self, layer: "SpectralLayer") -> tuple[int, int]:
        """Give the places of these in memory."""

    def scale_and_slope(self, layer: "SpectralLayer") -> tuple[float, float]:
        """Compute that function and its derivative."""

    def quotient(self, layer: "SpectralLayer") -> Quotient | None:
        """Tell how it follows from ``sigma``, if it is a quotient."""

    def effective_weights(self, layers: Sequence["SpectralLayer"]) -> Tensor:
        """Compute the weights that layers of one shape apply, stacked."""

    def refresh(self, layers: Sequence["SpectralLayer"]) -> None:
        """Carry the layers' vectors over a change of their weights."""

    def reset(self, layers: Sequence["SpectralLayer"]) -> None:
        """Compute the layers' vectors anew."""


class Slot(NamedTuple):
    """Where the singular vectors of a layer are kept: a row of a normalizer's vectors."""

    normalizer: Normalizer
    shape: str
    row: int


class SpectralLayer(nn.Module):
    """A layer whose stored ``weight`` is raw and whose forward uses ``effective_weight()``.

    The parameter keeps its name and its place in optimisers and state dicts, where
    ``torch.nn.utils.parametrizations`` would move it to ``parametrizations.weight.original``.
    """

    weight: Tensor
    slot: Slot
    gain: Tensor

    def effective_weight(self) -> Tensor:
        """Compute ``coef · W / sigma`` from the current weight.

        Returns:
            Shape and dtype of ``weight``. The gradient flows to ``weight``, through sigma too.
            No state changes.
        """
        return self.slot.normalizer.effective_weight(self)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if "gain" in self._parameters:
            # A plain network has none; this is its weight, normalised.
            state_dict.setdefault(f"{prefix}gain", torch.ones(()))
        super()._load_from_state_dict(state_dict, prefix, *args)
        self.slot.normalizer.reset((self,))


class SpectralLinear(SpectralLayer, nn.Linear):
    """``nn.Linear`` with a spectrally-normalised weight."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply the effective weight and the bias to ``(..., in_features)``."""
        can = can_scale(input, self.weight, self.bias)
        factor = self.slot.normalizer.factor(self) if can else None
        if factor is None:
            return nn.functional.linear(input, self.effective_weight(), self.bias)
        if input.dim() == 2:
            return linear(input, self.weight, self.bias, factor)
        rows = linear(input.reshape(-1, input.shape[-1]), self.weight, self.bias, factor)
        return rows.view(*input.shape[:-1], self.out_features)


class _SpectralConv(SpectralLayer):
    def forward(self, input: Tensor) -> Tensor:
        """Convolve with the effective kernel."""
        return self._conv_forward(input, self.effective_weight(), self.bias)  # type: ignore[operator,no-any-return]


class SpectralConv1d(_SpectralConv, nn.Conv1d):
    """``nn.Conv1d`` with the reshaped kernel ``(out, in·k)`` spectrally normalised."""


class SpectralConv2d(_SpectralConv, nn.Conv2d):
    """``nn.Conv2d`` with the reshaped kernel ``(out, in·kh·kw)`` spectrally normalised."""


class SpectralConv3d(_SpectralConv, nn.Conv3d):
    """``nn.Conv3d`` with the reshaped kernel ``(out, in·kd·kh·kw)`` spectrally normalised."""


SPECTRAL_TYPES: Mapping[type[nn.Module], type[SpectralLayer]] = {
    nn.Linear: SpectralLinear,
    nn.Conv1d: SpectralConv1d,
    nn.Conv2d: SpectralConv2d,
    nn.Conv3d: SpectralConv3d,
}
PLAIN_TYPES: Mapping[type[SpectralLayer], type[nn.Module]] = {
    spectral: plain for plain, spectral in SPECTRAL_TYPES.items()
}


def applied_weight(layer: nn.Linear | nn.modules.conv._ConvNd) -> Tensor | None:
    """Give the weight that a linear or convolution layer applies, which may not be the stored one.

    Args:
        layer: Not modified.

    Returns:
        What its ``effective_weight()`` gives, where it has one, as a :class:`SpectralLayer` has;
        the stored weight of torch's own types; None for any other, whose forward is not known. The
        gradient flows to the parameters.
    """
    effective = getattr(layer, "effective_weight", None)
    if effective is not None:
        return effective()  # type: ignore[no-any-return]
    return layer.weight if type(layer) in SPECTRAL_TYPES else None


def normalizable_layers(module: nn.Module) -> list[nn.Module]:
    """List the layers of a network that can be normalised, or are, in order of registration.

    Subclasses of ``nn.Linear`` and the like are left out: their forward may use the weight in a
    way of its own.

    Args:
        module: Any module; it is itself listed if it is such a layer.

    Returns:
        ``Linear``, ``Conv1d``, ``Conv2d`` and ``Conv3d`` layers, each once.
    """
    known = {*SPECTRAL_TYPES, *PLAIN_TYPES}
    return [layer for layer in module.modules() if type(layer) in known]
