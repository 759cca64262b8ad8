import inspect
from dataclasses import fields
from typing import Any

import pytest
from sb3_contrib.crossq.policies import CrossQPolicy
from sb3_contrib.tqc.policies import TQCPolicy
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy

from snrl.algorithms import SOURCES, load_algorithm
from snrl.critics import SpectralPolicy
from snrl.critics.stabilizers import STABILIZERS
from snrl.runs.build import _ACTIVATIONS
from snrl.runs.hyperparameters import ALGORITHMS, GROUPS, LEFT_OUT, options
from snrl.runs.modes import MODES as EXPLAINED
from snrl.runs.stabilizers import STABILIZERS as EXPLAINED_STABILIZERS
from snrl.spectral.modes import MODES

# Arguments of SB3's that the table's other groups hold.
ELSEWHERE = {"self", "seed", "device"}
# Set by SB3's SAC from its own use_sde, and the policy's positional arguments.
POLICY_ELSEWHERE = {"self", "observation_space", "action_space", "lr_schedule", "use_sde"}
POLICIES = {
    "sac": SACPolicy,
    "td3": TD3Policy,
    "ddpg": TD3Policy,
    "tqc": TQCPolicy,
    "crossq": CrossQPolicy,
    "dqn": DQNPolicy,
}


def group(algo: str, name: str) -> dict[str, Any]:
    return {o.name: o.default for o in options(algo).values() if o.group == name}


def defaults(function: object) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    return {p.name: p.default for p in parameters}


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_algorithm_arguments_are_sb3s(algo: str) -> None:
    theirs = defaults(load_algorithm(algo).__init__)
    ours = group(algo, "algorithm")
    assert ours.pop("handle_timeout_termination") is True
    assert set(ours) == set(theirs) - ELSEWHERE - set(LEFT_OUT)
    assert ours == {name: theirs[name] for name in ours}


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_policy_arguments_are_sb3s(algo: str) -> None:
    theirs = defaults(POLICIES[algo].__init__)
    if algo == "ddpg":
        # SB3's DDPG gives TD3's policy one critic unless told otherwise.
        model: Any = load_algorithm(algo)("MlpPolicy", "Pendulum-v1", buffer_size=10)
        theirs["n_critics"] = len(model.critic.q_networks)
    ours = group(algo, "policy")
    assert set(ours) == set(theirs) - POLICY_ELSEWHERE - set(LEFT_OUT)
    ours["activation_fn"] = _ACTIVATIONS[ours["activation_fn"]]
    assert ours == {name: theirs[name] for name in ours}


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_sn_options_are_the_policys(algo: str) -> None:
    theirs = defaults(SpectralPolicy.__init__)
    ours = group(algo, "sn")
    assert ours.pop("sn") is False
    ours["sn_layers"] = tuple(ours["sn_layers"])
    # By themselves these policies are normalised; a run is not.
    assert group(algo, "critic") == {"critic": "plain", "critic_options": theirs["critic_options"]}
    assert theirs.pop("critic") == "sn"
    del theirs["critic_options"]
    assert ours == {name: theirs[name] for name in theirs if name not in {"self", "args", "kwargs"}}


def test_every_stabilizer_is_explained_as_it_explains_itself() -> None:
    explained = [(name, stabilizer.summary) for name, stabilizer in STABILIZERS.items()]
    assert list(EXPLAINED_STABILIZERS.items()) == explained
    assert all(f"  {name:<16} {summary}" in GROUPS["critic"][1] for name, summary in explained)
    named = options("sac")["critic_options"].help
    for name, stabilizer in STABILIZERS.items():
        for option in fields(stabilizer):
            assert f"{option.name}=" in named, name


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
    for algo, policy in POLICIES.items():
        existing |= set(defaults(load_algorithm(algo).__init__)) | set(defaults(policy.__init__))
    assert set(LEFT_OUT) <= existing


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_defaults_can_be_read(algo: str) -> None:
    for option in options(algo).values():
        if option.default is not None:
            assert option.kind.read(option.default) == option.default


def test_the_fast_way_is_offered_where_there_is_one() -> None:
    import snrl

    for algo, source in SOURCES.items():
        assert ("fast" in options(algo)) == hasattr(snrl, source.name)


def test_betas_of_crossq_are_as_the_reason_says() -> None:
    model: Any = load_algorithm("crossq")("MlpPolicy", "Pendulum-v1", buffer_size=10)
    assert model.critic.optimizer.defaults["betas"] == (0.5, 0.999)
    assert "betas of 0.5 and 0.999" in LEFT_OUT["optimizer_kwargs"]
