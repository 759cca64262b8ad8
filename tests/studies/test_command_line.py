"""What a study sets reaches the run: the words of its command line read back as the same values."""

from typing import Any

import pytest

from snrl.run import _parse
from snrl.runs.config import read_options, resolve
from snrl.runs.hyperparameters import ALGORITHMS, options
from snrl.studies.command_line import words

# At least one value of every kind, and of every form that a kind has.
VALUES: list[dict[str, Any]] = [
    {"env": "Hopper-v5", "seed": 3, "device": "cpu", "values": False},
    {"sn": True, "sn_layers": "hidden", "sn_coef": 2, "sn_features": True},
    {"sn": True, "sn_layers": [-2, -3], "sn_coef": [1, 4, "1e3"], "sn_mode": "cap"},
    {"sn": True, "sn_layers": -1, "sn_mode_options": {"detach": True}},
    {"sn": True, "sn_mode": "penalty", "sn_mode_options": {"strength": 1e-05}},
    {"learning_rate": "lin_7.3e-4", "train_freq": "2 episode", "gradient_steps": -1},
    {"learning_rate": 1e-05, "train_freq": 4, "tau": 1, "handle_timeout_termination": False},
    {"net_arch": [400, 300], "activation_fn": "elu", "noise_type": "normal"},
    {"net_arch": {"pi": [64], "qf": [32, 32, 32]}, "fast": False},
    {"ent_coef": "auto_0.1", "target_entropy": -2, "log_std_init": -3.67},
    {"critic": "dropout+sn", "critic_options": {"dropout": {"p": 0.05}}},
    {
        "critic": "simba+gradient_penalty",
        "critic_options": {
            "simba": {"expansion": 2},
            "gradient_penalty": {"inputs": "input", "two_sided": True},
        },
    },
    {"policy_delay": 3, "target_policy_noise": 0},
]


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize("values", VALUES)
def test_words_read_back_as_the_values(algo: str, values: dict[str, Any]) -> None:
    table = options(algo)
    if algo == "dqn" and isinstance(values.get("net_arch"), dict):
        pytest.skip("DQN has one network")
    typed = read_options("", {k: v for k, v in values.items() if k in table}, table)
    parsed = _parse([algo, *words(algo, typed), "--out", "x"])
    given = {name: parsed[name] for name in table if name in parsed}
    assert set(given) == set(typed)
    assert read_options("", given, table) == typed
    assert resolve(algo, given) == resolve(algo, typed)


def test_the_values_cover_every_kind() -> None:
    named = {name for values in VALUES for name in values}
    tables = [options(algo) for algo in ALGORITHMS]
    used = {table[name].kind.read for table in tables for name in named if name in table}
    every = {option.kind.read.__qualname__ for table in tables for option in table.values()}
    assert {read.__qualname__ for read in used} == every
