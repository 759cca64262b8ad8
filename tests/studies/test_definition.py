"""A study file is read, or refused in one line that says where."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from snrl.runs.config import resolve
from snrl.runs.errors import ConfigError
from snrl.studies.definition import Reference, load_study

Write = Callable[..., Path]


def test_cells_are_all_combinations_resolved_as_a_run_resolves_them(write_study: Write) -> None:
    study = load_study(write_study(tasks=["Pendulum-v1", "Hopper-v5"], seeds=[4, 7]))
    assert study.seeds == (4, 7)
    assert [str(cell) for cell in study.cells] == [
        f"{task}/{algo}/{variant}"
        for task in ("Pendulum-v1", "Hopper-v5")
        for algo in ("sac", "td3")
        for variant in ("plain", "sn")
    ]
    flags = {"env": "Hopper-v5", "seed": 4, "total_timesteps": 1000, "sn": True, "sn_coef": 2}
    assert study.cells[-1].config == resolve("td3", flags)


def test_the_narrower_level_decides(write_study: Write) -> None:
    study = load_study(
        write_study(
            tasks={"Pendulum-v1": {"gamma": 0.3, "tau": 0.3}, "Hopper-v5": None},
            algorithms={
                "sac": {"gamma": 0.2, "tau": 0.2, "batch_size": 2},
                "td3": {"policy_delay": 3},
            },
            variants={"plain": None, "other": {"tau": 0.4, "n_critics": 4}},
            common={"gamma": 0.1, "tau": 0.1, "batch_size": 1, "n_critics": 1, "buffer_size": 9},
            overrides=[
                {"tasks": "Pendulum-v1", "variants": ["other"], "options": {"n_critics": 5}},
                {"algorithms": "sac", "options": {"buffer_size": 10}},
            ],
        )
    )
    names = ("gamma", "tau", "batch_size", "n_critics", "buffer_size")
    chosen = {
        str(cell): tuple(cell.config.as_dict()[name] for name in names) for cell in study.cells
    }
    assert chosen["Pendulum-v1/sac/plain"] == (0.3, 0.3, 2, 1, 10)
    assert chosen["Pendulum-v1/sac/other"] == (0.3, 0.4, 2, 5, 10)
    assert chosen["Pendulum-v1/td3/other"] == (0.3, 0.4, 1, 5, 9)
    assert chosen["Hopper-v5/sac/plain"] == (0.2, 0.2, 2, 1, 10)
    assert chosen["Hopper-v5/td3/other"] == (0.1, 0.4, 1, 4, 9)


def test_null_takes_an_option_back(write_study: Write) -> None:
    variants = {"deep": {"learning_rate": 0.1}, "shipped": {"learning_rate": None}}
    path = write_study(common={"learning_rate": 0.2}, variants=variants, algorithms="sac")
    deep, shipped = load_study(path).cells
    assert deep.config.algorithm["learning_rate"] == 0.1
    # What configs/sac.yaml has for the task.
    assert shipped.config.algorithm["learning_rate"] == 0.001
    assert "learning_rate" not in shipped.options


def test_a_study_written_out_reads_as_the_same_study(write_study: Write, tmp_path: Path) -> None:
    study = load_study(
        write_study(
            "some study.yaml",
            description="What?",
            common={"learning_rate": "lin_1e-3", "net_arch": {"pi": [8], "qf": [9, 9]}},
            overrides=[{"variants": "sn", "options": {"sn_layers": "hidden", "utd": None}}],
            references={"Pendulum-v1": {"low": -1200, "high": -150}},
            baseline="sn",
        )
    )
    assert study.name == "some study"
    assert study.references == {"Pendulum-v1": Reference(-1200, -150)}
    copy = tmp_path / "copy.yaml"
    copy.write_text(yaml.safe_dump(study.as_dict(), sort_keys=False))
    assert load_study(copy) == study


def test_the_first_variant_is_the_baseline_where_none_is_named(write_study: Write) -> None:
    assert load_study(write_study()).baseline == "plain"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"varients": {}}, "unknown key varients: did you mean variants?"),
        ({"total_timesteps": 5}, "unknown key total_timesteps: options of runs stand under common"),
        ({"tasks": None}, "no runs: tasks must be given"),
        ({"tasks": []}, "no runs: tasks must be given"),
        ({"variants": {}}, "no runs: variants must be given"),
        ({"seeds": 0}, "no runs: seeds must be given"),
        ({"seeds": [1, 2, 1]}, "seeds: 1 stands twice"),
        ({"seeds": -1}, "seeds: expected a list of seeds such as [0, 1, 2], or how many, got -1"),
        ({"seeds": ["a"]}, "seeds: expected a list of seeds"),
        ({"seeds": True}, "seeds: expected a list of seeds"),
        ({"tasks": ["A-v0", "A-v0"]}, "tasks: A-v0 stands twice"),
        ({"tasks": [1]}, "tasks: expected names, got 1"),
        ({"tasks": ["a:X-v0", "b:X-v0"]}, "a:X-v0 and b:X-v0 would share their run folders"),
        ({"algorithms": ["sac", "td4"]}, "algorithms: unknown td4: did you mean td3?"),
        ({"variants": ["plain"]}, "variants: expected what is compared: a mapping"),
        ({"variants": {"a/b": {}}}, "variants: 'a/b' cannot name a folder"),
        ({"variants": {"..": {}}}, "variants: '..' cannot name a folder"),
        ({"name": "../x"}, "name: '../x' cannot name a folder"),
        ({"common": {"sn_coeff": 1}}, "common: unknown key sn_coeff: did you mean sn_coef?"),
        ({"common": {"sn_coeff": None}}, "common: unknown key sn_coeff: did you mean sn_coef?"),
        ({"common": {"gamma": 2}}, "common: gamma: expected a number of at least 0 and of at most"),
        ({"common": {"seed": 2}}, "common: seed is set by seeds"),
        ({"variants": {"a": {"env": "X"}}}, "variants, a: env is set by tasks"),
        ({"common": {"policy_delay": 2}}, "policy_delay is an option of td3 alone"),
        ({"common": [1]}, "common: expected a mapping of options to values, got [1]"),
        ({"variants": {"a": {"sn_coef": 2}}}, "Pendulum-v1, sac, variant a: argument --sn-coef ne"),
        ({"variants": {"a": {}, "b": {"sn": False}}}, "variants a and b are the same run on Pend"),
        ({"baseline": "plian"}, "baseline: plian is not in the study: did you mean plain?"),
        ({"references": {"Pendulum-v2": {}}}, "references: Pendulum-v2 is not in the study: did"),
        ({"references": {"Pendulum-v1": {"low": 1}}}, "references, Pendulum-v1: expected two"),
        ({"references": {"Pendulum-v1": {"low": 1, "high": 1}}}, "low below high"),
        ({"overrides": {"tasks": []}}, "overrides: expected a list"),
        ({"overrides": [{"options": {}}]}, "overrides, number 1: expected a mapping with options"),
        ({"overrides": [{"task": "x", "options": {"tau": 1}}]}, "unknown key task: did you mean"),
        (
            {"overrides": [{"variants": "plian", "options": {"tau": 1}}]},
            "overrides, number 1: variants: plian is not in the study: did you mean plain?",
        ),
        (
            {"overrides": [{"algorithms": "sac", "options": {"policy_delay": 1}}]},
            "overrides, number 1: unknown key policy_delay",
        ),
    ],
)
def test_what_is_wrong_is_said(write_study: Write, changed: dict[str, Any], message: str) -> None:
    path = write_study(**changed)
    with pytest.raises(ConfigError) as error:
        load_study(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
