"""A study file in a folder of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

MINIMAL: dict[str, Any] = {
    "tasks": ["Pendulum-v1"],
    "algorithms": ["sac", "td3"],
    "variants": {"plain": None, "sn": {"sn": True, "sn_coef": 2}},
    "seeds": 3,
    "common": {"total_timesteps": 1000},
}


@pytest.fixture
def write_study(tmp_path: Path) -> Callable[..., Path]:
    """Write a study file: the minimal one, with keys changed, or left out where they are None."""

    def write(file: str = "study.yaml", **changed: Any) -> Path:
        content = {k: v for k, v in (MINIMAL | changed).items() if v is not None}
        path = tmp_path / file
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write
