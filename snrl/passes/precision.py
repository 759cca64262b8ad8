"""The precision of products, as torch's own setting has it."""

import torch

from snrl.spectral import native

# Entries of a weight along its shorter side from which rounding them pays.
_WORTH = 32


def rounds(dtype: torch.dtype) -> bool:
    """Tell whether products round their operands to bfloat16.

    So they do after ``torch.set_float32_matmul_precision("medium")`` (or, of torch 2.9 and later,
    ``torch.backends.mkldnn.matmul.fp32_precision = "bf16"``), if the processor has an instruction
    for it, as torch does it itself. Sums are float32, and so is everything else.

    Args:
        dtype: Of the operands.
    """
    return dtype is torch.float32 and _is_asked_for() and native.has_bfloat16()


def _is_asked_for() -> bool:
    if hasattr(torch.backends.mkldnn, "matmul"):
        return bool(torch.backends.mkldnn.matmul.fp32_precision == "bf16")
    return torch.get_float32_matmul_precision() == "medium"


def is_worth(m: int, n: int) -> bool:
    """Tell whether products with a weight of shape ``(m, n)`` take less time rounded."""
    return min(m, n) >= _WORTH
