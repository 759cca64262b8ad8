"""Ways to hold a norm, by name."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from snrl.spectral.modes.base import Coef, Held, Mode
from snrl.spectral.modes.forward import Bidirectional, Cap, Gain, Normalize
from snrl.spectral.modes.optimisation import DivGrad, DivOut, LayerLr, MulEps
from snrl.spectral.modes.penalties import Penalty, PenaltyToCoef
from snrl.spectral.modes.weights import Hammer, Project, SoftCap

# In the order of the documentation.
MODES: Mapping[str, type[Mode]] = {
    mode.name: mode
    for mode in (
        Normalize,
        Cap,
        Bidirectional,
        Gain,
        Project,
        Hammer,
        SoftCap,
        Penalty,
        PenaltyToCoef,
        DivGrad,
        DivOut,
        MulEps,
        LayerLr,
    )
}

__all__ = ["MODES", "Coef", "Held", "Mode", "resolve_mode"]


def resolve_mode(mode: str | Mode, options: Mapping[str, Any] | None = None) -> Mode:
    """Find a mode by its name, or take it as it is.

    Args:
        mode: A name in :data:`MODES`, or a mode.
        options: The mode's options by name, where a name is given; else none.

    Returns:
        The mode.

    Raises:
        ValueError: If there is no such mode or option, or an option is out of its range.
    """
    options = options or {}
    if isinstance(mode, Mode):
        if options:
            raise ValueError(f"{mode!r} has its options already, got {dict(options)}")
        return mode
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}; there are {', '.join(MODES)}")
    known = [field.name for field in fields(MODES[mode])]
    for name in options:
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise ValueError(f"mode {mode!r} has no option {name!r}; {has}")
    return MODES[mode](**options)
