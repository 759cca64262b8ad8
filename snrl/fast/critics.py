"""Online critic and target of an actor-critic algorithm, stepped and averaged together."""

from array import array
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from stable_baselines3.common.preprocessing import get_action_dim
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.optim import Optimizer

from snrl.critics import SpectralCritic
from snrl.critics.stabilizers.redq import HeadSubset
from snrl.fast.steps import Average, parameters_of, step
from snrl.passes import operations as ops
from snrl.passes.networks import Networks
from snrl.passes.panels import Panels, parts
from snrl.passes.tape import Tape
from snrl.spectral import SpectralNormalizer, native, steps
from snrl.spectral.layers import SpectralLayer
from snrl.spectral.native import structures as c
from snrl.spectral.native.structures import PhaseKind
from snrl.spectral.tracking import MAX_STEPS, RTOL


class Critics:
    """The heads of a critic and of its target, with memory for a batch.

    Attributes:
        obs_dim: Columns of the observation in the heads' input.
        action_dim: Columns of the action behind them.
        dtype: What the heads compute in.
        now: The critic's input.
        next: The target's.
        heads: The networks: those of the critic, and as a second group those of the target.
        ensemble: Which heads the target asks; None for all.
        targets: The target's parameters, by the ``id`` of the critic's.
        squares: Sums of squared differences over panels.
        values: Sums of what the actor climbs over panels.
    """

    def __init__(self, model: Any, batch_size: int) -> None:
        """Take memory for a batch.

        Args:
            model: An SB3 model with ``critic`` and ``critic_target``.
            batch_size: Transitions in a batch.
        """
        critic, target = model.critic, model.critic_target
        groups = [[[*network] for network in x.q_networks] for x in (critic, target)]
        first = critic.q_networks[0][0]
        self.dtype: torch.dtype = first.weight.dtype
        self.action_dim = get_action_dim(model.action_space)
        self.obs_dim = first.in_features - self.action_dim
        self.now = Panels(batch_size, first.in_features, self.dtype)
        self.next = Panels(batch_size, first.in_features, self.dtype)
        self.heads = Networks(groups, batch_size, [self.now, self.next], from_column=self.obs_dim)
        self.squares, self.values = parts(batch_size, self.dtype), parts(batch_size, self.dtype)
        params, target_params = parameters_of(critic), parameters_of(target)
        self._average = Average(params, target_params)
        self.targets = self._average.targets
        self._critic, self._target = critic, target
        self.ensemble: HeadSubset | None = getattr(target, "ensemble", None)
        self._subset = None if self.ensemble is None else self.ensemble.subset
        self.spectral: SpectralNormalizer | None = getattr(model.policy, "spectral", None)
        self._normalized: list[Sequence[SpectralLayer]] = [
            getattr(x, "normalized", ()) for x in (critic, target)
        ]
        self._refresh = c.Refresh()
        self._quotients = self.heads.quotients()
        self._scaled = self._prepare_refresh()

    def compare(
        self,
        slot: int,
        share: float,
        policy: ops.Squash | None = None,
        ent_coef: int | None = None,
    ) -> list[ops.Operation]:
        """Evaluate critic and target, and send the differences back through the critic.

        Args:
            slot: See :func:`~snrl.passes.operations.differences`, like the others.
            share: Likewise.
            policy: Likewise.
            ent_coef: Likewise.
        """
        online, target = self.heads.groups
        return [
            ops.forward(online),
            ops.forward(target),
            ops.differences(
                *(online, target, slot, share, self.squares),
                policy=policy,
                ent_coef=ent_coef,
                subset=self._subset or 0,
            ),
            ops.backward(online, to_input=False),
        ]

    def follow(self, tape: Tape, targets_move: int) -> None:
        """Let the factors of normalised layers follow an optimiser's step, on a tape.

        Args:
            tape: Gets two more phases, if there is a normalised layer and they can do it.
            targets_move: Slot that is 0 in steps in which the target stays.
        """
        if self._scaled:
            self._refresh.slot = targets_move
            tape.add(PhaseKind.REFRESH, self._refresh)
            tape.once([ops.scale(self._scaled)])

    def is_on_tape(self, optimizer: Optimizer) -> bool:
        """Tell whether all that happens around the critic's step is what :meth:`follow` does."""
        if self.spectral is not None:
            self._refresh.n_power_iterations = self.spectral.n_power_iterations
        following = steps.followers(optimizer)
        if not following:
            return self._scaled == []
        (follower, layers), *others = following
        return (
            not others
            and follower is self.spectral
            and self._scaled is not None
            and self._quotients == self.heads.quotients()
            and len(layers) == len(self._normalized[0])
            and self.spectral.only_scales
        )

    def moved(self, *, targets_moved: bool) -> None:
        """Take note of what a tape has done to weights and vectors."""
        if targets_moved:
            increment_version(list(self.targets.values()))
        if self.spectral is not None:
            for layers in self._normalized[: 1 + targets_moved]:
                self.spectral.followed(layers)

    def is_current(self) -> bool:
        """Tell whether what is no parameter is as it was, like :meth:`Networks.is_current`."""
        subset = None if self.ensemble is None else self.ensemble.subset
        return self._subset == subset and self.heads.is_current()

    def step(self, tau: float | None) -> None:
        """Step the critic's optimiser, and move the target, without a tape.

        Args:
            tau: How far the target moves; None for not at all.
        """
        with nullcontext() if self.spectral is None else self.spectral.together():
            step(self._critic.optimizer)
            if tau is not None:
                self._average.move(tau)
                if isinstance(self._target, SpectralCritic):
                    self._target.refresh()

    def drawn(self, count: int) -> Tensor | None:
        """Draw what the target asks in so many steps, shape ``(count, subset)``; None for all."""
        if self.ensemble is None:
            return None
        # The policy may be in evaluation mode: no layer of a fast update has one.
        heads = range(len(self.heads.groups[1]))
        return torch.tensor([self.ensemble.drawn(heads) for _ in range(count)], device="cpu")

    def _prepare_refresh(self) -> list[c.Scaled] | None:
        """Write down what a refresh reads; the layers whose factors follow, None if C cannot."""
        quotients = [x for x in self._quotients if x is not None]
        if len(quotients) < len(self._quotients):
            return None
        if self.spectral is None or not quotients:
            return []
        plans = [self.spectral.plan(layers) for layers in self._normalized]
        tables = [plan.table for plan in plans if isinstance(plan, native.Plan)]
        if len(tables) < len(plans):
            return None
        own, targets = tables
        self._table: array[int] = own + targets
        self._refresh.table = self._table.buffer_info()[0]
        self._refresh.count, self._refresh.targets = len(own) // 8, len(targets) // 8
        self._refresh.rtol, self._refresh.max_steps = RTOL, MAX_STEPS
        return self.heads.scaled(quotients)
