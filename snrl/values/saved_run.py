"""A finished run, read from its folder: the model, its task, and what was logged of its values."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from snrl.algorithms import SOURCES, NotInstalledError, load_algorithm


class SavedRunError(Exception):
    """The folder does not hold a run that can be measured; the message is one line."""


@dataclass(frozen=True)
class SavedRun:
    """A run's folder, read.

    Attributes:
        path: The folder.
        config: What ``config.yaml`` holds.
        model: What ``model.zip`` holds.
        history: The lines of ``progress.json`` that hold values, in order.
    """

    path: Path
    config: dict[str, Any]
    model: OffPolicyAlgorithm
    history: list[dict[str, Any]]

    @property
    def title(self) -> str:
        """The run in a few words."""
        sn = " with spectral normalisation" if self.config.get("sn") else ""
        steps = f"{self.model.num_timesteps:,} steps"
        return f"{self.config['algo'].upper()}{sn} on {self.config['env']} after {steps}"

    def logged(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Environment steps and values of one key; the first empty where it was never logged."""
        pairs = [
            (line["time/total_timesteps"], line[f"values/{name}"])
            for line in self.history
            if line.get(f"values/{name}") is not None and "time/total_timesteps" in line
        ]
        steps, values = np.array(pairs, dtype=float).reshape(-1, 2).T
        return steps, values


def read_run(path: Path) -> SavedRun:
    """Read a folder of ``python -m snrl.run``.

    Args:
        path: The folder.

    Returns:
        The run, its model on the CPU.

    Raises:
        SavedRunError: If a file is missing or is not what it should be.
    """
    try:
        config = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
        if not isinstance(config, dict) or not isinstance(config.get("env"), str):
            raise ValueError("config.yaml names no task")
        algo = str(config.get("algo"))
        if algo not in SOURCES:
            raise ValueError(f"config.yaml must have algo {', '.join(SOURCES)}, got {algo}")
        progress = (path / "progress.json").read_text(encoding="utf-8")
        # A run that was killed may have left half a line.
        lines = [line for line in progress.split("\n")[:-1] if "values/" in line]
        history = [line for line in map(json.loads, lines) if isinstance(line, dict)]
        return SavedRun(path, config, _load(path / "model.zip", algo), history)
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SavedRunError(f"{path} holds no finished run: {reason}") from error


def _load(path: Path, algo: str) -> OffPolicyAlgorithm:
    if not path.is_file():  # SB3 would go on to look for model.zip.zip.
        raise ValueError("there is no model.zip, which a run writes when it ends")
    try:
        return load_algorithm(algo).load(path, device="cpu")
    except NotInstalledError as error:
        raise ValueError(str(error)) from error
    except Exception as error:  # Pickles of others raise whatever they like.
        raise ValueError(f"model.zip is no {algo} model: {error}") from error
