"""Which layers of a network are normalised: counted from the output, as in Gogianu et al. 2021."""

from collections.abc import Sequence
from numbers import Integral

LayerSelection = Sequence[int] | str


def select_layers(layers: LayerSelection, n_layers: int) -> tuple[int, ...]:
    """Resolve a layer selection to positions in a network.

    Args:
        layers: Negative indices (-1 is the output layer), ``"hidden"`` for all but the first and
            the output layer, or ``"all"``.
        n_layers: Number of layers that could be normalised, at least 1.

    Returns:
        Positions counted from the input, 0 to ``n_layers - 1``, in increasing order.

    Raises:
        ValueError: If the selection is malformed, empty, or reaches outside the network.
    """
    has = f"the network has {n_layers} layer{'s' if n_layers != 1 else ''}"
    if isinstance(layers, str):
        if layers not in ("hidden", "all"):
            raise ValueError(
                f'layers must be "hidden", "all" or negative indices from the output, '
                f"got {layers!r}"
            )
        positions = range(n_layers) if layers == "all" else range(1, n_layers - 1)
        if not positions:
            raise ValueError(
                f'layers="hidden" selects none: {has}, and the first and the output layer do not '
                f"count as hidden; use indices from -1 to {-n_layers}"
            )
        return tuple(positions)
    if not isinstance(layers, Sequence) or not layers:
        raise ValueError(
            f'layers must be "hidden", "all" or negative indices from the output, got {layers!r}'
        )
    for index in layers:
        if isinstance(index, bool) or not isinstance(index, Integral) or index >= 0:
            raise ValueError(
                f"layers are counted from the output with negative integers (-1 is the output "
                f"layer), got {index!r} in {tuple(layers)!r}"
            )
        if index < -n_layers:
            raise ValueError(
                f"layer {index} is outside the network: {has}, so indices go from -1 (output) to "
                f"{-n_layers} (first)"
            )
    if len(set(layers)) != len(layers):
        raise ValueError(f"each layer can be named once, got {tuple(layers)!r}")
    return tuple(sorted(n_layers + int(index) for index in layers))
