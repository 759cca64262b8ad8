"""From a study to its runs: the command line and the folder of each."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from snrl.studies.command_line import words
from snrl.studies.definition import Cell, Study


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study.

    Attributes:
        cell: What it is, apart from its seed.
        seed: Its seed.
        folder: Its run folder.
        arguments: Of ``python -m snrl.run``.
    """

    cell: Cell
    seed: int
    folder: Path
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        """Its folder inside ``runs/``, which names it everywhere."""
        return f"{self.cell}/seed{self.seed}"

    @property
    def command(self) -> str:
        """The command line that does this run, and goes on with it."""
        return shlex.join(["python", "-m", "snrl.run", *self.arguments])

    @property
    def total_timesteps(self) -> int:
        """Its length in environment steps."""
        return self.cell.config.total_timesteps


@dataclass(frozen=True)
class Plan:
    """The runs of a study.

    Attributes:
        study: What they belong to.
        out: The study folder.
        extra: Further arguments of every run, which change nothing that it computes.
    """

    study: Study
    out: Path
    extra: tuple[str, ...] = ()

    @cached_property
    def runs(self) -> tuple[PlannedRun, ...]:
        """The runs in the order of their start: all with the first seed come first.

        So a study that is looked at half-way has complete seeds to compare.
        """
        return tuple(
            self._run(cell, seed) for seed in self.study.seeds for cell in self.study.cells
        )

    def _run(self, cell: Cell, seed: int) -> PlannedRun:
        folder = self.out / "runs" / str(cell) / f"seed{seed}"
        options = {"env": cell.task, "seed": seed, **cell.options}
        arguments = (
            cell.algorithm,
            *words(cell.algorithm, options),
            *self._extra(cell),
            *("--out", str(folder), "--resume"),
        )
        return PlannedRun(cell, seed, folder, arguments)

    def _extra(self, cell: Cell) -> Sequence[str]:
        if "--no-wandb" in self.extra:
            return self.extra
        # W&B averages over the runs of a group; what differs within one is the seed.
        group = f"{self.study.name}/{cell}"
        return (*self.extra, "--wandb-group", group, "--wandb-tags", self.study.name)


def changes(before: Study, after: Study) -> list[str]:
    """Tell what keeps runs of one study from being runs of another.

    Args:
        before: The study whose runs may exist.
        after: The study that is to go on with them.

    Returns:
        A line per cell whose runs would be others or are missing; none if ``after`` has all runs
        of ``before``, as they are. What has no influence on runs is not compared.
    """
    lines = []
    cells = {str(cell): cell for cell in after.cells}
    for old in before.cells:
        if (new := cells.get(str(old))) is None:
            lines.append(f"{old} is not in it any more")
            continue
        had, has = (cell.config.as_dict() | {"env": cell.task, "seed": None} for cell in (old, new))
        differing = [
            f"{name} was {had.get(name)}, now {has.get(name)}"
            for name in dict.fromkeys([*had, *has])
            if had.get(name) != has.get(name)
        ]
        if differing:
            lines.append(f"{old}: {', '.join(differing)}")
    if gone := sorted(set(before.seeds) - set(after.seeds)):
        lines.append(f"seeds {', '.join(map(str, gone))} are not in it any more")
    return lines
