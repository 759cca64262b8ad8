"""The one exception for what a user can put right, and the hint that helps to."""

import difflib
from collections.abc import Iterable


class ConfigError(Exception):
    """Bad input. The message is one clear line; the command ends with exit code 2."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ``": did you mean …?"`` for the closest known name, or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {close[0]}?" if close else ""
