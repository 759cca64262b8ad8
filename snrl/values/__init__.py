"""How good and how steady are the values? Measures, and the callback that takes them."""

from snrl.values.callback import ValueStabilityCallback

__all__ = ["ValueStabilityCallback"]
