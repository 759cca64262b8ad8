"""An ensemble of which the target asks some: REDQ."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from stable_baselines3.common.policies import BasePolicy, ContinuousCritic
from torch import Tensor, nn

from snrl.critics import access
from snrl.critics.randomness import Drawing
from snrl.critics.stabilizers.base import Place, Stabilizer

HeadT = TypeVar("HeadT")


class HeadSubset(Drawing):
    """Which heads of an ensemble are asked, and what the actor is told.

    It acts in training mode alone: whoever evaluates a critic gets the values of all heads.
    """

    def __init__(self, subset: int) -> None:
        """Take the number of heads that a target asks."""
        super().__init__()
        self.subset = subset

    def asked(self, heads: Sequence[HeadT]) -> Sequence[HeadT]:
        """Give the heads that a target's forward asks."""
        return self.drawn(heads) if self.training else heads

    def drawn(self, heads: Sequence[HeadT]) -> list[HeadT]:
        """Draw heads without replacement, all subsets alike; in their order."""
        order = torch.randperm(len(heads), generator=self.generator(torch.device("cpu")))
        return [heads[i] for i in sorted(order[: self.subset].tolist())]

    def told(self, values: tuple[Tensor, ...], actions: Tensor) -> tuple[Tensor, ...]:
        """Give an actor's loss, whose actions have a gradient, the mean of all heads."""
        if self.training and torch.is_grad_enabled() and actions.requires_grad:
            return (torch.stack(values).mean(0),)
        return values

    def extra_repr(self) -> str:
        """Name the number of heads."""
        return f"subset={self.subset}"


@dataclass(frozen=True)
class REDQ(Stabilizer):
    """In training the target asks ``subset`` heads, drawn at each call, and the actor all of them.

    Stable-Baselines3 takes the minimum of the values it gets: of the target, that of the subset; in
    the actor's loss there is one value, the mean of all heads, in SAC's and, in place of the first
    head, in TD3's and DDPG's. Every head learns from the same target. That is the paper's update
    but for its schedule: there the actor is updated at the last of 20 updates of the critics for a
    step, here with each of ``gradient_steps``. In evaluation mode critic and target give the values
    of all heads.

    Args:
        subset: Heads that the target asks. ``n_critics`` of the policy is their number in all, 10
            in the paper, and has to be given.
    """

    name: ClassVar[str] = "redq"
    summary: ClassVar[str] = (
        "many critics, of which the target asks two at random: for many updates per step"
    )
    source: ClassVar[str] = "Chen et al. 2021, algorithm 1"
    place: ClassVar[Place] = Place.ENSEMBLE
    modal: ClassVar[tuple[type[nn.Module], ...]] = (HeadSubset,)
    subset: int = 2

    def __post_init__(self) -> None:
        """Check the options."""
        if type(self.subset) is not int or self.subset < 1:
            raise ValueError(f"subset must be an integer of at least 1, got {self.subset!r}")

    def why_not(self, policy: BasePolicy) -> str | None:
        """Refuse a target that is no minimum over heads, and too few heads."""
        if not issubclass(getattr(policy, "critic_class", nn.Module), ContinuousCritic):
            return "the target has to be a target critic's least value, as in SAC, TD3 and DDPG"
        critic_kwargs: Any = policy.critic_kwargs
        n_critics = critic_kwargs["n_critics"]
        if n_critics < self.subset:
            return (
                f"n_critics must be at least {self.subset}, of which the target asks "
                f"{self.subset}, got {n_critics}; set n_critics in policy_kwargs"
            )
        return None

    def install(self, policy: BasePolicy) -> None:
        """Put the choice into critic and target."""
        for suffix in ("", "_target"):
            critic: Any = access.critic_of(policy, suffix)
            critic.ensemble = HeadSubset(self.subset).train(critic.training)
