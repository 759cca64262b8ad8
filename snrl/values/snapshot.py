"""What the measures of one moment have in common: states, values, returns, slopes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from snrl.values import measures
from snrl.values.inputs import flatten, head_functions, is_continuous
from snrl.values.probe import Activations, Probe, Transitions
from snrl.values.rollouts import Rollouts, select
from snrl.values.updates import Updates

# Sizes of what is measured on a part of the states.
BATCH = 256
SLOPE_STATES = 256

Values = Mapping[str, float]


class NotApplicableError(Exception):
    """A measure, or a part of it, has no meaning for this model.

    Args:
        reason: Why.
        rest: What could be measured all the same.
    """

    def __init__(self, reason: str, rest: "Values | None" = None) -> None:
        """Keep the rest."""
        super().__init__(reason)
        self.rest: Values = rest or {}


@dataclass
class Snapshot:
    """What the measures of one moment have in common.

    Attributes:
        probe: The model.
        rollouts: States along on-policy episodes, which training never sees.
        replay: Transitions of the replay buffer; None where there are none.
        updates: What the updates that were watched did; None where there were none.
        generator: For what is drawn.
        histograms: Measures leave here what is shown as a histogram.
    """

    probe: Probe
    rollouts: Rollouts
    replay: Transitions | None
    updates: Updates | None
    generator: torch.Generator
    histograms: dict[str, Tensor] = field(default_factory=dict)

    @property
    def states(self) -> Transitions:
        """The transitions of the episodes."""
        return self.rollouts.transitions

    @property
    def batch(self) -> Transitions:
        """What the loss is taken on: of the replay buffer, or of the episodes where it is gone."""
        return self.some(BATCH) if self.replay is None else self.replay

    @cached_property
    def q(self) -> Tensor:
        """Online values, shape ``(heads, n)``."""
        probe, states = self.probe, self.states
        with torch.no_grad():
            return probe.heads(probe.critic, states.observations, states.actions)

    @cached_property
    def q_target(self) -> Tensor | None:
        """Target values, shape ``(heads, n)``; None without target."""
        probe, states = self.probe, self.states
        if probe.critic_target is None:
            return None
        with torch.no_grad():
            return probe.heads(probe.critic_target, states.observations, states.actions)

    @cached_property
    def estimates(self) -> np.ndarray:
        """The values that are judged, shape ``(n,)``, float64."""
        return self.q.double().mean(0).cpu().numpy()

    @cached_property
    def returns(self) -> np.ndarray | None:
        """What they should be; None where too little was seen of it."""
        return self.rollouts.corrected(self.estimates)

    @cached_property
    def activations(self) -> list[Activations]:
        """What the hidden units of each critic give."""
        need_heads(self.probe)
        return self.probe.activations(self.states.observations, self.states.actions)

    @cached_property
    def slopes(self) -> dict[str, Tensor]:
        """Norms of the values' gradients in ``state`` and ``action``, each ``(heads, n)``.

        Without ``state`` where observations are not continuous, without ``action`` where the critic
        does not read it.
        """
        need_heads(self.probe)
        states = self.some(SLOPE_STATES)
        slopes = [
            measures.input_gradient_norms(q, flatten(states.observations), states.actions)
            for q in head_functions(self.probe, states.observations)
        ]
        by_state, by_action = (torch.stack(parts) for parts in zip(*slopes, strict=True))
        continuous = is_continuous(self.probe.model.observation_space)
        found = {"state": by_state} if continuous else {}
        return found | ({"action": by_action} if self.probe.reads_action else {})

    def some(self, count: int) -> Transitions:
        """At most ``count`` of the transitions, evenly spaced."""
        states = self.states
        index = np.linspace(0, len(states) - 1, min(count, len(states))).round().astype(int)
        return select(states, index)


def need_heads(probe: Probe) -> None:
    """Refuse a critic whose networks cannot be told apart."""
    if not probe.networks:
        raise NotApplicableError(
            "slopes, units and features: the critic does not show its networks as q_networks"
        )
