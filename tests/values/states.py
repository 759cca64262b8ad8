"""All that a training run has, to be compared with that of another."""

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor


def state(model: Any) -> dict[str, Any]:
    """Everything that training has: weights, optimisers, replay buffer, generators."""
    found: dict[str, Any] = dict(model.get_parameters())
    for name, value in vars(model.replay_buffer).items():
        if isinstance(value, np.ndarray | dict | int):
            found[f"buffer {name}"] = value
    found["torch"] = torch.get_rng_state()
    found["numpy"] = np.random.get_state()[1:]
    found["python"] = random.getstate()
    found["actions"] = model.action_space.np_random.bit_generator.state
    found["last"] = model._last_obs
    found["log alpha"] = getattr(model, "log_ent_coef", None)
    found["updates"] = model._n_updates
    return found


def assert_same(a: Any, b: Any, where: str = "") -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, tuple | list):
        assert len(a) == len(b), where
        for index, pair in enumerate(zip(a, b, strict=True)):
            assert_same(*pair, f"{where}/{index}")
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b, where)
    elif isinstance(a, Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def seeded() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
