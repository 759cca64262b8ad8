"""The one shared module that owns and refreshes the singular vectors of every normalised layer."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from numbers import Integral, Real
from typing import Any, cast
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from snrl.spectral.iteration import (
    Vectors,
    belong,
    exact_sigma,
    leading_vectors,
    sigma_estimate,
    track,
)
from snrl.spectral.layers import PLAIN_TYPES, SPECTRAL_TYPES, Slot, SpectralLayer

_live: WeakSet["SpectralNormalizer"] = WeakSet()


class SpectralNormalizer(nn.Module):
    """Holds layers to a spectral norm: effective weight ``coef · W / sigma``, ``sigma = uᵀ W v``.

    Spectral normalisation as in Miyato et al. 2018 (eq. 8 to 12), with three departures:

    - the vectors are carried by :func:`~snrl.spectral.iteration.track` on a warm block rather than
      by power iteration, batched over all layers of a shape;
    - they move when the weights have moved, never in a forward: after every ``step()`` of an
      optimiser that holds a layer's weight, after a state dict is loaded into the layer, and when
      :meth:`refresh` or :meth:`reset` is called (needed only where weights are changed by hand);
    - they start from an exact SVD, so no random number is drawn.

    The layers belong to other modules; they are not submodules of this one. Its state dict holds
    the vectors, which a state dict to be loaded may lack: they are then computed from the weights.
    """

    def __init__(self, coef: float = 1.0, n_power_iterations: int = 1, block_size: int = 4) -> None:
        """Create a normalizer with no layers yet.

        Args:
            coef: The norm each layer is held to.
            n_power_iterations: Steps taken at each change of the weights; there are more where
                these do not suffice.
            block_size: Number of vectors iterated together.

        Raises:
            ValueError: If an argument is out of its range.
        """
        super().__init__()
        if not _is_a(Real, coef) or not 0 < coef < math.inf:
            raise ValueError(f"the coefficient must be a positive number, got {coef!r}")
        for name, value in (("n_power_iterations", n_power_iterations), ("block_size", block_size)):
            if not _is_a(Integral, value) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        self.coef = float(coef)
        self.n_power_iterations = int(n_power_iterations)
        self.block_size = int(block_size)
        self.layers: list[SpectralLayer] = []
        _live.add(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copied or unpickled normalizer; it follows optimisers like any other."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        _live.add(self)

    def add(self, layers: Iterable[nn.Module]) -> tuple[SpectralLayer, ...]:
        """Take layers into care; they apply their effective weight from now on.

        Args:
            layers: ``Linear`` and ``Conv`` layers. Mutated: each becomes a :class:`SpectralLayer`
                of the same parameters.

        Returns:
            The same layers.

        Raises:
            TypeError: If a layer is of another type.
            ValueError: If a layer is normalised already, given twice, or pruned.
        """
        added = [_checked(layer) for layer in layers]
        if len({id(layer) for layer in added}) != len(added):
            raise ValueError("the same layer was given twice")
        for layer in added:
            matrix = layer.weight.detach().flatten(1)
            shape = f"{matrix.shape[0]}x{matrix.shape[1]}"
            if shape not in self._modules:
                self.add_module(shape, _Store(matrix, self.block_size))
            layer.__class__ = SPECTRAL_TYPES[type(layer)]
            layer.slot = Slot(self, shape, self._store(shape).append())
        self.layers += added
        self.reset(added)
        return tuple(added)

    @torch.no_grad()
    def refresh(self, layers: Sequence[SpectralLayer] | None = None) -> None:
        """Carry the vectors over a change of the weights, all layers of a shape in one batch.

        Args:
            layers: The layers whose weights changed; all by default. Only the vectors of this
                module change.
        """
        for store, rows, weight in self._batches(layers):
            store.write(rows, track(weight, store.read(rows), self.n_power_iterations))

    @torch.no_grad()
    def reset(self, layers: Sequence[SpectralLayer] | None = None) -> None:
        """Compute the vectors anew from the weights alone, by SVD; for a change of any size.

        Args:
            layers: The layers whose weights were replaced; all by default.
        """
        for store, rows, weight in self._batches(layers):
            store.write(rows, leading_vectors(weight, self.block_size))

    def sigma(self, layer: SpectralLayer) -> Tensor:
        """Compute ``uᵀ W v`` of a layer's raw weight, a scalar; the gradient flows to it."""
        return sigma_estimate(
            layer.weight.flatten(1), *self._pair(layer.slot.shape, layer.slot.row)
        )

    def effective_weight(self, layer: SpectralLayer) -> Tensor:
        """Compute ``coef · W / sigma`` of one layer: see :meth:`SpectralLayer.effective_weight`."""
        pair = self._pair(layer.slot.shape, layer.slot.row)
        return self._normalize(layer.weight.flatten(1), *pair).view_as(layer.weight)

    def effective_weights(self, layers: Sequence[SpectralLayer]) -> Tensor:
        """Compute the effective weights of linear layers of one shape, as one batch.

        Args:
            layers: ``k`` layers of shape ``(m, n)`` that were added in this order.

        Returns:
            Shape ``(k, m, n)``. The gradient flows to the layers' weights, through sigma too.
        """
        rows = _as_slice([layer.slot.row for layer in layers])
        pair = self._pair(layers[0].slot.shape, rows)
        return self._normalize(torch.stack([layer.weight for layer in layers]), *pair)

    def exact_sigmas(self, layers: Sequence[SpectralLayer] | None = None) -> Tensor:
        """Compute the largest singular values of the effective weights, by SVD in float64.

        Args:
            layers: Which layers; all by default.

        Returns:
            float64, shape ``(len(layers),)``, on the CPU; ``coef`` each, if all is well.
        """
        chosen = self.layers if layers is None else layers
        with torch.no_grad():
            effective = [layer.effective_weight().flatten(1) for layer in chosen]
        return torch.stack([exact_sigma(weight).cpu() for weight in effective])

    def forward(self, input: Tensor) -> Tensor:
        """Return the input: in an ``nn.Sequential`` a normalizer stands among the layers."""
        return input

    def extra_repr(self) -> str:
        """Name the options and the number of layers."""
        return (
            f"coef={self.coef}, n_power_iterations={self.n_power_iterations}, "
            f"block_size={self.block_size}, n_layers={len(self.layers)}"
        )

    def _normalize(self, weight: Tensor, u: Tensor, v: Tensor) -> Tensor:
        sigma = sigma_estimate(weight, u, v)
        # A zero matrix has no direction to scale; it stays zero and its gradient stays finite.
        safe = sigma.where(sigma != 0, 1.0)
        return weight * (self.coef / safe)[..., None, None]

    def _pair(self, shape: str, rows: int | slice | list[int]) -> tuple[Tensor, Tensor]:
        store = self._store(shape)
        return store.u[rows], store.v[rows]

    def _store(self, shape: str) -> "_Store":
        return cast("_Store", self._modules[shape])

    def _batches(
        self, layers: Sequence[SpectralLayer] | None
    ) -> Iterator[tuple["_Store", slice | list[int], Tensor]]:
        by_shape: dict[str, list[SpectralLayer]] = defaultdict(list)
        for layer in self.layers if layers is None else layers:
            by_shape[layer.slot.shape].append(layer)
        for shape, group in by_shape.items():
            rows = _as_slice([layer.slot.row for layer in group])
            yield self._store(shape), rows, torch.stack([x.weight.flatten(1) for x in group])

    @torch.no_grad()
    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
        """Take over the saved vectors that belong to the weights as they are now.

        The layers were loaded before and have computed theirs from the weights alone. Saved ones
        are better only in that a run goes on bit for bit, and may be of other layers or missing.
        """
        for shape, store in self._modules.items():
            assert isinstance(store, _Store)
            own = store.read(slice(None))
            keys = [f"{prefix}{shape}.{name}" for name in Vectors._fields]
            saved = [state_dict[key] for key in keys if key in state_dict]
            if [x.shape for x in saved] != [x.shape for x in own]:
                continue
            loaded = Vectors(*(x.to(y) for x, y in zip(saved, own, strict=True)))
            layers = [layer for layer in self.layers if layer.slot.shape == shape]
            weight = torch.stack([layer.weight.flatten(1) for layer in layers])
            rows = belong(weight, loaded, own).nonzero().flatten().tolist()
            if rows:
                store.write(rows, Vectors(*(part[rows] for part in loaded)))


class _Store(nn.Module):
    """The vectors of all layers of one shape, a row each; the buffers are those of ``Vectors``.

    Written by replacing the buffers, not in place: a graph that awaits its backward pass keeps
    the vectors it was made with.
    """

    u: Tensor
    v: Tensor
    block: Tensor
    direction: Tensor

    def __init__(self, like: Tensor, block_size: int) -> None:
        super().__init__()
        m, n = like.shape
        self.register_buffer("u", like.new_zeros(0, m))
        self.register_buffer("v", like.new_zeros(0, n))
        self.register_buffer("block", like.new_zeros(0, n, min(block_size, m, n)))
        self.register_buffer("direction", self.block.clone())

    def append(self) -> int:
        for name in Vectors._fields:
            rows = getattr(self, name)
            setattr(self, name, torch.cat((rows, rows.new_zeros(1, *rows.shape[1:]))))
        return len(self.u) - 1

    def read(self, rows: slice | list[int]) -> Vectors:
        return Vectors(*(getattr(self, name)[rows] for name in Vectors._fields))

    def write(self, rows: slice | list[int], vectors: Vectors) -> None:
        for name, value in zip(Vectors._fields, vectors, strict=True):
            buffer = getattr(self, name).clone()
            buffer[rows] = value
            setattr(self, name, buffer)

    def _load_from_state_dict(self, *_: Any) -> None:
        """Leave it to the normalizer, which knows the weights."""


def _is_a(kind: type, value: object) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _checked(layer: nn.Module) -> SpectralLayer:
    if type(layer) in PLAIN_TYPES:
        raise ValueError(f"the layer is normalised already: {layer}")
    if type(layer) not in SPECTRAL_TYPES:
        names = ", ".join(known.__name__ for known in SPECTRAL_TYPES)
        raise TypeError(f"only layers of type {names} can be normalised, got {layer}")
    if "weight" not in layer._parameters:
        raise ValueError(f"expected a layer whose weight is a parameter (not pruned), got {layer}")
    return cast("SpectralLayer", layer)


def _as_slice(rows: list[int]) -> slice | list[int]:
    """Rows as a slice where they are contiguous: a view, and no index tensor to build."""
    contiguous = rows == list(range(rows[0], rows[0] + len(rows)))
    return slice(rows[0], rows[0] + len(rows)) if contiguous else rows


def _refresh_after_step(optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
    if not _live:
        return
    stepped = {id(param) for group in optimizer.param_groups for param in group["params"]}
    for normalizer in tuple(_live):
        moved = [layer for layer in normalizer.layers if id(layer.weight) in stepped]
        if moved:
            normalizer.refresh(moved)


register_optimizer_step_post_hook(_refresh_after_step)
