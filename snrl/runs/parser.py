"""What the command lines have in common: help that keeps its lines, and errors in one line."""

import argparse
import difflib
import textwrap
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

from snrl.runs.errors import ConfigError


class _Formatter(argparse.HelpFormatter):
    """Wraps text line by line, where argparse makes one paragraph of it."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        deeper = indent + 18 * " "
        wrap = partial(textwrap.fill, width=width, initial_indent=indent, subsequent_indent=deeper)
        first, *rest = text.split("\n")
        return "\n".join([super()._fill_text(first, width, indent), *map(wrap, rest)])


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, and never guesses an abbreviated flag."""

    def __init__(self, **kwargs: Any) -> None:
        """Take what ``argparse.ArgumentParser`` takes."""
        super().__init__(allow_abbrev=False, formatter_class=_Formatter, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raise a ``ConfigError`` with argparse's message."""
        raise ConfigError(message)

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Raise a ``ConfigError`` for words that ``parse_known_args`` left over."""
        flags = [flag.split("=")[0] for flag in unknown if flag.startswith("--")]
        if not flags:
            raise ConfigError(f"unexpected argument {unknown[0]}")
        close = difflib.get_close_matches(flags[0], self._option_string_actions, n=1)
        hint = f"did you mean {close[0]}?" if close else f"see {self.prog} --help"
        raise ConfigError(f"unknown flag {flags[0]} for {self.prog.split()[-1]}: {hint}")
