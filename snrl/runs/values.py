"""Kinds of option values: how each is read, whether it comes from YAML or from a flag.

Flags arrive as strings (or lists of strings) and YAML reads ``1e-3`` as a string, so every kind
reads strings as well as typed values, and the two sources need no second set of rules.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from snrl.runs.stabilizers import PLAIN, STABILIZERS


@dataclass(frozen=True)
class Kind:
    """A kind of value.

    Attributes:
        expects: What is accepted, as it reads in an error message.
        read: Turns a raw value into a plain one (YAML can hold it), or raises ``ValueError`` or
            ``TypeError``.
        metavar: How the value is shown in ``--help``.
        many: Whether a flag takes several words.
    """

    expects: str
    read: Callable[[Any], Any]
    metavar: str
    many: bool = False


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _integer(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    # "20_000" and "1e6" both mean what they say; 2.5 is no integer.
    number = _number(value)
    if not number.is_integer():
        raise ValueError
    return int(number)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError
    return value


def integer(low: int, high: int | None = None) -> Kind:
    """Return the kind of integers from ``low`` to ``high`` (without end if None)."""

    def read(value: Any) -> int:
        number = _integer(value)
        if number < low or (high is not None and number > high):
            raise ValueError
        return number

    expects = f"an integer of at least {low}" if high is None else f"an integer in {low}..{high}"
    return Kind(expects, read, "N")


def number(above: float | None = None, low: float | None = None, high: float | None = None) -> Kind:
    """Return the kind of finite numbers greater than ``above``, or within ``low`` and ``high``."""

    def read(value: Any) -> float:
        number = _number(value)
        if above is not None and number <= above:
            raise ValueError
        if (low is not None and number < low) or (high is not None and number > high):
            raise ValueError
        return number

    bounds = [f"greater than {above:g}"] if above is not None else []
    bounds += [f"of at least {low:g}"] if low is not None else []
    bounds += [f"of at most {high:g}"] if high is not None else []
    return Kind(" ".join(["a number", " and ".join(bounds)]).strip(), read, "X")


def choice(*names: str) -> Kind:
    """Return the kind of one of these names."""

    def read(value: Any) -> str:
        if value not in names:
            raise ValueError
        return str(value)

    return Kind(f"one of {', '.join(names)}", read, "NAME")


def _learning_rate(value: Any) -> float | str:
    if isinstance(value, str) and value.startswith("lin_"):
        if _number(value.removeprefix("lin_")) <= 0:
            raise ValueError
        return value
    rate = _number(value)
    if rate <= 0:
        raise ValueError
    return rate


def _ent_coef(value: Any) -> float | str:
    if isinstance(value, str) and value.startswith("auto"):
        if value != "auto" and (
            not value.startswith("auto_") or _number(value.removeprefix("auto_")) <= 0
        ):
            raise ValueError
        return value
    coef = _number(value)
    if coef < 0:
        raise ValueError
    return coef


def _target_entropy(value: Any) -> float | str:
    return "auto" if value == "auto" else _number(value)


def _train_freq(value: Any) -> int | list[int | str]:
    words: list[Any] = value if isinstance(value, list) else [value]
    words = [word for item in words for word in (item.split() if isinstance(item, str) else [item])]
    frequency, unit = words if len(words) == 2 else (*words, "step")
    frequency = _integer(frequency)
    if frequency < 1 or unit not in ("step", "episode"):
        raise ValueError
    return frequency if unit == "step" else [frequency, unit]


def _widths(value: Any) -> list[int]:
    if not isinstance(value, list):
        raise TypeError
    widths = [_integer(item) for item in value]
    if any(width < 1 for width in widths):
        raise ValueError
    return widths


def _net_arch(value: Any) -> list[int] | dict[str, list[int]]:
    if isinstance(value, Mapping):
        if set(value) != {"pi", "qf"} or any(isinstance(item, str) for item in value.values()):
            raise ValueError
        return {name: _widths(value[name]) for name in ("pi", "qf")}
    if not isinstance(value, list):
        raise TypeError
    if any(isinstance(item, str) and "=" in item for item in value):
        parts = dict(item.split("=", 1) for item in value)
        return _net_arch({name: widths.split(",") for name, widths in parts.items()})
    return _widths(value)


def _sn_layers(value: Any) -> str | list[int]:
    if isinstance(value, list) and len(value) == 1 and value[0] in ("hidden", "all"):
        value = value[0]
    if value in ("hidden", "all"):
        return str(value)
    layers = [_integer(item) for item in (value if isinstance(value, list) else [value])]
    if not layers or any(layer >= 0 for layer in layers):
        raise ValueError
    return layers


def _sn_coef(value: Any) -> float | list[float | int]:
    words = value if isinstance(value, list) else [value]
    if len(words) not in (1, 3):
        raise ValueError
    norms = [_number(word) for word in words[:2]]
    if min(norms) <= 0:
        raise ValueError
    if len(words) == 1:
        return norms[0]
    steps = _integer(words[2])
    if steps < 1:
        raise ValueError
    return [*norms, steps]


def _values(value: Any) -> str:
    # YAML reads a plain off as false.
    value = "off" if value is False else value
    if value not in ("off", "light", "full"):
        raise ValueError
    return str(value)


def _mode_option(value: Any) -> bool | float:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}[value] if value in ("true", "false") else _number(value)


def _mode_options(value: Any) -> dict[str, bool | float]:
    if isinstance(value, list):
        # A word without "=" has two parts too few, and is refused with ValueError as well.
        value = dict(word.split("=", 1) for word in value)
    if not isinstance(value, Mapping):
        raise TypeError
    return {str(name): _mode_option(item) for name, item in value.items()}


def _critic(value: Any) -> str:
    names = _text(value).split("+")
    if not set(names) <= STABILIZERS.keys() and names != [PLAIN]:
        raise ValueError
    return str(value)


def _critic_option(value: Any) -> bool | float | str:
    for read in (_integer, _mode_option, _text):
        try:
            return read(value)
        except (TypeError, ValueError):
            continue
    raise TypeError


def _critic_options(value: Any) -> dict[str, dict[str, bool | float | str]]:
    if isinstance(value, list):
        nested: dict[str, dict[str, Any]] = {}
        for word in value:
            # A word without "." or "=" has a part too few, and is refused with ValueError as well.
            path, item = word.split("=", 1)
            name, option = path.split(".", 1)
            nested.setdefault(name, {})[option] = item
        value = nested
    if not isinstance(value, Mapping) or not all(isinstance(x, Mapping) for x in value.values()):
        raise TypeError
    return {
        str(name): {str(option): _critic_option(item) for option, item in given.items()}
        for name, given in value.items()
    }


BOOLEAN = Kind("true or false", _boolean, "BOOL")
TEXT = Kind("a text", _text, "TEXT")
LEARNING_RATE = Kind(
    "a positive number, or lin_X to fall linearly from X to 0", _learning_rate, "X"
)
ENT_COEF = Kind("a number of at least 0, auto, or auto_X with X > 0", _ent_coef, "X")
TARGET_ENTROPY = Kind("a number or auto", _target_entropy, "X")
TRAIN_FREQ = Kind(
    "a positive integer, optionally followed by step or episode", _train_freq, "N", many=True
)
NET_ARCH = Kind(
    "positive layer widths such as 400 300, or pi=64,64 qf=400,300", _net_arch, "N", many=True
)
WIDTHS = Kind("positive layer widths such as 64 64", _widths, "N", many=True)
VALUES = Kind("one of off, light, full", _values, "NAME")
SN_COEF = Kind(
    "a number greater than 0, or two and a number of steps between them",
    _sn_coef,
    "X",
    many=True,
)
CRITIC = Kind(f"{PLAIN}, or names of {', '.join(STABILIZERS)} joined by +", _critic, "NAME")
CRITIC_OPTIONS = Kind(
    "options such as dropout.p=0.01, each a number, true, false or a name",
    _critic_options,
    "NAME.OPTION=VALUE",
    many=True,
)
MODE_OPTIONS = Kind(
    "options such as detach=true, each a number, true or false",
    _mode_options,
    "NAME=VALUE",
    many=True,
)
SN_LAYERS = Kind(
    "hidden, all, or negative indices counted from the output (-1)", _sn_layers, "N", many=True
)
