"""The look of variants: one colour and dash each, the same on the page and in every figure."""

from collections.abc import Sequence
from typing import NamedTuple

# Okabe & Ito's colours, told apart by most colour-blind readers, less black and yellow, which
# vanish on a dark or a light page; the first is grey, for the baseline.
_COLOURS = ("#7f7f7f", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
# As Plotly names them; Matplotlib's names follow.
_DASHES = ("solid", "dash", "dot", "dashdot")
_MATPLOTLIB = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}


class Style(NamedTuple):
    """How a variant is drawn.

    Attributes:
        colour: ``#rrggbb``.
        dash: ``"solid"``, ``"dash"``, ``"dot"`` or ``"dashdot"``.
    """

    colour: str
    dash: str

    @property
    def linestyle(self) -> str:
        """The dash as Matplotlib names it."""
        return _MATPLOTLIB[self.dash]


def styles(variants: Sequence[str]) -> dict[str, Style]:
    """Give each variant its style: by order, so that the baseline comes first and is grey.

    From the eighth on colours come again with another dash, from the twenty-ninth on styles do.
    """
    return {
        variant: Style(
            _COLOURS[place % len(_COLOURS)], _DASHES[place // len(_COLOURS) % len(_DASHES)]
        )
        for place, variant in enumerate(variants)
    }
