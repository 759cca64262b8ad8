"""How precise products of float32 are, by torch's own settings."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["products", "rounds_products"]

# From torch 2.9 on each backend has a setting of its own, which the older one for all writes to.
_SETTINGS: tuple[Any, ...] = tuple(
    backend.matmul
    for backend in (torch.backends.mkldnn, torch.backends.cuda)
    if hasattr(torch.backends.mkldnn, "matmul")
)


@contextmanager
def products(precision: str) -> Iterator[None]:
    """Set the precision of products in a ``with`` block, or a function that this decorates.

    It is as it was afterwards. What finds singular vectors asks for ``"highest"``: with operands
    rounded to bfloat16 or TensorFloat32 they are off by 1e-3.

    Args:
        precision: As ``torch.set_float32_matmul_precision`` takes it.
    """
    before = [x.fp32_precision for x in _SETTINGS]
    try:
        old = torch.get_float32_matmul_precision()
    except RuntimeError:  # so it is where somebody has used a backend's own setting
        old = "highest"
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(old)
        for setting, value in zip(_SETTINGS, before, strict=True):
            setting.fp32_precision = value


def rounds_products() -> bool:
    """Tell whether torch has been asked to round what products on the CPU read to bfloat16."""
    if _SETTINGS:
        return bool(_SETTINGS[0].fp32_precision == "bf16") and _is_enabled()
    return torch.get_float32_matmul_precision() == "medium" and _is_enabled()


def _is_enabled() -> bool:
    mkldnn: Any = torch.backends.mkldnn
    # Before 2.9 it cannot be switched off.
    return bool(mkldnn.is_available() and getattr(mkldnn, "enabled", True))
