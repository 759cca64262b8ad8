"""A network as one node of the graph: what costs a small one on the CPU is not the arithmetic."""

from torch import Tensor, nn

from snrl.critics.hooks import is_hooked
from snrl.spectral.layers import SpectralLinear
from snrl.spectral.products import Link, can_scale, chain


def forward(network: nn.Sequential, x: Tensor) -> Tensor:
    """Evaluate a network as its modules do, in a single node where they allow it.

    They do where each is linear or a rectifier that follows one, on the CPU, and nobody hooked
    one.

    Args:
        network: Not modified.
        x: Shape ``(batch, features)``.

    Returns:
        Shape ``(batch, outputs)``. Gradients flow to every parameter and to ``x``.
    """
    links = _links(network, x)
    # Without links there is no node to make: the features of a head without hidden layers.
    return chain(x, links) if links else network(x)


def _links(network: nn.Sequential, x: Tensor) -> list[Link] | None:
    links: list[Link] = []
    rectifiable = False
    if is_hooked((network, *network)):
        return None
    for module in network:
        if type(module) is nn.ReLU and rectifiable:
            links[-1] = links[-1]._replace(relu=True)
            rectifiable = False
            continue
        link = _link(module, x)
        if link is None:
            return None
        links.append(link)
        rectifiable = True
    return links


def _link(module: nn.Module, x: Tensor) -> Link | None:
    if not isinstance(module, nn.Linear) or not can_scale(x, module.weight, module.bias):
        return None
    if isinstance(module, SpectralLinear):
        return module.link(relu=False)
    # A subclass may have a forward of its own.
    plain = type(module) is nn.Linear
    return Link(module.weight, module.bias, None, relu=False) if plain else None
