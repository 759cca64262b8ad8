"""How long runs take: from what has been timed, else a rough guess from their arithmetic."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from snrl.runs.config import RunConfig
from snrl.studies.definition import Cell
from snrl.studies.plan import PlannedRun

# What the guess rests on: experiments/bench_train.csv has about 5.5 ms for a step of SAC with two
# critics of 2×256 and batches of 256, which are 0.57 GFLOP of products, on two cores.
_FLOP_PER_SECOND = 60e9
_ENV_STEP = 0.0002
_START = 4.0
_EVALUATION = 1.0
# Widths where SB3 decides, and an input of a usual size.
_HIDDEN = {"sac": [256, 256], "td3": [400, 300]}
_INPUT = 20


@dataclass
class Rates:
    """Seconds per environment step of each cell.

    Attributes:
        timed: Steps and seconds by cell, of all that has been timed.
    """

    timed: dict[str, tuple[int, float]] = field(default_factory=dict)

    def add(self, cell: Cell, steps: int, seconds: float) -> None:
        """Take in that so many steps of a cell have taken so long."""
        if steps > 0 and seconds > 0:
            had = self.timed.get(str(cell), (0, 0.0))
            self.timed[str(cell)] = (had[0] + steps, had[1] + seconds)

    def seconds(self, cell: Cell, steps: int, known: Iterable[Cell]) -> float:
        """Estimate how long steps of a cell take.

        Args:
            cell: The cell; where it has not been timed, those that have tell how far the guess is
                off, first of the same task and algorithm, else all.
            steps: How many.
            known: The study's cells.
        """
        if (timed := self.timed.get(str(cell))) is not None:
            return steps * timed[1] / timed[0]
        others = [other for other in known if str(other) in self.timed]
        alike = [x for x in others if (x.task, x.algorithm) == (cell.task, cell.algorithm)]
        taken = guessed = 0.0
        for other in alike or others:
            done, seconds = self.timed[str(other)]
            taken += seconds
            guessed += guess(other.config, done)
        return guess(cell.config, steps) * (taken / guessed if guessed else 1.0)


def guess(config: RunConfig, steps: int) -> float:
    """Guess how many seconds steps of a run take on one core, within a factor of a few.

    It counts the products of the updates (critic and actor, forward and backward) and the number
    of evaluations, and knows nothing of the task.
    """
    algorithm = config.algorithm
    train_freq = algorithm["train_freq"]
    per_update = train_freq if isinstance(train_freq, int) else 1
    updates = algorithm["gradient_steps"] / (per_update * config.n_envs)
    updates = updates if updates >= 0 else 1.0
    arch = config.policy["net_arch"] or _HIDDEN.get(config.algo, [256, 256])
    widths = arch if isinstance(arch, dict) else {"pi": arch, "qf": arch}
    actor, critic = (_weights(widths[part]) for part in ("pi", "qf"))
    # Of each critic: target, online forward and back (two products), the actor's loss there and
    # back; of the actor: next actions, its own loss forward and back.
    products = 6 * config.policy.get("n_critics", 2) * critic + 4 * actor
    update = 2 * algorithm["batch_size"] * products / _FLOP_PER_SECOND
    evaluations = steps / config.eval_freq
    return float(_START + steps * (_ENV_STEP + updates * update) + evaluations * _EVALUATION)


def _weights(hidden: list[int]) -> int:
    return sum(before * after for before, after in pairwise([_INPUT, *hidden, 1]))


def total(seconds: list[float], at_once: int) -> float:
    """Return how long jobs of these lengths take, so many at once."""
    return max(sum(seconds) / at_once, max(seconds, default=0.0))


def basis(rates: Rates, runs: Iterable[PlannedRun]) -> str:
    """Say what an estimate of these runs rests on."""
    cells = {str(run.cell) for run in runs}
    timed = cells & set(rates.timed)
    if timed == cells:
        return "from the steps per second of this study's own runs"
    if rates.timed:
        return (
            f"from the steps per second of this study's own runs for {len(timed)} of "
            f"{len(cells)} combinations, scaled by arithmetic for the rest"
        )
    return "a guess from the arithmetic of the updates, as nothing has been timed yet"
