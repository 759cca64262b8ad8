"""Measure a saved model after the fact: ``python -m snrl.values RUN_DIR``."""

import argparse
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

_BAD_INPUT = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Its arguments; those of the process if None.

    Returns:
        The exit code: 0, or 2 for bad input.
    """
    parser = argparse.ArgumentParser(
        prog="python -m snrl.values",
        description="Measure how good the values of a finished run's model are: print a table, and "
        "draw a page.",
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="folder of python -m snrl.run")
    parser.add_argument(
        "--values",
        choices=("light", "full"),
        default="full",
        help="how much is measured (default: full)",
    )
    parser.add_argument(
        "--seed", type=_seed, metavar="N", help="of the episodes (default: a fixed one)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the page (default: values.png in the folder)"
    )
    arguments = parser.parse_args(argv)

    # Loading torch takes longer than parsing and refusing bad input may.
    from snrl.values.measurer import DEFAULT_SEED
    from snrl.values.saved_run import SavedRunError

    try:
        page = _measure(
            arguments.run,
            arguments.values,
            DEFAULT_SEED if arguments.seed is None else arguments.seed,
            arguments.out or arguments.run / "values.png",
        )
    except SavedRunError as error:
        print(f"snrl.values: error: {error}", file=sys.stderr)
        return _BAD_INPUT
    print(f"page: {page}")
    return 0


def _measure(path: Path, measures: str, seed: int, out: Path) -> Path:
    import gymnasium as gym
    import numpy as np

    from snrl.values.figure import draw, verdict
    from snrl.values.measurer import Measurer
    from snrl.values.saved_run import SavedRunError, read_run

    _require_matplotlib()
    run = read_run(path)
    _check_page(out)
    try:
        measurer = Measurer(run.model, run.config["env"], measures, seed, _say)
    except (gym.error.Error, ImportError) as error:
        raise SavedRunError(f"cannot make {run.config['env']}: {error}") from error
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise SavedRunError(
            f"the model of {path} does not fit {run.config['env']}: {reason}"
        ) from error
    if not measurer.probe.is_finite():
        raise SavedRunError(f"the model of {path} has weights that are not finite: it diverged")
    measured = measurer.measure()
    measurer.close()
    print(f"{run.title}\n\n{_table(measured.values)}\n")
    if measured.returns is None:
        raise SavedRunError("no page: the returns could not be followed far enough")
    if not np.isfinite(measured.returns).all():
        raise SavedRunError("no page: the returns are not finite")
    print(verdict(measured))
    try:
        draw(run, measured, out)
    except OSError as error:
        raise SavedRunError(f"cannot write {out}: {error.strerror}") from error
    return out


def _table(values: Mapping[str, float]) -> str:
    """Every number, with what is healthy of it."""
    from snrl.values.keys import KEYS

    lines = []
    for key in KEYS:
        named = [name for name in key.names if name in values]
        lines += [f"{name:<26} {values[name]:>12.5g}" for name in named]
        if named:
            text = f"healthy: {key.healthy}".replace("`", "")
            lines += textwrap.wrap(text, 92, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def _seed(text: str) -> int:
    seed = int(text) if text.isdecimal() else -1
    # Environments are seeded one after the other, with what NumPy takes.
    if not 0 <= seed < 2**31:
        raise argparse.ArgumentTypeError(f"expected an integer from 0 to 2147483647, got {text}")
    return seed


def _check_page(out: Path) -> None:
    """Refuse a page that could not be written, before minutes are spent on it."""
    from matplotlib.figure import Figure

    from snrl.values.saved_run import SavedRunError

    known = Figure().canvas.get_supported_filetypes()
    if out.suffix.lower().removeprefix(".") not in known or out.is_dir():
        raise SavedRunError(f"the page must be a file such as values.png or .pdf, got {out}")
    if not out.parent.is_dir():
        raise SavedRunError(f"there is no folder {out.parent} for the page")


def _require_matplotlib() -> None:
    from importlib.util import find_spec

    from snrl.values.saved_run import SavedRunError

    if find_spec("matplotlib") is None:
        raise SavedRunError('the page needs matplotlib: pip install "snrl[figures]"')


def _say(message: str) -> None:
    print(f"snrl.values: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
