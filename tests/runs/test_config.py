import ast
import importlib.util
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import yaml

from snrl.runs.config import resolve, shipped_file
from snrl.runs.errors import ConfigError
from snrl.runs.hyperparameters import ALGORITHMS, options


def write(path: Path, **values: Any) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


def test_precedence(tmp_path: Path) -> None:
    """SB3's default < default entry < task entry < --config < flags."""
    assert resolve("td3", {}).algorithm["tau"] == 0.005
    assert resolve("td3", {"env": "Ant-v5"}).noise["noise_type"] == "normal"
    assert resolve("td3", {"env": "Ant-v5"}).total_timesteps == 1_000_000
    assert resolve("td3", {}).total_timesteps == 20_000
    file = write(tmp_path / "c.yaml", total_timesteps=7, gamma=0.9)
    assert resolve("td3", {}, file).total_timesteps == 7
    assert resolve("td3", {}, file).algorithm["gamma"] == 0.9
    assert resolve("td3", {"gamma": "0.8"}, file).algorithm["gamma"] == 0.8


def test_task_of_the_config_file_selects_the_entry(tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", env="Swimmer-v5")
    assert resolve("sac", {}, file).algorithm["gamma"] == 0.999
    assert resolve("sac", {"env": "gymnasium:Swimmer-v5"}).algorithm["gamma"] == 0.999


def test_resolved_configuration_resolves_to_itself(tmp_path: Path) -> None:
    config = resolve(
        "sac", {"sn": True, "sn_layers": ["all"], "train_freq": "2 episode", "seed": "4"}
    )
    assert resolve("sac", {}, write(tmp_path / "c.yaml", **config.as_dict())) == config


def test_utd_sets_the_gradient_steps_and_a_later_word_on_them_wins(tmp_path: Path) -> None:
    config = resolve("sac", {"utd": "4", "train_freq": "8", "n_envs": "2"})
    assert config.algorithm["gradient_steps"] == 64
    file = write(tmp_path / "c.yaml", **config.as_dict())
    assert resolve("sac", {}, file) == config
    other = resolve("sac", {"gradient_steps": "3"}, file)
    assert (other.algorithm["gradient_steps"], other.utd) == (3, None)
    with pytest.raises(ConfigError, match="--utd or --gradient-steps, not both"):
        resolve("sac", {"utd": "4", "gradient_steps": "3"})
    with pytest.raises(ConfigError, match="utd needs train_freq in steps"):
        resolve("sac", {"utd": "4", "train_freq": "2 episode"})


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"sn_coef": ["2"]}, {"sn_coef": 2.0}),
        ({"sn_coef": ["4", "1", "2e4"]}, {"sn_coef": [4.0, 1.0, 20_000]}),
        ({"sn_coef": [4, 0.5, 10]}, {"sn_coef": [4.0, 0.5, 10]}),
        (
            {"sn_mode": "penalty_to_coef", "sn_mode_options": ["strength=1e-4", "exponent=3"]},
            {"sn_mode": "penalty_to_coef", "sn_mode_options": {"strength": 1e-4, "exponent": 3.0}},
        ),
        ({"sn_mode_options": {"detach": True}}, {"sn_mode_options": {"detach": True}}),
        ({"sn_mode_options": ["detach=false"]}, {"sn_mode_options": {"detach": False}}),
        ({"sn_mode_options": {"strength": "1e-4"}}, {"sn_mode_options": {"strength": 1e-4}}),
    ],
)
def test_modes_and_schedules(given: Any, read: Any, tmp_path: Path) -> None:
    config = resolve("td3", {"sn": True} | given)
    assert config.sn_options | read == config.sn_options
    assert resolve("td3", {}, write(tmp_path / "c.yaml", sn=True, **given)) == config
    assert resolve("td3", {}, write(tmp_path / "c.yaml", **config.as_dict())) == config


def test_the_default_task_follows_from_the_algorithm() -> None:
    others = {resolve(algo, {}).env for algo in ALGORITHMS if algo != "dqn"}
    assert others == {"Pendulum-v1"}
    config = resolve("dqn", {})
    assert (config.env, config.total_timesteps, config.algorithm["train_freq"]) == (
        "CartPole-v1",
        50_000,
        256,
    )
    assert (config.noise, config.fast) == ({}, False)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_algorithms_configuration_resolves_to_itself(algo: str, tmp_path: Path) -> None:
    for flags in ({}, {"utd": "2", "net_arch": ["8", "4"], "seed": "3"}):
        config = resolve(algo, flags)
        assert resolve(algo, {}, write(tmp_path / "c.yaml", **config.as_dict())) == config


def test_a_network_for_all_actions_has_but_one_shape() -> None:
    assert resolve("crossq", {"net_arch": ["pi=8", "qf=16"]}).policy["net_arch"]["qf"] == [16]
    with pytest.raises(ConfigError, match="--net-arch: expected positive layer widths"):
        resolve("dqn", {"net_arch": ["pi=8", "qf=16"]})


def test_eval_freq_follows_the_length() -> None:
    assert resolve("sac", {"total_timesteps": 500}).eval_freq == 50
    assert resolve("sac", {"total_timesteps": 5}).eval_freq == 1


def test_sn_options_only_with_sn(tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", sn=True, sn_coef=2)
    assert resolve("sac", {}, file).sn_options["sn_coef"] == 2.0
    assert resolve("sac", {"sn": False}, file).sn_options == {}
    with pytest.raises(ConfigError, match="--sn-coef needs --sn"):
        resolve("sac", {"sn_coef": 2})
    with pytest.raises(ConfigError, match="sn_coef needs sn"):
        resolve("sac", {}, write(file, sn_coef=2))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("algo: td3", "another algorithm than sac"),
        ("learning_rat: 1", "learning_rat: did you mean learning_rate.*allowed: env, total_time"),
        ("policy_delay: 2", "unknown key policy_delay"),
        ("gamma: high", "gamma: expected a number .*'high'"),
        ("gamma: null", "gamma: expected a number"),
        ("use_sde: 1", "use_sde: expected true or false"),
        ("sn_mode: caps", "sn_mode: expected one of normalize, cap, .*, got 'caps'"),
        ("sn_coef: [1, 2]", r"sn_coef: expected a number .*, got \[1, 2\]"),
        ("sn_coef: [1, 2, 0]", "sn_coef: expected a number"),
        ("sn_coef: [1, -2, 10]", "sn_coef: expected a number"),
        ("sn_mode_options: detach", "sn_mode_options: expected options such as detach=true"),
        ("sn_mode_options: {detach: [1]}", "sn_mode_options: expected options"),
        ("sn_mode_options: {detach: maybe}", "sn_mode_options: expected options"),
        ("[1, 2]", "must be a mapping"),
        ("1: 2", "must be a mapping"),
        ("gamma: [", "line 1 is not valid YAML"),
        ("gamma: !!python/name:os.system", "not valid YAML"),
        ("{train_freq: [1, episode], n_envs: 2}", "needs n_envs 1"),
        ("optimize_memory_usage: true", "needs handle_timeout_termination"),
    ],
)
def test_bad_config_files(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        resolve("sac", {}, file)


def test_missing_config_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*No such file"):
        resolve("sac", {}, tmp_path / "none.yaml")


def test_empty_config_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").touch()
    assert resolve("sac", {}, tmp_path / "c.yaml") == resolve("sac", {})


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_shipped_entries_exist_and_differ_from_the_default(algo: str) -> None:
    entries = yaml.safe_load(shipped_file(algo).read_text())
    base = {name: o.default for name, o in options(algo).items()} | entries.pop("default")
    for task, entry in entries.items():
        assert task in gym.registry
        resolve(algo, {"env": task})
        assert all(base[name] != value for name, value in entry.items()), task


def zoo_entries(algo: str) -> dict[str, dict[str, Any]]:
    """RL Zoo's entries as plain values, without what SB3 or Gymnasium decide here."""
    spec = importlib.util.find_spec("rl_zoo3")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    file = Path(spec.submodule_search_locations[0], "hyperparams", f"{algo}.yml")
    entries = yaml.safe_load(file.read_text())
    for entry in entries.values():
        entry.pop("policy")
        entry["total_timesteps"] = entry.pop("n_timesteps")
        entry |= plain(ast.parse(entry.pop("policy_kwargs", "dict()"), mode="eval").body)
    return dict(entries)


def plain(node: ast.expr) -> Any:
    """The value of a literal, or of ``dict(…)`` of them."""
    if isinstance(node, ast.Call):
        return {str(keyword.arg): plain(keyword.value) for keyword in node.keywords}
    return ast.literal_eval(node)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_shipped_values_are_those_of_rl_zoo(algo: str) -> None:
    compared = set()
    zoo = zoo_entries(algo)
    if algo in ("sac", "tqc", "crossq"):
        # The one value that differs on purpose: the default command ends within minutes.
        assert zoo["Pendulum-v1"].pop("total_timesteps") == 20_000
    for task, entry in zoo.items():
        if task not in gym.registry or task in {"CarRacing-v3"}:
            continue
        for version in (task, task.replace("-v4", "-v5")):
            ours = resolve(algo, {"env": version}).as_dict()
            assert ours | entry == ours, version
            compared.add(version)
    assert compared == set(yaml.safe_load(shipped_file(algo).read_text())) - {"default"}
