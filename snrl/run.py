"""Train one model: ``python -m snrl.run ALGORITHM [--sn] [--env ID] …``."""

import argparse
import errno
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from snrl.algorithms import SOURCES
from snrl.runs.config import resolve
from snrl.runs.errors import ConfigError
from snrl.runs.hyperparameters import ALGORITHMS, GROUPS, Option, options
from snrl.runs.parser import Parser
from snrl.runs.values import BOOLEAN, number

_BAD_INPUT = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Its arguments; those of the process if None.

    Returns:
        The exit code: 0, 2 for bad input, 1 for a run that failed or was stopped because it
        diverged, 130 or 143 for one that was interrupted by SIGINT or SIGTERM.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(arguments)
    except ConfigError as error:
        print(f"snrl.run: error: {' '.join(str(error).split())}", file=sys.stderr)
        return _BAD_INPUT
    except KeyboardInterrupt:
        print("snrl.run: interrupted before the run began; nothing was written", file=sys.stderr)
        return 128 + signal.SIGINT
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            traceback.print_exc()
            return 1
        print(
            f"snrl.run: error: {error.strerror}: the run stopped; once there is space, the same "
            "command with --resume goes on",
            file=sys.stderr,
        )
        return 1
    except Exception:
        traceback.print_exc()
        return 1


def _run(arguments: list[str]) -> int:
    parsed = _parse(arguments)
    given = {name: parsed.pop(name) for name in options(parsed["algo"]) if name in parsed}
    config = resolve(parsed["algo"], given, parsed["config"])

    # Loading torch takes longer than parsing and refusing bad input may.
    from snrl.runs.tracking import Tracking
    from snrl.runs.train import train

    tracking = Tracking(
        parsed["track"],
        parsed["wandb_project"],
        parsed["wandb_entity"],
        parsed["wandb_group"],
        tuple(parsed["wandb_tags"]),
    )
    result = train(
        config,
        out=parsed["out"],
        resume=parsed["resume"],
        checkpoint_minutes=parsed["checkpoint_minutes"],
        progress=parsed["progress"],
        tensorboard=parsed["tensorboard"],
        tracking=tracking if parsed["wandb"] else None,
        command=shlex.join(["python", "-m", "snrl.run", *arguments]),
    )
    print(result, flush=True)
    if result.signal is not None:
        return 128 + result.signal
    return int(result.stopped)


def _parse(arguments: list[str]) -> dict[str, Any]:
    parser = Parser(
        prog="python -m snrl.run",
        description="Train an off-policy algorithm of SB3, with or without spectrally-normalised "
        "critics.",
        epilog="python -m snrl.run sac --help explains every option.",
    )
    names = ",".join(ALGORITHMS)
    algorithms = parser.add_subparsers(dest="algo", required=True, metavar=f"{{{names}}}")
    parsers = {algo: _add_algorithm(algorithms, algo) for algo in ALGORITHMS}
    if arguments and not arguments[0].startswith("-") and arguments[0] not in ALGORITHMS:
        raise ConfigError(f"unknown algorithm {arguments[0]} (choose from {', '.join(ALGORITHMS)})")
    parsed, unknown = parser.parse_known_args(arguments)
    if unknown:
        parsers[parsed.algo].refuse(unknown)
    return vars(parsed)


def _add_algorithm(algorithms: "argparse._SubParsersAction[Parser]", algo: str) -> Parser:
    source = SOURCES[algo]
    parser = algorithms.add_parser(
        algo,
        usage=f"python -m snrl.run {algo} [--sn] [options]",
        help=source.summary,
        description=f"Train {source.name} of {source.title}: {source.summary}. A value is taken "
        f"from the flags, else from --config, else from the task's entry in configs/{algo}.yaml, "
        f"else from its default entry, else from {source.title}'s default, which is the one shown "
        "here.",
    )
    used = {option.group for option in options(algo).values()}
    groups = {
        key: parser.add_argument_group(title, text.format(algo=algo))
        for key, (title, text) in GROUPS.items()
        if key in used
    }
    for option in options(algo).values():
        _add_option(groups[option.group], option)
    _add_files(parser.add_argument_group("configuration and output"))
    _add_tracking(
        parser.add_argument_group(
            "Weights & Biases",
            "Every run is tracked in offline files, in its folder; no account, no network.",
        )
    )
    return parser


def _add_option(group: "argparse._ArgumentGroup", option: Option) -> None:
    # What is not given stays absent, so that files can decide; values are read in one place,
    # whether they come from a flag or from a file.
    arguments: dict[str, Any] = {"dest": option.name, "default": argparse.SUPPRESS}
    default = option.default
    if isinstance(default, list):
        default = " ".join(str(item) for item in default)
    arguments["help"] = option.help + ("" if default is None else f" (default: {default})")
    if option.kind is BOOLEAN:
        arguments["action"] = argparse.BooleanOptionalAction
    else:
        arguments["metavar"] = option.kind.metavar
        arguments["nargs"] = "+" if option.kind.many else None
    group.add_argument(option.flag, **arguments)


def _add_files(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML of options, or a run's config.yaml"
    )
    group.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="run folder (default: runs/<algo>[-<critic>]/<env>/seed<seed>, numbered if taken)",
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in that folder (not numbered then), if there is one and it has "
        "not come to its end; the same command can be given again and again",
    )
    group.add_argument(
        "--checkpoint-minutes",
        type=_minutes,
        default=5.0,
        metavar="X",
        help="minutes between checkpoints in the run folder, 0 for none; one is written too when "
        "the run is interrupted (default: 5)",
    )
    group.add_argument(
        "--no-progress", dest="progress", action="store_false", help="no progress on stderr"
    )
    group.add_argument(
        "--tensorboard", action="store_true", help="also write TensorBoard files there"
    )


def _minutes(word: str) -> float:
    kind = number(low=0)
    try:
        return float(kind.read(word))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected {kind.expects}, got {word}") from error


def _add_tracking(group: "argparse._ArgumentGroup") -> None:
    modes = group.add_mutually_exclusive_group()
    modes.add_argument("--track", action="store_true", help="send to the W&B server")
    modes.add_argument("--no-wandb", dest="wandb", action="store_false", help="no W&B at all")
    group.add_argument("--wandb-project", metavar="NAME", help="project (default: snrl)")
    group.add_argument("--wandb-entity", metavar="NAME", help="user or team")
    group.add_argument("--wandb-group", metavar="NAME", help="group of runs")
    group.add_argument("--wandb-tags", metavar="TAG", nargs="+", default=[], help="tags")


def _end_process(code: int) -> NoReturn:
    """End the process; W&B's exit hooks would wait for ever where W&B hangs."""
    tracking = sys.modules.get("snrl.runs.tracking")
    if tracking is not None and tracking.is_unfinished():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    _end_process(main())
