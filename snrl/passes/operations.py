"""What a tape can do: the operations between and around the networks of an actor-critic update.

Each function describes one for :class:`~snrl.passes.tape.Tape`; it is done when the tape runs.
"""

import ctypes
from collections.abc import Sequence
from typing import Any, TypeVar

from torch import Tensor

from snrl.passes.panels import Panels, parts
from snrl.spectral.native import structures as c
from snrl.spectral.native.structures import Kind

# SB3's, and that of the C functions.
EPSILON = 1e-6

StructureT = TypeVar("StructureT", bound=ctypes.Structure)
Operation = tuple[Kind, ctypes.Structure]
Networks = ctypes.Array[c.Network]


def load(slot: int, to: Panels, width: int) -> Operation:
    """Read a matrix from memory.

    Args:
        slot: Holds its address; the next slot holds the distance of its rows.
        to: Takes its columns as first features.
        width: How many.
    """
    arguments = c.Load(slot, width, to.address(), to.features)
    return Kind.LOAD, _with(arguments, to)


def store(slot: int, source: Panels, width: int) -> Operation:
    """Write first features to a matrix in memory: :func:`load` the other way."""
    arguments = c.Load(slot, width, source.address(), source.features)
    return Kind.STORE, _with(arguments, source)


def copy(source: Panels, to: Panels, feature: int) -> Operation:
    """Copy all features to the place of others, from ``feature`` on."""
    arguments = c.Copy(source.address(), source.features, to.address(feature), to.features)
    return Kind.COPY, _with(arguments, source, to)


def forward(networks: Networks) -> Operation:
    """Evaluate networks."""
    return Kind.FORWARD, _with(_through(networks), networks)


def backward(networks: Networks, *, to_input: bool) -> Operation:
    """Send gradients of what networks gave back to their layers, and to the input if asked to."""
    return Kind.BACKWARD, _with(_through(networks, to_input=to_input), networks)


def backward_some(networks: Networks) -> Operation:
    """Do :func:`backward` to the input for the rows that have a gradient; the others get 0.

    Args:
        networks: Of one value each, without norms. Their own gradients are lost.
    """
    return Kind.BACKWARD_SOME, _with(_through(networks, to_input=True), networks)


class Squash:
    """Actions ``tanh(mean + std · noise)`` and their log-probabilities.

    As SB3's ``SquashedDiagGaussianDistribution`` has them (Haarnoja et al. 2018, appendix C):
    ``log π(a) = Σ log N(g; mean, std) - log(1 - a² + 1e-6)`` with ``g = mean + std · noise`` and
    ``std = exp(clamp(log_std, -20, 2))``.

    Attributes:
        log_prob: Log-probabilities, one feature.
        total: Their sums over each panel, float64.
    """

    def __init__(self, parameters: Panels, slot: int, to: Panels, feature: int = 0) -> None:
        """Take memory.

        Args:
            parameters: Mean and ``log_std`` behind each other.
            slot: Holds the address of noise, a matrix ``(batch, action_dim)`` in memory.
            to: Takes the actions.
            feature: From which feature on.
        """
        batch_size, dtype = parameters.batch_size, parameters.dtype
        dim = parameters.features // 2
        self.log_prob = Panels(batch_size, 1, dtype)
        self.total = parts(batch_size, dtype)
        spread = Panels(batch_size, dim, dtype)
        self._arguments = _with(
            c.Squash(
                *(parameters.address(), dim, slot, spread.address()),
                *(to.address(feature), to.features),
                *(self.log_prob.address(), self.total.data_ptr()),
            ),
            *(parameters, spread, self.log_prob, self.total, to),
        )

    def forward(self) -> Operation:
        """Draw the actions."""
        return Kind.SQUASH, self._arguments

    def backward(self, networks: Networks, ent_coef: int, grads: int) -> Operation:
        """Compute gradients of the parameters.

        Args:
            networks: Their gradients of the input, which are the actions, are added up.
            ent_coef: Address of the entropy coefficient: over the batch, it is the gradient of each
                log-probability.
            grads: Address of where the gradients go, in the shape of the parameters.
        """
        of = self._arguments
        arguments = c.Unsquash(
            ctypes.addressof(of), ctypes.addressof(networks), len(networks), grads, ent_coef
        )
        return Kind.UNSQUASH, _with(arguments, of, networks)


class Tanh:
    """Actions ``tanh(x)``, or with noise ``clamp(tanh(x) + noise, -1, 1)``."""

    def __init__(
        self, source: Panels, to: Panels, feature: int, dim: int, noise: int | None = None
    ) -> None:
        """Describe it.

        Args:
            source: Its first features are ``x``.
            to: Takes the actions.
            feature: From which feature on.
            dim: How many there are.
            noise: Slot of the address of a matrix ``(batch, dim)`` in memory; None for none.
        """
        self._arguments = _with(
            c.Tanh(
                *(source.address(), source.features, dim, -1 if noise is None else noise),
                *(to.address(feature), to.features),
            ),
            *(source, to),
        )

    def forward(self) -> Operation:
        """Compute the actions."""
        return Kind.TANH, self._arguments

    def backward(self, networks: Networks, grads: int) -> Operation:
        """Compute gradients of ``x``: see :meth:`Squash.backward`. There is no noise."""
        of = self._arguments
        arguments = c.Untanh(ctypes.addressof(of), ctypes.addressof(networks), len(networks), grads)
        return Kind.UNTANH, _with(arguments, of, networks)


def differences(
    networks: Networks,
    targets: Networks,
    slot: int,
    share: float,
    total: Tensor,
    *,
    policy: Squash | None = None,
    ent_coef: int | None = None,
    subset: int = 0,
) -> Operation:
    """Compare values with ``reward + discount · (min next values - ent_coef · log_prob)``.

    Args:
        networks: Those of the critic, which have been evaluated: they get gradients.
        targets: As many of the target, which have been too.
        slot: Holds the address of the rewards; the next one that of the discounts; and for a subset
            the one after that the address of a list of int64.
        share: What the differences are multiplied by to be gradients.
        total: Takes the sums of their squares over each panel, float64.
        policy: Of the next actions.
        ent_coef: Address of the entropy coefficient.
        subset: How many targets the list has; 0 for all.
    """
    arguments = c.Differences(
        *(ctypes.addressof(networks), ctypes.addressof(targets), len(networks)),
        *(subset, slot, None if policy is None else policy.log_prob.address(), ent_coef),
        *(share, total.data_ptr()),
    )
    return Kind.DIFFERENCES, _with(arguments, networks, targets, policy, total)


def least(networks: Networks, share: float, total: Tensor) -> Operation:
    """Give the least value of each row the gradient ``share``, the others 0.

    Args:
        networks: One value each; they have been evaluated.
        share: Gradient.
        total: Takes the sums of the least values over each panel, float64.
    """
    return Kind.LEAST, _climb(networks, share, total)


def every(networks: Networks, share: float, total: Tensor) -> Operation:
    """Give every value the gradient ``share``: otherwise as :func:`least`."""
    return Kind.ALL, _climb(networks, share, total)


def total(of: Tensor, result: int) -> Operation:
    """Add up what an operation found for each panel, as one of the step's results."""
    return Kind.SUM, _with(c.Sum(of.data_ptr(), result), of)


def join(table: Any) -> Operation:
    """Copy numbers from place to place: a table of :func:`~snrl.passes.tape.copies`."""
    arguments = c.Join(table.buffer_info()[0], len(table) // 3)
    return Kind.JOIN, _with(arguments, table)


def read_temperature(temperature: c.Temperature) -> Operation:
    """Take the exponential of the logarithm where there is one; results 0 and 1 are the two."""
    return Kind.READ_TEMPERATURE, temperature


def to_temperature(temperature: c.Temperature) -> Operation:
    """Compute the gradient of ``-mean(log_ent_coef · (log π + target_entropy))``."""
    return Kind.TO_TEMPERATURE, temperature


def scale(rows: Sequence[c.Scaled]) -> Operation:
    """Compute the factors of layers and their derivatives from the norms that were found."""
    table = (c.Scaled * len(rows))(*rows)
    return Kind.SCALE, _with(c.Scale(ctypes.addressof(table), len(rows)), table)


def _through(networks: Networks, *, to_input: bool = False) -> c.Through:
    return c.Through(ctypes.addressof(networks), len(networks), to_input)


def _climb(networks: Networks, share: float, total: Tensor) -> ctypes.Structure:
    arguments = c.Climb(ctypes.addressof(networks), len(networks), share, total.data_ptr())
    return _with(arguments, networks, total)


def _with(arguments: StructureT, *kept: object) -> StructureT:
    """Let a structure keep alive what it has addresses of."""
    arguments.kept = kept
    return arguments
