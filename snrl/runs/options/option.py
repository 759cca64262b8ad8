"""What an option is."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from snrl.algorithms import SOURCES
from snrl.runs.values import Kind

ALGORITHMS = tuple(SOURCES)


@dataclass(frozen=True)
class Option:
    """One option of a run.

    Attributes:
        name: Key in YAML; the flag is ``--name`` with dashes.
        group: Key of :data:`snrl.runs.hyperparameters.GROUPS`.
        kind: How a value is read.
        default: The value without any source; None also means that null is accepted.
        help: What it does, one line.
        algorithms: The algorithms that have it.
        defaults: The default of those that have another one.
    """

    name: str
    group: str
    kind: Kind
    default: Any
    help: str
    algorithms: tuple[str, ...] = ALGORITHMS
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def flag(self) -> str:
        """The flag on the command line."""
        return "--" + self.name.replace("_", "-")

    def of(self, algo: str) -> "Option":
        """Return the option as one algorithm has it."""
        return replace(self, default=self.defaults.get(algo, self.default))


def all_but(*algorithms: str) -> tuple[str, ...]:
    """Return the algorithms but for some."""
    return tuple(algo for algo in ALGORITHMS if algo not in algorithms)


# Those with an actor, for continuous actions.
ACTOR_CRITICS = all_but("dqn")
# Those whose actor is rewarded for its entropy.
ENTROPY = ("sac", "tqc", "crossq")
