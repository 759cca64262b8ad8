"""The SB3 critic whose heads are composed of stabilisers, and spectrally normalised."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.policies import BaseModel, ContinuousCritic
from torch import Tensor, nn

from snrl.critics import access
from snrl.critics.certificate import head_inputs
from snrl.critics.evaluate import Evaluate
from snrl.critics.head import Head, linear_layers
from snrl.critics.randomness import generator_kept
from snrl.critics.stabilizers import Place, Stabilizer
from snrl.critics.stabilizers.redq import HeadSubset
from snrl.spectral import SpectralLayer, SpectralNormalizer, exact_sigma, native
from snrl.spectral.layers import applied_weight, normalizable_layers
from snrl.spectral.selection import LayerSelection, select_layers


class ComposedCritic(BaseModel):
    """Mixin, placed before an SB3 critic class: heads that are composed, and weights followed.

    Parameters, their names, their order and their initial values are SB3's where nothing is put
    between its layers.

    Attributes:
        normalized: The layers that a :class:`SpectralNormalizer` holds.
        is_target: Whether another critic is averaged into this one.
        ensemble: Which heads are asked in training; None for all.
        evaluate: How its heads are evaluated.
        own_kwargs: The options of the policy that composed it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Build SB3's critic. Nothing is composed or normalised yet."""
        super().__init__(*args, **kwargs)
        self.normalized: tuple[SpectralLayer, ...] = ()
        self.is_target = False
        self.ensemble: HeadSubset | None = None
        self.evaluate = Evaluate()
        self.own_kwargs: Mapping[str, Any] = {}
        self._chosen: list[list[nn.Module]] = []

    def compose(self, stabilizers: Sequence[Stabilizer], layers: LayerSelection | None) -> None:
        """Put stabilisers between the layers of every head; once, before an optimiser is made.

        Args:
            stabilizers: In the order of their places.
            layers: Which layers of each head :meth:`normalize` will take, counted from the output;
                None for none.

        Raises:
            ValueError: If the heads cannot be changed like that, or the selection lies outside.
        """
        self._chosen = []
        # Blocks have layers of their own to draw.
        with generator_kept():
            for network in access.heads(self):
                head = Head.of(network)
                for stabilizer in stabilizers:
                    if stabilizer.place is Place.WEIGHTS and layers is not None:
                        head.normalized = _select(self.counted(head.network()), layers)
                    stabilizer.build(head)
                composed = head.network()
                if layers is not None:
                    chosen = head.normalized or _select(self.counted(composed), layers)
                    self._chosen.append(chosen)
                if [*composed] != [*network]:
                    self._replace(network, composed)

    def counted(self, network: nn.Sequential) -> nn.Module:
        """Give what holds the layers that a selection counts: a head."""
        return network

    def _replace(self, network: nn.Sequential, composed: nn.Sequential) -> None:
        (name,) = (name for name, child in self.named_children() if child is network)
        setattr(self, name, composed)
        ensemble: list[nn.Module] = getattr(self, "q_networks", [])
        ensemble[:] = [composed if x is network else x for x in ensemble]

    def normalize(self, normalizer: SpectralNormalizer, features: bool) -> None:
        """Put the chosen layers of every head, and the extractor, into a normalizer's care.

        Args:
            normalizer: Mutated: it gains the layers.
            features: Whether the linear and convolution layers of the features extractor, too.

        Raises:
            ValueError: If the extractor has no layers.
        """
        # Layer by layer, so that the same layer of all critics lies side by side: one batch.
        chosen = [layer for layers in zip(*self._chosen, strict=True) for layer in layers]
        extractor = self.features_extractor
        assert extractor is not None
        if features:
            found = normalizable_layers(extractor)
            if not found:
                raise ValueError(
                    "sn_features=True needs a features extractor with Linear or Conv layers, got "
                    f"{type(extractor).__name__}"
                )
            chosen += [layer for layer in found if all(layer is not other for other in chosen)]
        networks = [nn.ModuleList([extractor, x]) for x in access.heads(self)]
        self.normalized = normalizer.add(chosen, networks, head_inputs(self))

    def refresh(self) -> None:
        """Carry the singular vectors of this critic's layers over a change of its weights."""
        if self.normalized:
            self.normalized[0].slot.normalizer.refresh(self.normalized)

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Iterate over the parameters, and refresh a target's vectors if that changed its weights.

        SB3 averages the target with ``polyak_update(critic.parameters(),
        critic_target.parameters(), tau)``, writing through ``.data``: no hook and no version
        counter sees it. But it writes while it iterates, and takes the parameters to the last
        one, which is when this looks whether a normalised weight is another than at the first.
        """
        watched = [layer.weight for layer in self.normalized] if self.is_target else []
        before = [_snapshot(weight) for weight in watched]
        yield from super().parameters(recurse)
        if any(
            old != native.fingerprint(weight) if isinstance(old, int) else not old.equal(weight)
            for old, weight in zip(before, watched, strict=True)
        ):
            self.refresh()

    def load_from_vector(self, vector: np.ndarray) -> None:
        """Load the parameters from a 1D array, as SB3 does, and compute the vectors anew."""
        super().load_from_vector(vector)
        if self.normalized:
            self.normalized[0].slot.normalizer.reset(self.normalized)


class SpectralCritic(ComposedCritic, ContinuousCritic):
    """``ContinuousCritic`` with spectrally-normalised layers and all critics in one product.

    Its values are SB3's where nothing is composed, to rounding (SB3 evaluates one critic after the
    other, each layer by itself).
    """

    q_networks: list[nn.Sequential]  # type: ignore[assignment]

    def forward(self, obs: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
        """Evaluate all critics.

        Args:
            obs: Observations as the replay buffer holds them, first dimension the batch.
            actions: Actions scaled to [-1, 1], shape ``(batch, action_dim)``.

        Returns:
            One tensor of shape ``(batch, 1)`` for each critic; of those that an ensemble asks, and
            for an actor's loss their mean: see :class:`HeadSubset`. Gradients flow as in SB3: not
            into a shared features extractor. No state changes but an ensemble's count of draws.
        """
        x = torch.cat([access.features(self, obs), actions], dim=1)
        if self.ensemble is None:
            return self.evaluate(self.q_networks, x)
        asked = self.ensemble.asked(self.q_networks) if self.is_target else self.q_networks
        drawn = len(asked) < len(self.q_networks)
        return self.ensemble.told(self.evaluate(asked, x, drawn=drawn), actions)

    def q1_forward(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Evaluate the first critic only, as TD3 does for the actor's loss.

        With an ensemble that loss is of the mean of all critics.
        """
        if self.ensemble is not None and actions.requires_grad:
            return self(obs, actions)[0]  # type: ignore[no-any-return]
        with torch.no_grad():
            features = self.extract_features(obs, self.features_extractor)
        return self.evaluate(self.q_networks[:1], torch.cat([features, actions], dim=1))[0]


def _select(network: nn.Module, layers: LayerSelection) -> list[nn.Module]:
    found = normalizable_layers(network)
    return [found[position] for position in select_layers(layers, len(found))]


def _snapshot(weight: Tensor) -> int | Tensor:
    return native.fingerprint(weight) if native.takes(weight) else weight.detach().clone()


@torch.no_grad()
def sigma_max(critic: nn.Module) -> float:
    """Compute the largest singular value that a critic's layers apply, by SVD in float64.

    Args:
        critic: Any critic of :mod:`snrl.critics.access`, a QNetwork too. Not modified.

    Returns:
        The largest over the effective weights of all normalised layers, or, in a critic that has
        none, over the last hidden layers (the output layer where there is no other), without the
        scale that a norm between the layers gives them; NaN if a weight is not finite.
    """
    normalized = [layer for layer in critic.modules() if isinstance(layer, SpectralLayer)]
    if normalized:
        weights = [layer.effective_weight().flatten(1) for layer in normalized]
    else:
        heads = [linear_layers(network) for network in access.heads(critic)]
        layers = [head[max(len(head) - 2, 0)] for head in heads]
        applied = [(layer, applied_weight(layer)) for layer in layers]
        weights = [layer.weight if weight is None else weight for layer, weight in applied]
    return torch.stack([exact_sigma(weight) for weight in weights]).max().item()
