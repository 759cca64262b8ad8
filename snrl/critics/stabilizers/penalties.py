"""Terms of the critic's loss that need its batch, each as its gradient before the optimiser's step.

Stable-Baselines3's loss, and what it logs of it, stay as they are. What is done to the gradient
between the loss's ``backward()`` and the step, such as clipping, is not done to the term's.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor, nn

from snrl.critics import access
from snrl.critics.evaluate import by_modules
from snrl.critics.stabilizers.base import Place, Stabilizer
from snrl.critics.stabilizers.term import BatchTerm
from snrl.spectral.modes.base import check_bool, check_number


class _Penalty(Stabilizer):
    place: ClassVar[Place] = Place.LOSS
    through_critic: ClassVar[bool] = True
    turn: ClassVar[int]

    @abstractmethod
    def term(self, critic: nn.Module, *inputs: Any) -> Tensor:
        """Compute the term.

        Args:
            critic: The online critic. Not modified.
            *inputs: Those of its forward: observations, and actions where it reads them.

        Returns:
            A scalar. Gradients flow to all parameters that the critic's own forward trains.
        """

    def install(self, policy: BasePolicy) -> None:
        """Watch the online critic."""
        critic: Any = access.critic_of(policy)
        followers: dict[str, Any] = policy.followers  # type: ignore[assignment]
        followers[self.name] = BatchTerm(self.turn, critic, self.term)


@dataclass(frozen=True)
class GradientPenalty(_Penalty):
    """Adds ``strength · mean (max(0, ‖∇Q‖ - target))²``, summed over the critics, to the loss.

    The mean is over the batch of the loss. The authors' penalty is ``(‖∇Q‖ - target)²``, at points
    between data and samples, of which a critic of actions has none; there is then a pull up to the
    target as well, which nothing in a value function asks for: hence the one-sided default. The
    gradient is that of Q by actions scaled to [-1, 1] and features as the critic reads them, in the
    unit of the values: the target means another thing with another scale of the reward. Where a
    head has several outputs, such as the quantiles of TQC, Q is their mean.

    Args:
        strength: Factor of the term. The authors' 10 is for a discriminator, which has no unit.
        inputs: By what Q is differentiated: ``"action"``, or ``"input"`` for features and action.
        target: The norm up to which nothing is added.
        two_sided: Whether norms below the target are penalised too.
    """

    name: ClassVar[str] = "gradient_penalty"
    summary: ClassVar[str] = (
        "penalise slopes of Q in the action above a target, on the data: a soft bound, at the cost "
        "of a second backward"
    )
    source: ClassVar[str] = "Gulrajani et al. 2017, eq. 3; one-sided: Petzka et al. 2018"
    turn: ClassVar[int] = -1
    strength: float = 1.0
    inputs: Literal["action", "input"] = "action"
    target: float = 1.0
    two_sided: bool = False

    def __post_init__(self) -> None:
        """Check the options."""
        check_number("strength", self.strength, above=0)
        check_number("target", self.target, low=0)
        check_bool("two_sided", self.two_sided)
        if self.inputs not in ("action", "input"):
            raise ValueError(f'inputs must be "action" or "input", got {self.inputs!r}')

    def why_not(self, policy: BasePolicy) -> str | None:
        """Refuse a critic whose outputs are actions."""
        if isinstance(policy.action_space, spaces.Discrete):
            return "it is for a critic that reads the action, and here each action is an output"
        return None

    def term(self, critic: nn.Module, *inputs: Any) -> Tensor:
        """Compute the penalty."""
        observations, actions = inputs
        features = access.features(critic, observations)
        # As wide as what is computed: a replay buffer gives float32 whatever the critic is.
        dtype = torch.promote_types(features.dtype, actions.dtype)
        point = actions.detach().to(dtype).requires_grad_()
        x = torch.cat([features, point], 1)
        if self.inputs == "input":
            point = x
        total = x.new_zeros(())
        for values in by_modules(access.heads(critic), x):
            (slope,) = torch.autograd.grad(values.mean(1).sum(), point, create_graph=True)
            excess = slope.norm(dim=1) - self.target
            total = total + (excess if self.two_sided else excess.relu()).square().mean()
        return self.strength * total


@dataclass(frozen=True)
class FeaturePenalty(_Penalty):
    """Adds ``strength · mean ‖φ‖²``, summed over the critics, to the loss.

    ``φ`` is what a head's output layer reads, the mean is over the batch of the loss. The authors
    regularise activations by their L2 norm; here it is squared, and a sum over the units, so that
    the strength does not depend on what a batch's size makes of a root.

    Args:
        strength: Factor of the term.
    """

    name: ClassVar[str] = "feature_penalty"
    summary: ClassVar[str] = (
        "pull the last hidden activations to 0: against features that grow with the values"
    )
    source: ClassVar[str] = "Merity et al. 2017, activation regularisation, on the last layer"
    turn: ClassVar[int] = -2
    strength: float = 1e-3

    def __post_init__(self) -> None:
        """Check the options."""
        check_number("strength", self.strength, above=0)

    def term(self, critic: nn.Module, *inputs: Any) -> Tensor:
        """Compute the penalty."""
        observations, *actions = inputs
        x = torch.cat([access.features(critic, observations), *actions], 1)
        hidden = by_modules([nn.Sequential(*[*head][:-1]) for head in access.heads(critic)], x)
        squares = [features.square().sum(1).mean() for features in hidden]
        return self.strength * torch.stack(squares).sum()
