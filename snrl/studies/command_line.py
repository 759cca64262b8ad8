"""Options of a run as words of its command line: what the parser of ``snrl.run`` reads back."""

from collections.abc import Mapping
from typing import Any

from snrl.runs.hyperparameters import options
from snrl.runs.values import BOOLEAN


def words(algo: str, values: Mapping[str, Any]) -> list[str]:
    """Return the flags that give an algorithm's options these values.

    Args:
        algo: The algorithm.
        values: Typed values by option name, none of them None (which no flag can say).
    """
    return [word for name, value in values.items() for word in _flag(algo, name, value)]


def _flag(algo: str, name: str, value: Any) -> list[str]:
    option = options(algo)[name]
    if option.kind is BOOLEAN:
        return [option.flag if value else option.flag.replace("--", "--no-", 1)]
    if isinstance(value, Mapping):
        return [option.flag, *_pairs("", value)]
    items = value if isinstance(value, list) else [value]
    return [option.flag, *map(str, items)]


def _pairs(prefix: str, value: Mapping[str, Any]) -> list[str]:
    pairs = []
    for key, item in value.items():
        if isinstance(item, Mapping):
            pairs += _pairs(f"{prefix}{key}.", item)
        else:
            pairs.append(f"{prefix}{key}={_joined(item)}")
    return pairs


def _joined(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
