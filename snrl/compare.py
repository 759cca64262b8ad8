"""Run a study and write its report: ``python -m snrl.compare STUDY.yaml``."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from snrl.runs.errors import ConfigError
from snrl.runs.parser import Parser
from snrl.runs.values import number
from snrl.runs.words import counted

if TYPE_CHECKING:
    from snrl.studies.execute.executor import Executor

_BAD_INPUT = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Its arguments; those of the process if None.

    Returns:
        The exit code: 0, 2 for bad input, 1 if runs have failed, 130 or 143 for a study that was
        interrupted by SIGINT or SIGTERM.
    """
    try:
        arguments = _parse(list(sys.argv[1:] if argv is None else argv))
        return _dry_run(arguments) if arguments.dry_run else _compare(arguments)
    except ConfigError as error:
        print(f"snrl.compare: error: {' '.join(str(error).split())}", file=sys.stderr)
        return _BAD_INPUT
    except KeyboardInterrupt:
        print("snrl.compare: interrupted before any run began", file=sys.stderr)
        return 128 + signal.SIGINT


def _dry_run(arguments: argparse.Namespace) -> int:
    from snrl.studies.check import check_runs
    from snrl.studies.definition import load_study
    from snrl.studies.installed import check_installed
    from snrl.studies.overview import overview, timed
    from snrl.studies.plan import Plan

    check_installed("a study", "rich")

    study = load_study(arguments.study)
    check_runs(study)
    plan = Plan(study, _out(arguments, study.name), _for_runs(arguments))
    print(overview(plan, timed(plan), _jobs(arguments)), file=sys.stderr)
    for run in plan.runs:
        print(run.command)
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from snrl.studies.definition import load_study
    from snrl.studies.execute.study import run_study
    from snrl.studies.installed import REPORT, check_installed

    check_installed("a study", "rich")
    if arguments.report:
        check_installed("a report (--no-report leaves it out)", *REPORT)
    study = load_study(arguments.study)
    out = _out(arguments, study.name)
    outcome = run_study(study, out, _executor(arguments), _for_runs(arguments))
    over = f"{counted(outcome.over, 'run')} done"
    if outcome.signal is not None:
        print(
            f"{study.name}: interrupted by {outcome.signal.name} with {over}; "
            "the same command goes on"
        )
        return 128 + outcome.signal
    print(f"{study.name}: {over}, {len(outcome.failed)} failed; in {out}")
    for name, why in outcome.failed.items():
        print(f"  failed {name}: {why}")
    if arguments.report:
        from snrl.report import write_report

        print(f"report: {write_report(out)}")
    return int(bool(outcome.failed))


def _executor(arguments: argparse.Namespace) -> "Executor":
    from snrl.studies.execute.local import LocalExecutor, available_cores
    from snrl.studies.execute.on_ray import RayExecutor

    if arguments.ray is not None:
        if arguments.jobs is not None:
            raise ConfigError("--jobs is for one machine; on Ray the nodes' resources decide")
        return RayExecutor(arguments.ray, arguments.threads, arguments.gpus_per_run)
    if arguments.gpus_per_run:
        raise ConfigError("--gpus-per-run needs --ray, which places runs on GPUs")
    jobs, threads, cores = _jobs(arguments), arguments.threads, available_cores()
    if jobs * threads > cores:
        print(
            f"snrl.compare: warning: {counted(jobs, 'job')} of {counted(threads, 'thread')} share "
            f"{counted(cores, 'core')}",
            file=sys.stderr,
        )
    return LocalExecutor(jobs, threads)


def _jobs(arguments: argparse.Namespace) -> int:
    from snrl.studies.execute.local import available_cores

    jobs: int | None = arguments.jobs
    return jobs or max(1, available_cores() // arguments.threads)


def _out(arguments: argparse.Namespace, name: str) -> Path:
    out: Path = arguments.out or Path("studies", name)
    # Nodes of a cluster have working directories of their own.
    return out if arguments.ray is None else out.resolve()


def _for_runs(arguments: argparse.Namespace) -> tuple[str, ...]:
    words = ["--track"] * arguments.track + ["--no-wandb"] * (not arguments.wandb)
    for name in ("project", "entity"):
        if (value := getattr(arguments, f"wandb_{name}")) is not None:
            words += [f"--wandb-{name}", value]
    if arguments.checkpoint_minutes is not None:
        words += ["--checkpoint-minutes", str(arguments.checkpoint_minutes)]
    return (*words, *["--tensorboard"] * arguments.tensorboard)


def _parse(words: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="python -m snrl.compare",
        description="Run every combination of a study's tasks, algorithms, variants and seeds, one "
        "process each, and write the report. The same command goes on after anything has ended it, "
        "and does not repeat what is done; runs that failed are tried again.",
        epilog="Exit code: 0, 1 if runs have failed, 2 for bad input, 130 or 143 if interrupted.",
    )
    parser.add_argument("study", type=Path, metavar="STUDY.yaml", help="the study file")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="study folder (default: studies/<name>)"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="only print the command line of every run, the plan on stderr",
    )
    parser.add_argument(
        "--no-report", dest="report", action="store_false", help="no report at the end"
    )
    where = parser.add_argument_group("where runs happen")
    where.add_argument(
        "--jobs",
        type=_count,
        metavar="N",
        help="runs at once on this machine (default: as many as the cores have threads for)",
    )
    where.add_argument(
        "--threads", type=_count, default=1, metavar="N", help="threads of each run (default: 1)"
    )
    where.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="on this Ray cluster, or auto for the one that this machine belongs to; all nodes "
        "need snrl and the study folder under the same path",
    )
    where.add_argument(
        "--gpus-per-run",
        type=_share,
        default=0.0,
        metavar="X",
        help="GPUs of each run on Ray; 0.25 lets four runs share one (default: 0)",
    )
    where.add_argument(
        "--checkpoint-minutes",
        type=_minutes,
        metavar="X",
        help="minutes between checkpoints of a run, 0 for none; what a kill costs at most "
        "(default: snrl.run's)",
    )
    record = parser.add_argument_group("records besides the run folders, as of snrl.run")
    modes = record.add_mutually_exclusive_group()
    modes.add_argument("--track", action="store_true", help="send to the W&B server")
    modes.add_argument("--no-wandb", dest="wandb", action="store_false", help="no W&B at all")
    record.add_argument("--wandb-project", metavar="NAME", help="project (default: snrl)")
    record.add_argument("--wandb-entity", metavar="NAME", help="user or team")
    record.add_argument("--tensorboard", action="store_true", help="also TensorBoard files")
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        parser.refuse(unknown)
    return arguments


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, got {text}")
    return int(text)


def _minutes(text: str) -> float:
    try:
        minutes = float(number(low=0).read(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected minutes of at least 0, got {text}") from error
    return minutes


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    # Ray gives away parts of one GPU, or whole ones.
    if not (0 <= share <= 1 or share.is_integer()) or share < 0:
        raise argparse.ArgumentTypeError(f"expected 0 to 1, or a whole number, got {text}")
    return share


if __name__ == "__main__":
    sys.exit(main())
