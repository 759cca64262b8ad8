import inspect
from dataclasses import fields
from typing import Any

import pytest
from stable_baselines3 import SAC, TD3
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy

from snrl.critics import SpectralPolicy
from snrl.runs.build import _ACTIVATIONS
from snrl.runs.hyperparameters import GROUPS, LEFT_OUT, options
from snrl.runs.modes import MODES as EXPLAINED
from snrl.spectral.modes import MODES

# Arguments of SB3's that the table's other groups hold.
ELSEWHERE = {"self", "seed", "device"}
# Set by SB3's SAC from its own use_sde, and the policy's positional arguments.
POLICY_ELSEWHERE = {"self", "observation_space", "action_space", "lr_schedule", "use_sde"}


def group(algo: str, name: str) -> dict[str, Any]:
    return {o.name: o.default for o in options(algo).values() if o.group == name}


def defaults(function: object) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    return {p.name: p.default for p in parameters}


@pytest.mark.parametrize(("algo", "algorithm"), [("sac", SAC), ("td3", TD3)])
def test_algorithm_arguments_are_sb3s(algo: str, algorithm: type) -> None:
    theirs = defaults(algorithm.__init__)
    ours = group(algo, "algorithm")
    assert ours.pop("handle_timeout_termination") is True
    assert set(ours) == set(theirs) - ELSEWHERE - set(LEFT_OUT)
    assert ours == {name: theirs[name] for name in ours}


@pytest.mark.parametrize(("algo", "policy"), [("sac", SACPolicy), ("td3", TD3Policy)])
def test_policy_arguments_are_sb3s(algo: str, policy: type) -> None:
    theirs = defaults(policy.__init__)
    ours = group(algo, "policy")
    assert set(ours) == set(theirs) - POLICY_ELSEWHERE - set(LEFT_OUT)
    ours["activation_fn"] = _ACTIVATIONS[ours["activation_fn"]]
    assert ours == {name: theirs[name] for name in ours}


@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_sn_options_are_the_policys(algo: str) -> None:
    theirs = defaults(SpectralPolicy.__init__)
    ours = group(algo, "sn")
    assert ours.pop("sn") is False
    ours["sn_layers"] = tuple(ours["sn_layers"])
    assert ours == {name: theirs[name] for name in theirs if name not in {"self", "args", "kwargs"}}


def test_every_mode_is_explained_as_it_explains_itself() -> None:
    assert list(EXPLAINED.items()) == [(name, mode.summary) for name, mode in MODES.items()]
    text = GROUPS["sn"][1]
    assert all(f"  {name:<15} {mode.summary}" in text for name, mode in MODES.items())
    named = options("sac")["sn_mode_options"].help
    for name, mode in MODES.items():
        for option in fields(mode):
            assert f"{option.name}=" in named, name


def test_nothing_is_left_out_that_does_not_exist() -> None:
    existing = set()
    for function in (SAC.__init__, TD3.__init__, SACPolicy.__init__, TD3Policy.__init__):
        existing |= set(defaults(function))
    assert set(LEFT_OUT) <= existing


@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_defaults_can_be_read(algo: str) -> None:
    for option in options(algo).values():
        if option.default is not None:
            assert option.kind.read(option.default) == option.default
