"""Report what a folder of runs says: ``python -m snrl.report DIR``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from snrl.runs.errors import ConfigError

_BAD_INPUT = 2
_HOWS = {
    "final": "the last evaluation",
    "last_tenth": "the mean over the last tenth of training",
    "auc": "the mean level along training",
}


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the report of all runs below a folder, and tell on stderr how far it is.

    Args:
        folder: Holds runs of ``snrl.run``, RL Zoo or Stable-Baselines3, at any depth, or the
            tables of another report.
        out: Where to; ``report`` in the folder if None.

    Returns:
        The page; see :func:`snrl.studies.report.write_report`.

    Raises:
        ConfigError: If there are no runs, or the report cannot be written.
    """
    from snrl.studies.report import write_report as write

    return write(folder, out, say=_say)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Its arguments; those of the process if None.

    Returns:
        The exit code: 0, or 2 for bad input.
    """
    arguments = _parser().parse_args(argv)
    try:
        # Loading pandas takes longer than parsing and refusing bad input may.
        from snrl.studies.report import write_report as write
        from snrl.studies.statistics.bootstrap import Options

        page = write(
            arguments.folder,
            arguments.out,
            how=arguments.how,
            baseline=arguments.baseline,
            options=Options(arguments.confidence, arguments.resamples, arguments.seed),
            say=None if arguments.quiet else _say,
        )
        if arguments.zoo_view is not None:
            _view(arguments.folder, arguments.zoo_view)
    except ConfigError as error:
        print(f"snrl.report: error: {' '.join(str(error).split())}", file=sys.stderr)
        return _BAD_INPUT
    except KeyboardInterrupt:
        print("snrl.report: interrupted", file=sys.stderr)
        return 130
    print(f"report: {page}")
    return 0


def _view(folder: Path, view: Path) -> None:
    from snrl.studies.collect import collect
    from snrl.studies.zoo_view import zoo_view

    _say(f"RL Zoo's scripts read the view so: {zoo_view(collect(folder), view)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m snrl.report",
        description="Compare all runs below a folder: one page that opens anywhere, figures, "
        "tables and data. Reads run folders of snrl.run and snrl.compare, and those of RL Zoo and "
        "Stable-Baselines3 as far as they hold the data, and the tables of an earlier report.",
        epilog="Written: index.html (needs no network), figures/*.svg and *.png, tables/*.tex and "
        "*.md, runs.parquet, evaluations.parquet.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of runs or of tables")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write (default: DIR/report)"
    )
    parser.add_argument(
        "--baseline",
        metavar="VARIANT",
        help="what the other variants are compared with (default: the study's, else plain)",
    )
    texts = "; ".join(f"{how}: {text}" for how, text in _HOWS.items())
    parser.add_argument(
        "--how",
        choices=_HOWS,
        default="final",
        help=f"what stands for a run in comparisons (default: final). {texts}",
    )
    parser.add_argument(
        "--confidence",
        type=_share,
        default=0.95,
        metavar="SHARE",
        help="nominal coverage of the intervals (default: 0.95)",
    )
    parser.add_argument(
        "--resamples",
        type=_count,
        default=10_000,
        metavar="N",
        help="bootstrap samples of each score (default: 10000)",
    )
    parser.add_argument(
        "--seed", type=_seed, default=0, metavar="N", help="of the bootstrap (default: 0)"
    )
    parser.add_argument(
        "--zoo-view",
        type=Path,
        metavar="DIR",
        help="also link the runs there as RL Zoo's plotting scripts look for them",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    return parser


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = float("nan")
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got {text}")
    return share


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, got {text}")
    return int(text)


def _say(message: str) -> None:
    print(f"snrl.report: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
