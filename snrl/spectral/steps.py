"""Around an optimiser's step: whoever follows layers is told of every step that moves them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from torch import Tensor
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)


class Factors(NamedTuple):
    """What an option of the optimiser is multiplied by during a step.

    Attributes:
        option: Its key in a parameter group.
        of: The factor for each parameter that has another than 1, by its ``id``.
    """

    option: str
    of: Mapping[int, float]


class Weighted(Protocol):
    """A layer, or whatever else has a parameter that an optimiser may hold."""

    @property
    def weight(self) -> Tensor:
        """The parameter."""


LayerT = TypeVar("LayerT", bound=Weighted)


class Follower(Protocol[LayerT]):
    """Follows layers: ``SpectralNormalizer``, and what adds a term to a critic's loss.

    Attributes:
        turn: Those that follow the same optimiser are told in the order of this, so that sums of
            gradients are rounded alike in every process. Below 0 are those that add to gradients,
            0 is who reads or scales whole ones, above are those that move weights.
    """

    turn: int

    @property
    def layers(self) -> Sequence[LayerT]:
        """What it follows."""

    def before_step(self, layers: Sequence[LayerT], optimizer: Optimizer) -> Factors | None:
        """Get ready for a step of an optimiser that holds the weights of these layers."""

    def after_step(self, layers: Sequence[LayerT]) -> None:
        """Follow the step."""


Following = Sequence[tuple[Follower[Any], list[Any]]]

# Followers are dropped with whatever holds them.
live: WeakSet[Follower[Any]] = WeakSet()
_original: WeakKeyDictionary[Optimizer, list[dict[str, Any]]] = WeakKeyDictionary()
# The id of the optimiser that was last about to step, if nobody follows it.
_unfollowed: int | None = None


def followers(optimizer: Optimizer) -> Following:
    """List who follows an optimiser, each with the layers whose weights it holds."""
    held = {id(param) for group in optimizer.param_groups for param in group["params"]}
    found = [(x, [layer for layer in x.layers if id(layer.weight) in held]) for x in live]
    return sorted(((x, layers) for x, layers in found if layers), key=lambda one: one[0].turn)


def begin(optimizer: Optimizer, following: Following) -> None:
    """Tell its followers that an optimiser is about to step."""
    # They are still split if the last step raised an error.
    _join_groups(optimizer)
    asked = [follower.before_step(layers, optimizer) for follower, layers in following]
    if factors := [one for one in asked if one is not None]:
        _split_groups(optimizer, factors)


def end(optimizer: Optimizer, following: Following) -> None:
    """Tell its followers that an optimiser has stepped."""
    _join_groups(optimizer)
    for follower, layers in following:
        follower.after_step(layers)


def before_step(optimizer: Optimizer, *_: Any) -> None:
    """Tell followers that an optimiser is about to step: a hook of all optimisers."""
    global _unfollowed
    _join_groups(optimizer)
    following = followers(optimizer)
    _unfollowed = None if following else id(optimizer)
    if following:
        begin(optimizer, following)


def after_step(optimizer: Optimizer, *_: Any) -> None:
    """Tell followers that an optimiser has stepped: a hook of all optimisers."""
    # Another one may have stepped within this one's step.
    if _unfollowed == id(optimizer):
        return
    end(optimizer, followers(optimizer))


def _split_groups(optimizer: Optimizer, factors: Sequence[Factors]) -> None:
    """Give the optimiser, for one step, groups in which all parameters have the same factors.

    Its state is kept by parameter, so it does not notice; schedulers, state dicts and whoever sets
    the learning rate never see these groups.
    """
    split = []
    for group in optimizer.param_groups:
        equal: dict[tuple[float, ...], list[Tensor]] = {}
        for param in group["params"]:
            own = tuple(one.of.get(id(param), 1.0) for one in factors)
            equal.setdefault(own, []).append(param)
        for values, params in equal.items():
            part = {**group, "params": params}
            for one, value in zip(factors, values, strict=True):
                if one.option not in group:
                    raise ValueError(
                        f"{type(optimizer).__name__} has no {one.option} for the mode to multiply"
                    )
                part[one.option] = group[one.option] * value
            split.append(part)
    _original[optimizer] = optimizer.param_groups
    optimizer.param_groups = split


def _join_groups(optimizer: Optimizer) -> None:
    if _original and (groups := _original.pop(optimizer, None)) is not None:
        optimizer.param_groups = groups


register_optimizer_step_pre_hook(before_step)
register_optimizer_step_post_hook(after_step)
