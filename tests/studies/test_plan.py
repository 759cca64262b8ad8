"""The runs of a study, and when one study may go on with the runs of another."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snrl.run import _parse
from snrl.runs.config import resolve
from snrl.runs.hyperparameters import options
from snrl.studies.definition import load_study
from snrl.studies.plan import Plan, changes

Write = Callable[..., Path]


def test_a_command_line_is_the_run(write_study: Write) -> None:
    plan = Plan(load_study(write_study(name="a b")), Path("out put"), ("--track",))
    assert len({run.folder for run in plan.runs}) == len(plan.runs) == 12
    for run in plan.runs:
        python, m, module, *arguments = shlex.split(run.command)
        assert (python, m, module) == ("python", "-m", "snrl.run")
        assert tuple(arguments) == run.arguments
        parsed = _parse([word for word in arguments if word != "--resume"])
        given = {name: parsed[name] for name in options(parsed["algo"]) if name in parsed}
        config = resolve(parsed["algo"], given)
        cell = run.cell
        assert config.seed == run.seed
        assert config.as_dict() | {"seed": 0} == cell.config.as_dict() | {"seed": 0}
        path = f"out put/runs/{cell.task}/{cell.algorithm}/{cell.variant}/seed{run.seed}"
        assert run.folder == parsed["out"] == Path(path)
        assert parsed["track"]
        assert parsed["wandb_group"] == f"a b/{cell}"
        assert arguments[-1] == "--resume"


def test_all_with_the_first_seed_come_first(write_study: Write) -> None:
    plan = Plan(load_study(write_study(seeds=[5, 2])), Path("out"))
    assert [run.seed for run in plan.runs] == [5] * 4 + [2] * 4


def test_without_wandb_there_is_no_group(write_study: Write) -> None:
    plan = Plan(load_study(write_study()), Path("out"), ("--no-wandb",))
    assert "--wandb-group" not in plan.runs[0].command


@pytest.mark.parametrize(
    "changed",
    [
        {"seeds": 5},
        {"tasks": ["Hopper-v5", "Pendulum-v1"]},
        {"algorithms": ["td3", "sac"]},
        {"variants": {"new": {"tau": 0.1}, "sn": {"sn": True, "sn_coef": 2}, "plain": {}}},
        {"description": "other", "baseline": "sn", "references": {"Pendulum-v1": [0, 1]}},
        # The same runs, said in another way.
        {"common": {"total_timesteps": "1e3", "sn": False}},
    ],
)
def test_a_study_may_grow(write_study: Write, changed: dict[str, Any]) -> None:
    if "references" in changed:
        changed = changed | {"references": {"Pendulum-v1": {"low": 0, "high": 1}}}
    before, after = load_study(write_study("a.yaml")), load_study(write_study("b.yaml", **changed))
    assert changes(before, after) == []


@pytest.mark.parametrize(
    ("changed", "lines"),
    [
        ({"seeds": [0, 3]}, ["seeds 1, 2 are not in it any more"]),
        (
            {"algorithms": "sac"},
            [f"Pendulum-v1/td3/{name} is not in it any more" for name in ("plain", "sn")],
        ),
        (
            {"variants": {"plain": {}, "sn": {"sn": True}}},
            [f"Pendulum-v1/{algo}/sn: sn_coef was 2.0, now 1.0" for algo in ("sac", "td3")],
        ),
        (
            {"variants": {"plain": {}, "sn": {"tau": 0.5}}, "algorithms": "sac"},
            [
                "Pendulum-v1/sac/sn: sn was True, now False, sn_layers was [-2], now None, "
                "sn_coef was 2.0, now None, sn_mode was normalize, now None, "
                "n_power_iterations was 1, now None, block_size was 4, now None, "
                "sn_features was False, now None, tau was 0.005, now 0.5",
                "Pendulum-v1/td3/plain is not in it any more",
                "Pendulum-v1/td3/sn is not in it any more",
            ],
        ),
    ],
)
def test_other_runs_are_told(write_study: Write, changed: dict[str, Any], lines: list[str]) -> None:
    before, after = load_study(write_study("a.yaml")), load_study(write_study("b.yaml", **changed))
    assert changes(before, after) == lines
