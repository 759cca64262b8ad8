"""What a run's critic is composed of, from flags and files."""

from pathlib import Path
from typing import Any

import pytest

from snrl.critics import SpectralPolicy
from snrl.critics.stabilizers import describe
from snrl.runs.build import build_model
from snrl.runs.config import resolve
from snrl.runs.envs import make_envs
from snrl.runs.errors import ConfigError
from snrl.runs.folder import opened

SMALL = {"net_arch": ["8", "8"], "buffer_size": "100"}


@pytest.mark.parametrize(
    ("flags", "sn", "critic", "composition"),
    [
        ({}, False, "plain", "plain"),
        ({"sn": True}, True, "plain", "sn"),
        ({"critic": "layer_norm"}, False, "layer_norm", "layer_norm"),
        ({"critic": "dropout+layer_norm", "sn": True}, True, "dropout+layer_norm", None),
        ({"critic": "layer_norm+sn"}, True, "layer_norm", "sn+layer_norm"),
        ({"critic": "sn"}, True, "plain", "sn"),
    ],
)
def test_sn_is_one_stabilizer_among_others(
    flags: dict[str, Any], sn: bool, critic: str, composition: str | None, tmp_path: Path
) -> None:
    config = resolve("sac", flags)
    assert (config.sn, config.critic) == (sn, critic)
    assert config.composition == composition or composition is None
    with opened(tmp_path / "run", config, {}) as folder:
        assert resolve("sac", {}, folder.config) == config


def test_options_reach_the_policy() -> None:
    given = ["dropout.p=0.3", "layer_norm.affine=false"]
    flags = {"critic": "sn+dropout+layer_norm", "critic_options": given, "sn_coef": "2"}
    config = resolve("td3", SMALL | flags)
    env, eval_env = make_envs(config)
    policy: Any = build_model(config, env).policy
    assert isinstance(policy, SpectralPolicy)
    assert describe(policy.stabilizers) == "dropout+layer_norm+sn"
    assert [getattr(x, "p", None) for x in policy.stabilizers] == [0.3, None, None]
    assert policy.stabilizers[1].affine is False
    assert policy.spectral.coef == 2.0
    env.close()
    eval_env.close()


def test_a_text_is_an_option_too() -> None:
    flags = {"critic": "gradient_penalty", "critic_options": ["gradient_penalty.inputs=input"]}
    assert resolve("sac", flags).critic_options == {"gradient_penalty": {"inputs": "input"}}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"critic": "layernorm"}, "expected plain, or names of sn, layer_norm"),
        ({"critic": "plain+sn"}, "expected plain, or names"),
        ({"critic": ""}, "expected plain, or names"),
        ({"critic_options": ["p=1"]}, "options such as dropout.p=0.01"),
        ({"critic_options": ["dropout.p"]}, "options such as dropout.p=0.01"),
        ({"critic": "sn+layer_norm", "sn": False}, "names sn, but sn is false"),
        ({"critic": "layer_norm", "sn_coef": "2"}, "needs --sn"),
    ],
)
def test_a_wrong_critic_is_refused(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve("sac", flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"critic": "layer_norm", "critic_options": ["dropout.p=0.1"]}, "does not name"),
        ({"critic": "dropout", "critic_options": ["dropout.q=0.1"]}, "no option 'q'"),
        ({"critic": "layer_norm+rms_norm"}, "not both"),
        ({"critic": "redq", "critic_options": ["redq.subset=5"]}, "n_critics must be at least 5"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(flags: dict[str, Any], message: str) -> None:
    config = resolve("sac", SMALL | flags)
    env, eval_env = make_envs(config)
    with pytest.raises(ConfigError, match=message):
        build_model(config, env)
    env.close()
    eval_env.close()
