"""Norms by the statistics of a batch, for algorithms in which these mean something: CrossQ."""

from dataclasses import dataclass
from numbers import Integral
from typing import ClassVar

from stable_baselines3.common.policies import BasePolicy
from torch import nn

from snrl.critics.head import Head
from snrl.critics.stabilizers.base import Place, Stabilizer
from snrl.spectral.modes.base import check_number

_NEVER = 2**63 - 1


@dataclass(frozen=True)
class _BatchStatistics(Stabilizer):
    momentum: float = 0.01
    eps: float = 1e-3

    def __post_init__(self) -> None:
        """Check the options."""
        check_number("momentum", self.momentum, above=0)
        check_number("eps", self.eps, above=0)
        if self.momentum > 1:
            raise ValueError(f"momentum must be a number of at most 1, got {self.momentum!r}")

    @property
    def warmup(self) -> int:
        """Updates in which a batch is normalised by its own statistics alone."""
        return _NEVER

    def why_not(self, policy: BasePolicy) -> str | None:
        """Refuse algorithms that evaluate the two halves of an update apart."""
        if getattr(policy, "joint_forward", False):
            return None
        return (
            "it needs an algorithm that evaluates (s, a) and (s', a') in one batch and has no "
            f"target critic, as CrossQ does, got {type(policy).__name__}; there the target is for "
            "ever in evaluation mode, and would normalise actions of the current policy by running "
            "statistics of the replay buffer's, which Stable-Baselines3 moreover copies whole (tau "
            "of 1) where the weights are averaged, and only if their names hold 'running_'"
        )

    def build(self, head: Head) -> None:
        """Put a norm before each layer, in the place of CrossQ's own."""
        for hidden in head.hidden:
            assert isinstance(hidden.layer, nn.Linear)
            self._put(hidden.before, hidden.layer.in_features)
        self._put(head.features, head.output.in_features)

    def _put(self, before: list[nn.Module], width: int) -> None:
        from sb3_contrib.common.torch_layers import BatchRenorm1d

        others = [module for module in before if not isinstance(module, BatchRenorm1d)]
        norm = BatchRenorm1d(width, self.eps, self.momentum, warmup_steps=self.warmup)
        before[:] = [norm, *others]


@dataclass(frozen=True)
class BatchNorm(_BatchStatistics):
    """Batch normalisation before each layer, where CrossQ has its batch renormalisation.

    It is sb3-contrib's ``BatchRenorm1d`` in a warm-up that never ends, because CrossQ sets the mode
    of that class alone: a batch is normalised by its own mean and variance, which unlike in torch's
    ``BatchNorm1d`` is the unbiased one. CrossQ's own critic, ``plain``, is the renormalised one.

    State: running mean and variance and a count of updates, in the state dict, so that training
    goes on from a saved model as it was. In evaluation mode, in which the actor's loss and every
    prediction see the critic, the running ones are used and nothing changes. There is no target
    critic in CrossQ, hence no averaging; algorithms with one are refused.

    Args:
        momentum: Share of a batch in the running statistics.
        eps: Added to the variance.
    """

    name: ClassVar[str] = "batch_norm"
    summary: ClassVar[str] = (
        "normalise each layer's inputs by the batch: with CrossQ alone, in place of its own norm"
    )
    source: ClassVar[str] = "Ioffe & Szegedy 2015; in critics Bhatt et al. 2024 (CrossQ)"
    place: ClassVar[Place] = Place.NORM


@dataclass(frozen=True)
class BatchRenorm(_BatchStatistics):
    """Batch renormalisation before each layer: CrossQ's own, with options.

    After ``warmup_steps`` updates in which it is batch normalisation, a batch is normalised by the
    running statistics, up to a limit (``r`` within 1/3 and 3, ``d`` within 5): sb3-contrib's
    ``BatchRenorm1d``. State and modes are those of :class:`BatchNorm`, the count of updates among
    the state: a saved model does not warm up again.

    Args:
        momentum: Share of a batch in the running statistics.
        eps: Added to the variance.
        warmup_steps: Updates before the running statistics count.
    """

    name: ClassVar[str] = "batch_renorm"
    summary: ClassVar[str] = (
        "normalise each layer's inputs by running statistics of batches: CrossQ's own, with options"
    )
    source: ClassVar[str] = "Ioffe 2017; in critics Bhatt et al. 2024 (CrossQ)"
    place: ClassVar[Place] = Place.NORM
    warmup_steps: int = 100_000

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        steps = self.warmup_steps
        if isinstance(steps, bool) or not isinstance(steps, Integral) or steps < 0:
            raise ValueError(f"warmup_steps must be a whole number of at least 0, got {steps!r}")

    @property
    def warmup(self) -> int:
        """Updates in which a batch is normalised by its own statistics alone."""
        return self.warmup_steps
