"""Online critic and target of an actor-critic algorithm, evaluated, stepped and averaged."""

from collections.abc import Sequence
from contextlib import nullcontext
from operator import is_
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from snrl.critics import SpectralCritic
from snrl.critics.stabilizers.redq import HeadSubset
from snrl.critics.stacked import stacked_forward
from snrl.fast.batches import AT_ONCE
from snrl.fast.gpu import adam
from snrl.fast.gpu.staging import Staging
from snrl.fast.steps import parameters_of
from snrl.spectral import SpectralNormalizer, steps
from snrl.spectral.layers import SpectralLayer
from snrl.spectral.refresh import InTorch, Plan


class Critics:
    """The heads of a critic and of its target; what they do here is to be recorded.

    Attributes:
        dtype: What the heads compute in.
        ensemble: Which heads the target asks; None for all.
    """

    def __init__(self, model: Any) -> None:
        """Take the critics of a model for which :func:`why_not` has nothing to say."""
        self._critic, self._target = model.critic, model.critic_target
        self._heads, self._target_heads = (list(x.q_networks) for x in (self._critic, self._target))
        self.dtype: torch.dtype = self._heads[0][0].weight.dtype
        self._params, self._targets = parameters_of(self._critic), parameters_of(self._target)
        self._adam = adam.Adam(self._critic.optimizer)
        self.ensemble: HeadSubset | None = getattr(self._target, "ensemble", None)
        self._subset = None if self.ensemble is None else self.ensemble.subset
        if self._subset is not None:
            shape, device = (AT_ONCE, self._subset), self._params[0].device
            self._asked = torch.zeros(shape, dtype=torch.int64, device=device)
            self._staging = Staging(shape, torch.int64, device)
        self._spectral: SpectralNormalizer | None = getattr(model.policy, "spectral", None)
        self._given = self._found()
        # Kept, because recorded work reads the memory they hold.
        self._plans = self._found_plans()

    def values(self, inputs: Tensor) -> Tensor:
        """Evaluate the critic.

        Args:
            inputs: Observations and actions side by side, shape ``(batch, n)``.

        Returns:
            Shape ``(k, batch)``. Gradients flow to the parameters and to the inputs.
        """
        return stacked_forward(self._heads, inputs).squeeze(-1)

    def first_values(self, inputs: Tensor) -> Tensor:
        """Evaluate the first head, or all of an ensemble for their mean.

        Args:
            inputs: Like those of :meth:`values`.

        Returns:
            Shape ``(1, batch)``, or ``(k, batch)``.
        """
        heads = self._heads[:1] if self.ensemble is None else self._heads
        return stacked_forward(heads, inputs).squeeze(-1)

    def next_values(self, inputs: Tensor, turn: Tensor) -> Tensor:
        """Evaluate the target: the least value of the heads that it asks, shape ``(batch,)``.

        Args:
            inputs: Like those of :meth:`values`.
            turn: Which gradient step of those that were begun, shape ``(1,)``.
        """
        values = stacked_forward(self._target_heads, inputs).squeeze(-1)
        if self._subset is not None:
            values = values.index_select(0, self._asked.index_select(0, turn).squeeze(0))
        return values.amin(0)

    def learn(self, loss: Tensor, tau: float | None) -> None:
        """Step the critic's optimiser, and move the target.

        Args:
            loss: Of the critic.
            tau: How far the target moves; None for not at all.
        """
        self._adam.step(torch.autograd.grad(loss, self._adam.params))
        with nullcontext() if self._spectral is None else self._spectral.together():
            steps.end(self._critic.optimizer, steps.followers(self._critic.optimizer))
            if tau is not None:
                average(self._params, self._targets, tau)
                if isinstance(self._target, SpectralCritic):
                    self._target.refresh()

    def begin(self, count: int) -> None:
        """Bring to the device what so many gradient steps will read; at most ``AT_ONCE``."""
        self._adam.begin()
        if self.ensemble is not None:
            heads = range(len(self._target_heads))
            asked = [self.ensemble.drawn(heads) for _ in range(count)]
            self._staging.take()[:count] = torch.tensor(asked)
            self._staging.send(self._asked[:count])

    def done(self, count: int, *, targets_moved: bool) -> None:
        """Take note of what recorded work has done."""
        self._adam.done(count)
        if targets_moved:
            increment_version(self._targets)
        if self._spectral is not None:
            followed = [self._critic.normalized, self._target.normalized]
            for layers in followed[: 1 + targets_moved]:
                self._spectral.followed(layers)

    def is_current(self) -> bool:
        """Tell whether what recorded work has taken for given is as it was."""
        subset = None if self.ensemble is None else self.ensemble.subset
        return (
            subset == self._subset
            and self._adam.is_current()
            and self._found() == self._given
            and all(map(is_, self._plans, self._found_plans()))
        )

    def _found(self) -> list[object]:
        """Who follows the critic, with which layers, and how."""
        following = steps.followers(self._critic.optimizer)
        found: list[object] = [x for follower, layers in following for x in (follower, *layers)]
        if (spectral := self._spectral) is not None:
            coefficient = spectral.coefficient
            found += [spectral.mode, spectral.n_power_iterations]
            found += [coefficient.start, coefficient.end, coefficient.duration]
        return found

    def _found_plans(self) -> list[Plan | None]:
        if self._spectral is None:
            return []
        return _plans(self._spectral, _followed(self._critic), self._target.normalized)


def why_not(model: Any) -> str | None:
    """Tell what keeps a model's critics from being recorded; None if nothing does.

    Args:
        model: One that is eligible otherwise.
    """
    critic, target = model.critic, model.critic_target
    reason = adam.why_not(critic.optimizer, parameters_of(critic))
    if reason is not None:
        return f"the critic's optimizer is {reason}"
    spectral: Any = getattr(model.policy, "spectral", None)
    following = [follower for follower, _ in steps.followers(critic.optimizer)]
    for follower in following:
        if follower is not spectral:
            return f"a {type(follower).__name__} acts at each step of the critic's optimizer"
    if not following:
        return None
    if not spectral.only_scales:
        return f"sn_mode {spectral.mode.name!r} does more at each step than to follow the weights"
    for plan in _plans(spectral, _followed(critic), target.normalized):
        if plan is None or isinstance(plan, InTorch):
            return "singular vectors are carried by torch, not by the kernel: Triton is missing"
    return None


def average(params: Sequence[Tensor], targets: list[Tensor], tau: float) -> None:
    """Move targets, mutated, towards parameters by the share ``tau``, as SB3 does."""
    torch._foreach_mul_(targets, 1 - tau)
    torch._foreach_add_(targets, [*params], alpha=tau)


def _followed(critic: Any) -> list[SpectralLayer]:
    """The layers that are followed after a step, in the order in which they are."""
    return [layer for _, layers in steps.followers(critic.optimizer) for layer in layers]


def _plans(
    spectral: SpectralNormalizer, own: Sequence[SpectralLayer], targets: Sequence[SpectralLayer]
) -> list[Plan | None]:
    """The calls that follow the critic with its target, and alone."""
    return [spectral.plan(layers) for layers in ([*own, *targets], own) if layers]
