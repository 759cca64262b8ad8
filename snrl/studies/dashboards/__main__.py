"""Dashboards of one's own: ``python -m snrl.studies.dashboards {wandb,tensorboard} …``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from snrl.runs.errors import ConfigError
from snrl.studies.dashboards.workspace import NAME

_BAD_INPUT = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Its arguments; those of the process if None.

    Returns:
        The exit code: 0, or 2 for what the user can put right.
    """
    arguments = _parser().parse_args(argv)
    try:
        if arguments.kind == "wandb":
            from snrl.studies.dashboards.workspace import save

            address = save(
                arguments.project,
                arguments.entity,
                arguments.name,
                arguments.study,
                arguments.task,
            )
            print(f"workspace: {address}")
        else:
            from snrl.studies.dashboards.tensorboard import write_layout

            folder = write_layout(arguments.folder)
            print(f"layout: {folder}; show it with: tensorboard --logdir {arguments.folder}")
    except ConfigError as error:
        print(f"snrl.studies.dashboards: error: {' '.join(str(error).split())}", file=sys.stderr)
        return _BAD_INPUT
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m snrl.studies.dashboards",
        description="Set up the panels that matter where runs are watched: returns, bias, "
        "singular values, steadiness of the updates.",
        allow_abbrev=False,
    )
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="{wandb,tensorboard}")
    wandb = kinds.add_parser(
        "wandb",
        help="save a workspace in a W&B project of one's own",
        description="Save a workspace in a W&B project of one's own: the runs grouped by task, "
        "algorithm and group, a plot for each measure. Needs `wandb login`.",
        allow_abbrev=False,
    )
    wandb.add_argument("--project", required=True, metavar="NAME", help="W&B project")
    wandb.add_argument("--entity", metavar="NAME", help="user or team (default: who is logged in)")
    wandb.add_argument("--name", default=NAME, metavar="TEXT", help=f"its title (default: {NAME})")
    wandb.add_argument("--study", metavar="NAME", help="only runs of this study")
    wandb.add_argument("--task", metavar="ID", help="only runs on this task")
    tensorboard = kinds.add_parser(
        "tensorboard",
        help="write a layout of TensorBoard's custom scalars",
        description="Write a layout of TensorBoard's custom scalars into a folder of runs that "
        "were made with --tensorboard.",
        allow_abbrev=False,
    )
    tensorboard.add_argument("folder", type=Path, metavar="DIR", help="folder of runs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
