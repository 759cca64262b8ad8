"""Plain values, arrays and tensors in a file that runs no code when it is read."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch

# What torch has to know to read NumPy's arrays and numbers; their place differs by version.
_NUMPY: list[Any] = [
    np.ndarray,
    np.dtype,
    np.empty(0).__reduce__()[0],
    np.float64(0).__reduce__()[0],
    *{type(np.dtype(code)) for code in np.typecodes["All"] if code not in "VO"},
]


def save_state(state: dict[str, Any], path: Path) -> None:
    """Write a state, in torch's format.

    Raises:
        OSError: If it cannot be written; torch itself would raise something else.
    """
    content = io.BytesIO()
    torch.save(state, content)
    path.write_bytes(content.getbuffer())


def load_state(path: Path) -> dict[str, Any]:
    """Read a state onto the CPU.

    Raises:
        pickle.UnpicklingError: If it holds anything else.
    """
    with torch.serialization.safe_globals(_NUMPY):
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state
