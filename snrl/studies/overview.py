"""A plan and the time it will take, as a table for the terminal."""

import json
from collections.abc import Iterator
from io import StringIO

from snrl.runs.words import counted, crossed
from snrl.studies.definition import FEW_SEEDS, Cell
from snrl.studies.estimate import Rates, basis, total
from snrl.studies.execute.view import interval
from snrl.studies.plan import Plan, PlannedRun
from snrl.studies.run_state import RunState, read_state

_WIDTH = 160


def timed(plan: Plan) -> Rates:
    """Return how fast the runs of a study that are over have been."""
    rates = Rates()
    for run in plan.runs:
        state = read_state(run.folder)
        if state.is_over and state.seconds is not None:
            rates.add(run.cell, state.timesteps, state.seconds)
    return rates


def overview(plan: Plan, rates: Rates, at_once: int) -> str:
    """Return what a study will do, in lines.

    Args:
        plan: Its runs.
        rates: What is known of their speed.
        at_once: How many run at once.
    """
    study = plan.study
    states = {str(run): read_state(run.folder) for run in plan.runs}
    left = [run for run in plan.runs if not states[str(run)].is_over]
    steps = sum(run.total_timesteps for run in plan.runs)
    design = crossed(
        task=len(study.tasks),
        algorithm=len(study.algorithms),
        variant=len(study.variants),
        seed=len(study.seeds),
    )
    lines = [
        f"{study.name}: {design} = {counted(len(plan.runs), 'run')}, {steps:,} steps; "
        f"in {plan.out}",
        _table(plan, states),
        *(_variant(plan, name) for name in study.variants),
    ]
    if len(left) < len(plan.runs):
        lines.append(f"{len(plan.runs) - len(left)} of {len(plan.runs)} runs are done")
    if left:
        lines.append(_estimate(plan, left, states, rates, at_once))
    if len(study.seeds) < FEW_SEEDS:
        seeds = counted(len(study.seeds), "seed")
        lines.append(f"note: {seeds}; intervals over fewer than {FEW_SEEDS} say little")
    return "\n".join(lines)


def _estimate(
    plan: Plan, left: list[PlannedRun], states: dict[str, RunState], rates: Rates, at_once: int
) -> str:
    cells = plan.study.cells
    seconds = [
        rates.seconds(run.cell, run.total_timesteps - states[str(run)].timesteps, cells)
        for run in left
    ]
    time = interval(total(seconds, at_once))
    return f"about {time} for {counted(len(left), 'run')}, {at_once} at once: {basis(rates, left)}"


def _table(plan: Plan, states: dict[str, RunState]) -> str:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE)
    for name in ("task", "algorithm", "variants", "seeds"):
        table.add_column(name, overflow="fold")
    for name in ("steps per run", "evaluations", "runs", "done", "steps"):
        table.add_column(name, justify="right", overflow="fold")
    for cells in _groups(plan):
        first = cells[0]
        runs = [run for run in plan.runs if run.cell in cells]
        table.add_row(
            Text(first.task),
            first.algorithm,
            Text(", ".join(cell.variant for cell in cells)),
            _seeds(plan.study.seeds),
            _range([cell.config.total_timesteps for cell in cells]),
            f"every {_range([cell.config.eval_freq for cell in cells])}, "
            f"{_range([cell.config.n_eval_episodes for cell in cells])} episodes",
            str(len(runs)),
            str(sum(states[str(run)].is_over for run in runs)),
            f"{sum(run.total_timesteps for run in runs):,}",
        )
    text = StringIO()
    Console(file=text, width=_WIDTH).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().strip("\n").split("\n"))


def _groups(plan: Plan) -> Iterator[list[Cell]]:
    for task in plan.study.tasks:
        for algorithm in plan.study.algorithms:
            yield [
                cell
                for cell in plan.study.cells
                if (cell.task, cell.algorithm) == (task, algorithm)
            ]


def _variant(plan: Plan, name: str) -> str:
    options = plan.study.variants[name]
    shown = ", ".join(f"{key} {json.dumps(value)}" for key, value in options.items())
    baseline = " (baseline)" if name == plan.study.baseline else ""
    return f"  {name}{baseline}: {shown or 'as the study has it'}"


def _seeds(seeds: tuple[int, ...]) -> str:
    first, last = seeds[0], seeds[-1]
    if len(seeds) > 2 and seeds == tuple(range(first, last + 1)):
        return f"{first} to {last}"
    return ", ".join(map(str, seeds))


def _range(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
