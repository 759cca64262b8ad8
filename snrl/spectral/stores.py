"""Where the vectors of many layers are kept: a buffer per shape, a row per matrix."""

import math
from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from snrl.spectral.batch import Batch
from snrl.spectral.layers import SpectralLayer
from snrl.spectral.refresh import Refresh, as_index
from snrl.spectral.tracking import Vectors, belong, leading_vectors


class Unfolding(NamedTuple):
    """A layer's weight as a matrix.

    Attributes:
        layer: The layer.
        turned: False for ``(out, in·k)``, True for ``(in, out·k)``.
    """

    layer: SpectralLayer
    turned: bool = False

    def matrix(self) -> Tensor:
        """The matrix; the gradient flows to the weight."""
        weight = self.layer.weight
        return weight.transpose(0, 1).flatten(1) if self.turned else weight.flatten(1)

    @property
    def shape(self) -> str:
        """The matrix's shape, as it names a store."""
        rows = self.layer.weight.shape[int(self.turned)]
        return f"{rows}x{self.layer.weight.numel() // rows}"


class Row(NamedTuple):
    """Where the vectors of a matrix are kept."""

    shape: str
    row: int


class Store(nn.Module):
    """The vectors of all matrices of one shape, a row each; the buffers are those of ``Vectors``.

    Written in place, so that a captured CUDA graph finds them where they were.
    """

    u: Tensor
    block: Tensor
    direction: Tensor

    def __init__(self, like: Tensor, block_size: int) -> None:
        """Make an empty store for matrices like the given one."""
        super().__init__()
        m, n = like.shape
        self.unfoldings: list[Unfolding] = []
        self.sigmas = array("d")
        # Of which tensor, in which state, each sigma was found.
        self._found: list[tuple[int, int]] = []
        self.register_buffer("u", like.new_zeros(0, m))
        self.register_buffer("block", like.new_zeros(0, min(block_size, m, n), n))
        self.register_buffer("direction", self.block.clone())

    def append(self, unfolding: Unfolding) -> Row:
        """Add a row of zeros for a matrix, and tell where it is."""
        self.unfoldings.append(unfolding)
        self.sigmas.append(math.nan)
        self._found.append((0, 0))
        for name in Vectors._fields:
            rows = getattr(self, name)
            setattr(self, name, torch.cat((rows, rows.new_zeros(1, *rows.shape[1:]))))
        return Row(unfolding.shape, len(self.unfoldings) - 1)

    def vectors(self) -> Vectors:
        """The buffers."""
        buffers = cast("dict[str, Tensor]", self._buffers)
        return Vectors(buffers["u"], buffers["block"], buffers["direction"])

    def read(self, rows: Sequence[int]) -> Vectors:
        """The vectors in some rows: views where the rows are contiguous, else copies."""
        chosen = as_index(rows)
        return Vectors(*(part[chosen] for part in self.vectors()))

    def batch(self, rows: Sequence[int]) -> Batch:
        """The matrices of some rows as they are now, and where their vectors are."""
        weights = [self.unfoldings[row].matrix() for row in rows]
        return Batch(weights, self.vectors(), rows, self.sigmas)

    def note(self, row: int) -> None:
        """Remember of which weight the sigma is that a refresh has just found."""
        weight = self.unfoldings[row].layer.weight
        self._found[row] = (weight.data_ptr(), weight._version)

    def sigma(self, row: int, weight: Tensor) -> float:
        """The norm that the last refresh found; NaN, and forgotten, if the weight has changed."""
        if self._found[row] != (weight.data_ptr(), weight._version):
            self.sigmas[row] = math.nan
        return self.sigmas[row]

    def carried(self) -> dict[str, Any]:
        """The vectors, and the norms that the last refresh found of the weights as they are."""
        current = [self.sigma(i, x.layer.weight) for i, x in enumerate(self.unfoldings)]
        return {**self.vectors()._asdict(), "sigmas": current}

    @torch.no_grad()
    def take_back(self, carried: dict[str, Any]) -> None:
        """Put back what :meth:`carried` gave; the weights are those of then."""
        for name, own in self.vectors()._asdict().items():
            own.copy_(carried[name])
        for row, sigma in enumerate(carried["sigmas"]):
            self.sigmas[row] = sigma
            self.note(row)

    @torch.no_grad()
    def take_over(self, saved: Sequence[Tensor]) -> None:
        """Copy saved vectors that belong to the weights as they are now, row by row.

        Args:
            saved: What may be the three buffers of an equal store.
        """
        own = self.vectors()
        if [x.shape for x in saved] != [x.shape for x in own]:
            return
        loaded = Vectors(*(x.to(y) for x, y in zip(saved, own, strict=True)))
        weight = torch.stack([unfolding.matrix() for unfolding in self.unfoldings])
        rows = belong(weight, loaded, own).nonzero().flatten().tolist()
        for part, value in zip(own, loaded, strict=True):
            part[rows] = value[rows]

    def _load_from_state_dict(self, *_: Any) -> None:
        """Leave it to the normalizer, which is asked when the weights are there."""


class _Prepared(NamedTuple):
    """A refresh, and where everything was when it was prepared."""

    refresh: Refresh
    addresses: list[int]


class Stores(nn.Module):
    """The vectors of many matrices of any shapes, and how they follow these.

    Its state dict holds the vectors, a :class:`Store` of each shape under the shape's name. One to
    be loaded may lack them, or hold those of other weights.
    """

    def __init__(self, n_power_iterations: int, block_size: int) -> None:
        """Make it for no matrices yet.

        Args:
            n_power_iterations: Steps that are always taken.
            block_size: Number of vectors iterated together.

        Raises:
            ValueError: If one of them is not a positive integer.
        """
        super().__init__()
        for name, value in (("n_power_iterations", n_power_iterations), ("block_size", block_size)):
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        self.n_power_iterations = int(n_power_iterations)
        self.block_size = int(block_size)
        self._prepared: dict[tuple[Row, ...], _Prepared] = {}
        # Changes to be followed later; None where they are at once.
        self._waiting: list[Row] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what holds addresses of this one's tensors."""
        return {**self.__dict__, "_prepared": {}}

    def carried(self) -> dict[str, dict[str, Any]]:
        """All that is carried from one weight to the next, by shape, for a checkpoint.

        A state dict has less: what is loaded from it has to suit any weights, and the norm of a
        weight is then computed in another way, which rounds differently.
        """
        stores = {k: x for k, x in self._modules.items() if isinstance(x, Store)}
        return {shape: store.carried() for shape, store in stores.items()}

    def take_back(self, carried: dict[str, dict[str, Any]]) -> None:
        """Put back what :meth:`carried` gave, for weights that are those of then, bit by bit."""
        for shape, part in carried.items():
            self._store(shape).take_back(part)

    def _append(self, unfolding: Unfolding) -> Row:
        if unfolding.shape not in self._modules:
            self.add_module(unfolding.shape, Store(unfolding.matrix().detach(), self.block_size))
        return self._store(unfolding.shape).append(unfolding)

    def _store(self, shape: str) -> Store:
        return cast("Store", self._modules[shape])

    def _pair(self, shape: str, rows: int | slice | list[int]) -> tuple[Tensor, Tensor]:
        store = self._store(shape)
        # Copies: the graph that is made with them may outlive the next change.
        return store.u[rows].clone(), store.block[rows, 0].clone()

    def _carry(self, rows: Iterable[Row]) -> None:
        """Let vectors follow a change of their matrices."""
        if self._waiting is not None:
            self._waiting += rows
            return
        key = tuple(rows)
        self._ready(key).refresh(self.n_power_iterations)
        self._note(key)

    def _note(self, rows: Iterable[Row]) -> None:
        """Remember of which weights the norms are that have just been found."""
        for shape, row in rows:
            self._store(shape).note(row)

    def _ready(self, key: tuple[Row, ...]) -> "_Prepared":
        prepared = self._prepared.get(key)
        if prepared is None or prepared.addresses != self._addresses(key):
            prepared = self._prepared[key] = self._prepare(key)
        return prepared

    @torch.no_grad()
    def _prepare(self, key: tuple[Row, ...]) -> "_Prepared":
        by_shape = _by_shape(key)
        batches = [self._store(shape).batch(rows) for shape, rows in by_shape.items()]
        unfoldings = [self._store(shape).unfoldings[row] for shape, row in key]
        # A matrix that is a copy has to be made anew at each change.
        stays = all(x.matrix().data_ptr() == x.layer.weight.data_ptr() for x in unfoldings)
        return _Prepared(Refresh(batches), self._addresses(key) if stays else [])

    def _addresses(self, key: tuple[Row, ...]) -> list[int]:
        """Where the weights are, and then the vectors."""
        stores = {shape: self._store(shape) for shape, _ in key}
        layers = [stores[shape].unfoldings[row].layer for shape, row in key]
        vectors = [x for store in stores.values() for x in store.vectors()]
        return [layer.weight.data_ptr() for layer in layers] + [x.data_ptr() for x in vectors]

    def _compute(self, rows: Iterable[Row]) -> None:
        """Compute vectors from their matrices alone, by SVD."""
        for shape, chosen in _by_shape(rows).items():
            weights, vectors, _, sigmas = self._store(shape).batch(chosen)
            exact = leading_vectors(torch.stack(list(weights)), self.block_size)
            for part, value in zip(vectors, exact, strict=True):
                part[chosen] = value
            for row in chosen:
                sigmas[row] = math.nan

    @torch.no_grad()
    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
        """Take over the saved vectors that belong to the weights as they are now.

        The layers were loaded before and have computed theirs from the weights alone. Saved ones
        are better only in that a run goes on bit for bit, and may be of other layers or missing.
        """
        for shape, store in self._modules.items():
            if isinstance(store, Store):
                keys = [f"{prefix}{shape}.{name}" for name in Vectors._fields]
                store.take_over([state_dict[key] for key in keys if key in state_dict])


def _by_shape(rows: Iterable[Row]) -> dict[str, list[int]]:
    chosen: dict[str, list[int]] = defaultdict(list)
    for shape, row in rows:
        chosen[shape].append(row)
    return chosen
