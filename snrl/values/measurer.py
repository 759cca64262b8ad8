"""One measurement: episodes of the model's policy, and the measures of a set on them."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from torch import Tensor

from snrl.critics.access import online_critic, reads_action
from snrl.values.discrete import DiscreteProbe
from snrl.values.env_generators import capture_envs, install_envs
from snrl.values.environment import EnvOption, own_env
from snrl.values.generators import PrivateGenerators
from snrl.values.probe import Probe, Transitions
from snrl.values.rollouts import Roller, Rollouts, select
from snrl.values.sets import FULL, LIGHT, Measure
from snrl.values.snapshot import BATCH, NotApplicableError, Snapshot
from snrl.values.updates import Updates

# Far from what seeds are in use: training's own start states are no test.
DEFAULT_SEED = 3_000_000
REFERENCE = 256  # states of the reference batch of churn


@dataclass(frozen=True)
class Plan:
    """How much a set does.

    Attributes:
        measures: What is computed.
        steps: Steps of each environment whose states are judged, at most.
        states: States that are kept of them, at least (more if the critic's features are wider).
        tolerance: Weight at most of what a return lacks.
    """

    measures: tuple[Measure, ...]
    steps: int
    states: int
    tolerance: float


PLANS: Mapping[str, Plan] = {
    "light": Plan(LIGHT, steps=1000, states=512, tolerance=0.25),
    "full": Plan(FULL, steps=1000, states=2048, tolerance=0.01),
}


@dataclass(frozen=True)
class Measurement:
    """What was measured at one moment.

    Attributes:
        values: The numbers by their keys, without ``values/``; only those that exist.
        histograms: ``errors``, of the values against the returns, where they could be judged, and
            ``singular_values`` of the weights that the critic applies.
        q: The values at the states that were judged, shape ``(n,)``.
        returns: Their returns; None where they could not be judged.
        rollouts: The episodes.
    """

    values: Mapping[str, float]
    histograms: Mapping[str, Tensor]
    q: np.ndarray
    returns: np.ndarray | None
    rollouts: Rollouts


def probe_of(model: OffPolicyAlgorithm) -> Probe:
    """Choose the probe for a model, by whether its critic reads the action.

    Args:
        model: An SB3 off-policy model.

    Raises:
        ValueError: If the model has no critic of state and action.
    """
    return (Probe if reads_action(online_critic(model)) else DiscreteProbe)(model)


class Measurer:
    """Measures a model, in an environment and with generators of its own; the model stays as it is.

    Args:
        model: An SB3 off-policy model with a critic of state and action.
        env: See :func:`~snrl.values.environment.own_env`.
        measures: ``"light"`` or ``"full"``.
        seed: Of the environment and the generators.
        say: Takes one line for each measure that does not apply, once; a logged warning if None.

    Raises:
        ValueError: If there is no such set, or the model or the environment do not serve.
    """

    def __init__(
        self,
        model: OffPolicyAlgorithm,
        env: EnvOption,
        measures: str = "light",
        seed: int = DEFAULT_SEED,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """Prepare the environment."""
        if measures not in PLANS:
            raise ValueError(f"measures must be one of {', '.join(PLANS)}, got {measures!r}")
        plan = PLANS[measures]
        self.probe = probe_of(model)
        self.say = say or logging.getLogger("snrl.values").warning
        self._measures = plan.measures
        self._generators = PrivateGenerators(seed, self.probe.device)
        self._generator = torch.Generator().manual_seed(seed)
        with self._generators.used():  # A careless task draws where it is made, too.
            self._env = own_env(env, model)
            self._env.seed(seed)
        states = max(plan.states, *self._widths())
        self._roller = Roller(self.probe, self._env, plan.steps, states, plan.tolerance)
        self._reference: Transitions | None = None
        self._said: set[str] = set()

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def state_dict(self) -> dict[str, Any]:
        """What one measurement leaves to the next, for a checkpoint."""
        return {
            "generators": self._generators.state_dict(),
            "generator": self._generator.get_state(),
            "env": capture_envs(self._env),
            "reference": None if self._reference is None else tuple(self._reference),
            "said": sorted(self._said),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where :meth:`state_dict` was called."""
        self._generators.load_state_dict(state["generators"])
        self._generator.set_state(state["generator"])
        install_envs(self._env, state["env"])
        reference = state["reference"]
        self._reference = None if reference is None else Transitions(*reference)
        self._said = set(state["said"])

    def reference(self) -> Transitions:
        """Transitions for churn: of the last episodes, which training never sees."""
        if self._reference is None:
            with self._generators.used(), self.probe.quiet():
                self._reference = self._roller.visit(REFERENCE)
        return self._reference

    def measure(self, updates: Updates | None = None) -> Measurement:
        """Run the episodes and compute the measures.

        Args:
            updates: What the updates that were watched did, if any were.

        Returns:
            The numbers; a measure that does not apply is left out, which is said once.
        """
        with self._generators.used(), self.probe.quiet():
            rollouts = self._roller.roll()
            self._keep_reference(rollouts)
            snapshot = Snapshot(
                self.probe,
                rollouts,
                self.probe.sample_replay(BATCH),
                updates,
                self._generator,
            )
            values: dict[str, float] = {}
            for measure in self._measures:
                try:
                    values |= measure(snapshot)
                except NotApplicableError as error:
                    values |= error.rest
                    self._say_once(str(error))
            return Measurement(
                {name: value for name, value in values.items() if not math.isnan(value)},
                {name: v for name, x in snapshot.histograms.items() if len(v := x[x.isfinite()])},
                snapshot.estimates,
                snapshot.returns,
                rollouts,
            )

    def _widths(self) -> list[int]:
        layers = [[*network.modules()] for network in self.probe.networks]
        linear = [[m for m in each if isinstance(m, torch.nn.Linear)] for each in layers]
        return [0, *(layers[-1].in_features for layers in linear if layers)]

    def _keep_reference(self, rollouts: Rollouts) -> None:
        count = len(rollouts.transitions)
        index = np.linspace(0, count - 1, min(count, REFERENCE)).round().astype(int)
        self._reference = select(rollouts.transitions, index)

    def _say_once(self, reason: str) -> None:
        if reason not in self._said:
            self._said.add(reason)
            self.say(f"left out: {reason}")
