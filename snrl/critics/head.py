"""A critic's head taken apart, so that parts can be put between its layers."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import nn


def linear_layers(module: nn.Module) -> list[nn.Linear]:
    """List the linear layers of a network, of any subclass, in order of registration."""
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


@dataclass
class Hidden:
    """A hidden layer and what stands around it, in the order of the forward.

    Attributes:
        before: What its input passes first.
        layer: A linear layer, or a block of several.
        after: What stands between it and its activation.
        activation: None where the layer has its own.
    """

    before: list[nn.Module]
    layer: nn.Module
    after: list[nn.Module] = field(default_factory=list)
    activation: nn.Module | None = None

    def modules(self) -> list[nn.Module]:
        """List everything in the order of the forward."""
        activation = [] if self.activation is None else [self.activation]
        return [*self.before, self.layer, *self.after, *activation]


@dataclass
class Head:
    """One Q-network from its input, the features and the action, to its values.

    Attributes:
        hidden: The hidden layers.
        features: What the last hidden layer's activations pass before the output layer.
        output: The output layer, linear.
        normalized: The layers that SN will take, once they are known.
    """

    hidden: list[Hidden]
    features: list[nn.Module]
    output: nn.Linear
    normalized: list[nn.Module] = field(default_factory=list)

    @classmethod
    def of(cls, network: Iterable[nn.Module]) -> "Head":
        """Take apart a network that SB3's ``create_mlp`` has made.

        Args:
            network: Linear layers, each but the last with an activation directly behind it, and
                anything else before them. Not modified; the parts are its own modules.

        Returns:
            The parts.
        """
        hidden: list[Hidden] = []
        before: list[nn.Module] = []
        for module in network:
            if isinstance(module, nn.Linear):
                hidden.append(Hidden(before, module))
                before = []
            elif hidden and hidden[-1].activation is None:
                hidden[-1].activation = module
            else:
                before.append(module)
        output = hidden.pop()
        assert isinstance(output.layer, nn.Linear)
        return cls(hidden, output.before, output.layer)

    def network(self) -> nn.Sequential:
        """Put the parts together again."""
        modules = [module for hidden in self.hidden for module in hidden.modules()]
        return nn.Sequential(*modules, *self.features, self.output)

    def need_hidden(self, name: str) -> None:
        """Refuse a stabiliser that would do nothing here, so that no comparison is with itself.

        Args:
            name: That of the stabiliser.

        Raises:
            ValueError: If there is no hidden layer.
        """
        if not self.hidden:
            raise ValueError(
                f"critic {name!r} acts on hidden layers, of which net_arch=[] has none (the "
                "default of DQN from images, where the last is the features extractor's); set "
                "net_arch in policy_kwargs"
            )

    @property
    def in_features(self) -> int:
        """Width of the input."""
        first = self.hidden[0].layer if self.hidden else self.output
        assert isinstance(first, nn.Linear)
        return first.in_features

    @property
    def widths(self) -> list[int]:
        """Widths of the hidden layers, while these are linear."""
        return [x.layer.out_features for x in self.hidden if isinstance(x.layer, nn.Linear)]
