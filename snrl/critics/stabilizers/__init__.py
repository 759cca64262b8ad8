"""Stabilisers of a critic, by name, and how a critic is described by them: ``"sn+layer_norm"``."""

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from snrl.critics.stabilizers.base import Place, Stabilizer
from snrl.critics.stabilizers.batch_norm import BatchNorm, BatchRenorm
from snrl.critics.stabilizers.blocks import Bro, Simba
from snrl.critics.stabilizers.decay import L2Penalty, WeightDecay
from snrl.critics.stabilizers.dropout import Dropout
from snrl.critics.stabilizers.hyperspherical import Hyperspherical
from snrl.critics.stabilizers.norms import LayerNorm, RMSNorm
from snrl.critics.stabilizers.penalties import FeaturePenalty, GradientPenalty
from snrl.critics.stabilizers.redq import REDQ
from snrl.critics.stabilizers.spectral import SpectralNormalization
from snrl.critics.stabilizers.unit_norm import UnitNorm
from snrl.critics.stabilizers.weight_norm import WeightNorm

__all__ = ["PLAIN", "STABILIZERS", "Place", "Stabilizer", "describe", "resolve_critic"]

PLAIN = "plain"

# In the order of the documentation. To add one is one class in one file, and one line here; from
# outside the package, ``STABILIZERS[name] = …`` before the policy is built.
STABILIZERS: dict[str, type[Stabilizer]] = {
    stabilizer.name: stabilizer
    for stabilizer in (
        SpectralNormalization,
        LayerNorm,
        RMSNorm,
        BatchNorm,
        BatchRenorm,
        WeightNorm,
        Hyperspherical,
        UnitNorm,
        Dropout,
        Simba,
        Bro,
        GradientPenalty,
        FeaturePenalty,
        WeightDecay,
        L2Penalty,
        REDQ,
    )
}

# Places where one excludes another of the same kind.
_SINGLE = (Place.BLOCKS, Place.NORM, Place.WEIGHTS, Place.ENSEMBLE)


def resolve_critic(
    critic: str, options: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[Stabilizer, ...]:
    """Find the stabilisers that a description names.

    Args:
        critic: Names of :data:`STABILIZERS` joined by ``+``, in any order; ``"plain"`` for none.
        options: Options of those that are named, by name.

    Returns:
        The stabilisers, in the order in which they are composed: see :class:`Place`.

    Raises:
        ValueError: If there is no such stabiliser or option, one is named twice, an option is out
            of its range, or two exclude each other.
    """
    if not isinstance(critic, str) or not critic:
        raise ValueError(f'critic must be "{PLAIN}" or names joined by "+", got {critic!r}')
    names = [] if critic == PLAIN else critic.split("+")
    for name in names:
        if name not in STABILIZERS:
            raise ValueError(f"unknown critic {name!r}{_hint(name)}; there are {_known()}")
        if names.count(name) > 1:
            raise ValueError(f"critic {critic!r} names {name!r} twice")
    options = _checked(options, names, critic)
    chosen = [_make(name, options.get(name) or {}) for name in names]
    chosen.sort(key=lambda stabilizer: (stabilizer.place, stabilizer.name))
    _check_together(chosen)
    return tuple(chosen)


def describe(stabilizers: tuple[Stabilizer, ...]) -> str:
    """Return the description that :func:`resolve_critic` reads."""
    return "+".join(stabilizer.name for stabilizer in stabilizers) or PLAIN


def _checked(options: Any, names: list[str], critic: str) -> Mapping[str, Any]:
    if not isinstance(options, Mapping | None) or not all(
        isinstance(given, Mapping | None) for given in (options or {}).values()
    ):
        raise ValueError(
            'critic_options must be options by name of a stabiliser, such as {"dropout": '
            f'{{"p": 0.1}}}}, got {options!r}'
        )
    for name in options or {}:
        if name not in names:
            raise ValueError(f"critic_options has {name!r}, which critic {critic!r} does not name")
    return options or {}


def _make(name: str, options: Mapping[str, Any]) -> Stabilizer:
    known = [field.name for field in fields(STABILIZERS[name])]
    for option in options:
        if option not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise ValueError(f"critic {name!r} has no option {option!r}; {has}")
    try:
        return STABILIZERS[name](**options)
    except ValueError as error:
        raise ValueError(f"critic {name!r}: {error}") from error


def _check_together(chosen: list[Stabilizer]) -> None:
    for place in _SINGLE:
        rivals = [x.name for x in chosen if x.place is place]
        if len(rivals) > 1:
            raise ValueError(f"a critic has one of {' and '.join(rivals)}, not both")
    blocks = [x.name for x in chosen if x.place is Place.BLOCKS]
    inside = [x.name for x in chosen if x.place in (Place.DROPOUT, Place.NORM)]
    if blocks and inside:
        raise ValueError(
            f"{blocks[0]} has norms of its own between its layers, got {inside[0]} too"
        )


def _hint(name: str) -> str:
    close = difflib.get_close_matches(name, STABILIZERS, n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def _known() -> str:
    return ", ".join([PLAIN, *STABILIZERS])
