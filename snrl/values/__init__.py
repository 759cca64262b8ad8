"""How good and how steady are the values? Measures, and the callback that takes them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snrl.values.callback import ValueStabilityCallback

__all__ = ["ValueStabilityCallback"]


def __getattr__(name: str) -> Any:
    # The registry of keys is read by reports, which need no torch.
    if name != "ValueStabilityCallback":
        raise AttributeError(f"module 'snrl.values' has no attribute {name!r}")
    from snrl.values.callback import ValueStabilityCallback

    return ValueStabilityCallback
