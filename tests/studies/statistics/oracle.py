"""rliable, whose import warns of what its own dependencies do."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from rliable import library, metrics

__all__ = ["library", "metrics"]
