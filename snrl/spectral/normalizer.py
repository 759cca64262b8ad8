"""The one shared module that owns and refreshes the singular vectors of every normalised layer."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from snrl.spectral import native
from snrl.spectral.certificate import RTOL, Certificate, lipschitz_bounds, norm_bounds
from snrl.spectral.coefficient import Coefficient, CoefOption
from snrl.spectral.iteration import exact_sigma, sigma_estimate
from snrl.spectral.layers import PLAIN_TYPES, SPECTRAL_TYPES, Quotient, Slot, SpectralLayer
from snrl.spectral.modes import Coef, Held, Mode, resolve_mode
from snrl.spectral.modes.forward import QUOTIENTS
from snrl.spectral.networks import Network, ScaledOutput, parameter_scales
from snrl.spectral.products import Factor
from snrl.spectral.refresh import Plan, as_index
from snrl.spectral.steps import Factors
from snrl.spectral.steps import live as _live
from snrl.spectral.stores import Row, Stores, Unfolding

# How far above the coefficient a stored weight may lie that counts as held: vectors are carried
# from step to step, and may have been that far off when it was held last.
_HELD_RTOL = 1e-3
_WHOLE_INPUT = {"input": slice(None)}


class SpectralNormalizer(Stores):
    """Holds layers to a spectral norm, by default with the effective weight ``coef · W / sigma``.

    How they are held is its :class:`~snrl.spectral.modes.Mode`. The default is spectral
    normalisation as in Miyato et al. 2018 (eq. 8 to 12), ``sigma = uᵀ W v``. Three departures:

    - the vectors are carried by :func:`~snrl.spectral.tracking.track` on a warm block rather than
      by power iteration, batched over all layers of a shape;
    - they move when the weights have moved, never in a forward: after every ``step()`` of an
      optimiser that holds a layer's weight, after a state dict is loaded into the layer, and when
      :meth:`refresh` or :meth:`reset` is called (needed only where weights are changed by hand);
    - they start from an exact SVD, so no random number is drawn.

    The layers belong to other modules; they are not submodules of this one. Its state dict holds
    the vectors, which a state dict to be loaded may lack: they are then computed from the weights.
    """

    turn = 0

    def __init__(
        self,
        coef: CoefOption = 1.0,
        n_power_iterations: int = 1,
        block_size: int = 4,
        mode: str | Mode = "normalize",
        mode_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Create a normalizer with no layers yet.

        Args:
            coef: The norm each layer is held to; or ``(start, end, steps)``, to go linearly from
                one to another over a number of steps of an optimiser that holds the layers. The
                count is in the state dict.
            n_power_iterations: Steps taken at each change of the weights; there are more where
                these do not suffice.
            block_size: Number of vectors iterated together.
            mode: How layers are held: a name of ``snrl.spectral.modes.MODES``, or a mode.
            mode_options: Options of the mode that is named.

        Raises:
            ValueError: If an argument is out of its range.
        """
        super().__init__(n_power_iterations, block_size)
        self.coefficient = Coefficient(coef)
        self.mode = resolve_mode(mode, mode_options)
        if not self.mode.uses_coef and str(self.coefficient) != "1.0":
            raise ValueError(f"mode {self.mode.name!r} has no use for a coefficient, got {coef!r}")
        self.layers: list[SpectralLayer] = []
        self.networks: list[Network] = []
        self._turned: dict[SpectralLayer, Row] = {}
        _live.add(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copied or unpickled normalizer; it follows optimisers like any other."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        _live.add(self)

    @property
    def coef(self) -> Coef:
        """The norm to hold now: a number, or on a schedule a tensor of no dimensions."""
        return self.coefficient.value

    def add(
        self,
        layers: Iterable[nn.Module],
        networks: Iterable[nn.Module] = (),
        inputs: Mapping[str, slice] = _WHOLE_INPUT,
    ) -> tuple[SpectralLayer, ...]:
        """Take layers into care; they apply their effective weight from now on.

        Args:
            layers: ``Linear`` and ``Conv`` layers. Mutated: each becomes a :class:`SpectralLayer`
                of the same parameters; with a mode that learns a gain, and of one more.
            networks: Modules from input to output, for modes that act on a network as a whole;
                several may share parts. Mutated if the mode scales outputs: the last layer of each
                gets a forward hook.
            inputs: Parts of the networks' input, by name, in which :meth:`certify` is to bound
                their Lipschitz constants.

        Returns:
            The same layers.

        Raises:
            TypeError: If a layer is of another type.
            ValueError: If a layer is normalised already, given twice, or pruned; or if the mode
                acts on networks and a layer is in none.
        """
        added = [_checked(layer) for layer in layers]
        if len({id(layer) for layer in added}) != len(added):
            raise ValueError("the same layer was given twice")
        found = [network for x in networks if (network := Network(x, added, inputs)).layers]
        if self.mode.scaled in ("output", "eps") and not all(
            any(layer is other for network in found for other in network.layers) for layer in added
        ):
            raise ValueError(f"mode {self.mode.name!r} needs the networks its layers are part of")
        for layer in added:
            layer.__class__ = SPECTRAL_TYPES[type(layer)]
            layer.slot = Slot(self, *self._append(Unfolding(layer)))
            if self.mode.both_unfoldings and layer.weight.dim() > 2:
                self._turned[layer] = self._append(Unfolding(layer, turned=True))
            if self.mode.learns_gain:
                layer.register_parameter("gain", nn.Parameter(layer.weight.new_ones(())))
        self.layers += added
        self.networks += found
        if self.mode.scaled == "output":
            for network in found:
                ScaledOutput(network, self).install()
        self.reset(added)
        return tuple(added)

    def refresh(self, layers: Sequence[SpectralLayer] | None = None) -> None:
        """Carry the vectors over a change of the weights, all layers of a shape in one batch.

        Args:
            layers: The layers whose weights changed; all by default. Only the vectors of this
                module change.
        """
        self._carry(self._rows(layers))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let vectors follow all changes of weights inside the context at once, at its end.

        Nothing inside may need them. A mode that changes stored weights does: it then makes no
        difference.
        """
        if type(self.mode).hold is not Mode.hold:
            yield
            return
        self._waiting = []
        try:
            yield
        finally:
            rows, self._waiting = self._waiting, None
            self._carry(rows)

    @torch.no_grad()
    def before_step(
        self,
        layers: Sequence[SpectralLayer],
        optimizer: Optimizer,  # noqa: ARG002
    ) -> Factors | None:
        """Let the mode change the gradients that an optimiser is about to read.

        Returns:
            What the mode wants options of the optimiser to be multiplied by during the step.
        """
        if type(self.mode).before_step is not Mode.before_step:
            for held in self._held(layers, self.coef):
                self.mode.before_step(held)
        if self.mode.scaled == "gradient":
            for layer in layers:
                if layer.weight.grad is not None:
                    layer.weight.grad.mul_(self.layer_scale(layer))
        if self.mode.scaled == "lr":
            scales = torch.stack([self.layer_scale(layer) for layer in layers]).tolist()
            weights = [id(layer.weight) for layer in layers]
            return Factors("lr", dict(zip(weights, scales, strict=True)))
        if self.mode.scaled == "eps":
            wanted = {id(layer) for layer in layers}
            moved = [x for x in self.networks if any(id(layer) in wanted for layer in x.layers)]
            return Factors("eps", parameter_scales(moved, self))
        return None

    def after_step(self, layers: Sequence[SpectralLayer]) -> None:
        """Follow an optimiser's step, and let the mode change the weights it has moved."""
        self.coefficient.advance()
        self.refresh(layers)
        self._hold(layers, self.coef)

    @torch.no_grad()
    def reset(self, layers: Sequence[SpectralLayer] | None = None) -> None:
        """Compute the vectors anew from the weights alone, by SVD; for a change of any size.

        A mode that changes stored weights brings them to their norm: on a schedule, to the largest
        there will be, as it is not known where on the schedule they are from.

        Args:
            layers: The layers whose weights were replaced; all by default.
        """
        self._compute(self._rows(layers))
        if type(self.mode).hold is not Mode.hold:
            largest = self.coefficient.largest
            replaced = self.layers if layers is None else layers
            above = [x for x in replaced if self.sigma(x) > largest * (1 + _HELD_RTOL)]
            self._hold(above, largest)

    def sigma(self, layer: SpectralLayer) -> Tensor:
        """Compute ``uᵀ W v`` of a layer's raw weight, a scalar; the gradient flows to it.

        Where the mode asks for both unfoldings of a kernel, that is the mean of the two.
        """
        pair = self._pair(layer.slot.shape, layer.slot.row)
        sigma = sigma_estimate(Unfolding(layer).matrix(), *pair)
        if (turned := self._turned.get(layer)) is None:
            return sigma
        other = sigma_estimate(Unfolding(layer, turned=True).matrix(), *self._pair(*turned))
        return (sigma + other) / 2

    def layer_scale(self, layer: SpectralLayer) -> Tensor:
        """Compute the mode's factor for one layer, a scalar; the gradient flows to the weight."""
        return self.mode.scale(self.sigma(layer), self.coef)

    def effective_weight(self, layer: SpectralLayer) -> Tensor:
        """Compute the weight one layer applies: see :meth:`SpectralLayer.effective_weight`."""
        if not self.mode.in_forward:
            return layer.weight
        scale = self.layer_scale(layer)
        return layer.weight * (scale * layer.gain if self.mode.learns_gain else scale)

    @property
    def is_factor(self) -> bool:
        """Whether linear layers apply ``f(sigma)`` times their stored weights, and no more."""
        return self.mode.in_forward and not self.mode.learns_gain

    def vectors(self, layer: SpectralLayer) -> tuple[Tensor, Tensor]:
        """The leading ``u`` and ``v`` of a layer's weight: views of what a refresh changes."""
        u, block, _ = self._store(layer.slot.shape).vectors()
        return u[layer.slot.row], block[layer.slot.row, 0]

    def addresses(self, layer: SpectralLayer) -> tuple[int, int]:
        """Where in memory the leading ``u`` and ``v`` of a layer's weight are."""
        u, block, _ = self._store(layer.slot.shape).vectors()
        row, itemsize = layer.slot.row, u.itemsize
        return (
            u.data_ptr() + row * u.stride(0) * itemsize,
            block.data_ptr() + row * block.stride(0) * itemsize,
        )

    def scale_and_slope(self, layer: SpectralLayer) -> tuple[float, float]:
        """Compute ``f(sigma)`` and its derivative, for a linear layer on the CPU.

        Args:
            layer: A layer of this normalizer, such that :attr:`is_factor` and the functions of
                ``native`` take its weight and vectors.
        """
        sigma = self._store(layer.slot.shape).sigma(layer.slot.row, layer.weight)
        if math.isnan(sigma):
            sigma = native.sigma(layer.weight, *self.vectors(layer))
        return self.mode.factors(sigma, float(self.coef))

    @property
    def only_scales(self) -> bool:
        """Whether no more happens around a step than :meth:`refresh` and a schedule's count."""
        mode = type(self.mode)
        return self.is_factor and mode.hold is Mode.hold and mode.before_step is Mode.before_step

    def quotient(self, layer: SpectralLayer) -> Quotient | None:
        """How the factor of a linear layer follows from its norm; None if by other arithmetic."""
        capped = QUOTIENTS.get(type(self.mode))
        if capped is None or self.coefficient.duration is not None:
            return None
        sigmas = self._store(layer.slot.shape).sigmas
        address = sigmas.buffer_info()[0] + layer.slot.row * sigmas.itemsize
        return Quotient(
            address, self.coefficient.start, capped, getattr(self.mode, "detach", False)
        )

    def plan(self, layers: Sequence[SpectralLayer]) -> Plan | None:
        """The call that :meth:`refresh` is for these layers, for somebody else to make.

        Whoever makes it calls :meth:`followed` after it. None if it is no single call, or if the
        matrices are copies of the weights.
        """
        prepared = self._ready(tuple(self._rows(layers)))
        plans = prepared.refresh.plans
        return plans[0] if len(plans) == 1 and prepared.addresses else None

    def followed(self, layers: Sequence[SpectralLayer]) -> None:
        """Take note that the vectors of these layers have followed their weights."""
        self._note(self._rows(layers))

    def factor(self, layer: SpectralLayer) -> Factor | None:
        """Compute what the weight of a linear layer is multiplied by, as numbers.

        Args:
            layer: A linear layer on the CPU.

        Returns:
            The factor of the current weight; None where the effective weight is not the stored one
            times a function of ``sigma``.
        """
        u, v = self.vectors(layer)
        if not self.is_factor or u.dtype is not layer.weight.dtype or not u.is_cpu:
            return None
        # Copies: the graph that is made with them may outlive the next change.
        wanted = torch.is_grad_enabled() and layer.weight.requires_grad
        copies = torch.cat((u, v)) if wanted else None
        of_sigma = partial(self.mode.scale, coef=float(self.coef))
        return Factor(*self.scale_and_slope(layer), of_sigma, copies)

    def effective_weights(self, layers: Sequence[SpectralLayer]) -> Tensor:
        """Compute the effective weights of linear layers of one shape, as one batch.

        Args:
            layers: ``k`` layers of shape ``(m, n)`` that were added in this order.

        Returns:
            Shape ``(k, m, n)``. The gradient flows to the layers' weights, through sigma too, and
            to their gains.
        """
        weight = torch.stack([layer.weight for layer in layers])
        if not self.mode.in_forward:
            return weight
        rows = as_index([layer.slot.row for layer in layers])
        effective = self._effective(weight, *self._pair(layers[0].slot.shape, rows))
        if self.mode.learns_gain:
            effective = effective * torch.stack([layer.gain for layer in layers])[:, None, None]
        return effective

    def exact_sigmas(self, layers: Sequence[SpectralLayer] | None = None) -> Tensor:
        """Compute the largest singular values of the effective weights, by SVD in float64.

        Args:
            layers: Which layers; all by default.

        Returns:
            float64, shape ``(len(layers),)``, on the CPU; in the default mode ``coef`` each, if all
            is well.
        """
        chosen = self.layers if layers is None else layers
        with torch.no_grad():
            effective = [layer.effective_weight().flatten(1) for layer in chosen]
        return torch.stack([exact_sigma(weight).cpu() for weight in effective])

    def certify(self, rtol: float = RTOL) -> Certificate:
        """Prove bounds on the norms of the effective weights, and on what follows from them.

        Args:
            rtol: How far above its norm the upper bound of a layer may lie.

        Returns:
            Lower and upper bound for each of ``self.layers`` (convolutions by the reshaped
            kernel), and for each network the Lipschitz bound in each of its inputs: for a policy's
            normalizer the heads of critic, then target, in state and action. For a chain in
            ``nn.Sequential`` only; a features extractor in front of it is not part of it.

        Raises:
            ValueError: If ``rtol`` is below what float64 can promise: see :func:`gram_bound`.
        """
        bounds = [
            norm_bounds(
                layer.effective_weight().detach().flatten(1), *self._pair(*layer.slot[1:]), rtol
            )
            for layer in self.layers
        ]
        lower, upper = torch.tensor(bounds, dtype=torch.float64).reshape(-1, 2).unbind(1)
        lipschitz = [lipschitz_bounds(x.chain, x.inputs, rtol) for x in self.networks]
        return Certificate(lower, upper, tuple(lipschitz))

    def forward(self, input: Tensor) -> Tensor:
        """Return the input: in an ``nn.Sequential`` a normalizer stands among the layers."""
        return input

    def extra_repr(self) -> str:
        """Name the options and the number of layers."""
        return (
            f"mode={self.mode!r}, coef={self.coefficient}, "
            f"n_power_iterations={self.n_power_iterations}, block_size={self.block_size}, "
            f"n_layers={len(self.layers)}"
        )

    def _effective(self, weight: Tensor, u: Tensor, v: Tensor) -> Tensor:
        scale = self.mode.scale(sigma_estimate(weight, u, v), self.coef)
        return weight * scale[..., None, None]

    def _rows(self, layers: Sequence[SpectralLayer] | None) -> Iterator[Row]:
        for layer in self.layers if layers is None else layers:
            yield Row(layer.slot.shape, layer.slot.row)
            if (turned := self._turned.get(layer)) is not None:
                yield turned

    def _held(self, layers: Sequence[SpectralLayer], coef: Coef) -> list[Held]:
        by_shape: dict[str, list[SpectralLayer]] = defaultdict(list)
        for layer in layers:
            by_shape[layer.slot.shape].append(layer)
        return [
            Held(
                [cast("nn.Parameter", layer.weight) for layer in group],
                coef,
                self._store(shape).read([layer.slot.row for layer in group]),
            )
            for shape, group in by_shape.items()
        ]

    def _hold(self, layers: Sequence[SpectralLayer], coef: Coef) -> None:
        if type(self.mode).hold is not Mode.hold:
            with torch.no_grad():
                for held in self._held(layers, coef):
                    self.mode.hold(held)


def _checked(layer: nn.Module) -> SpectralLayer:
    if type(layer) in PLAIN_TYPES:
        raise ValueError(f"the layer is normalised already: {layer}")
    if type(layer) not in SPECTRAL_TYPES:
        names = ", ".join(known.__name__ for known in SPECTRAL_TYPES)
        raise TypeError(f"only layers of type {names} can be normalised, got {layer}")
    if "weight" not in layer._parameters:
        raise ValueError(f"expected a layer whose weight is a parameter (not pruned), got {layer}")
    return cast("SpectralLayer", layer)
