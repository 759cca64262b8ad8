"""The study files and the sweep that are shipped are what the commands take."""

from pathlib import Path

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from snrl.run import _parse
from snrl.runs.config import resolve
from snrl.runs.hyperparameters import options
from snrl.studies.check import check_runs
from snrl.studies.collect import collect
from snrl.studies.definition import load_study

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("**/*.yaml")), ids=str)
def test_a_study_file_is_a_study(path: Path) -> None:
    study = load_study(path)
    check_runs(study)
    assert study.name == path.stem
    assert set(study.references) == set(study.tasks)


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*/*/runs.parquet")), ids=str)
def test_data_that_is_kept_is_of_the_whole_study_that_is_shipped(path: Path) -> None:
    study = load_study(ROOT / "experiments" / f"{path.parent.name}.yaml")
    table = collect(path.parent)
    assert table.study == study.as_dict()
    assert table.notices == ()
    keys = table.runs[["task", "algo", "variant", "seed"]].itertuples(index=False, name=None)
    assert sorted(keys) == sorted(
        (cell.task, cell.algorithm, cell.variant, seed)
        for cell in study.cells
        for seed in study.seeds
    )
    assert set(table.runs["status"]) == {"done"}
    measured = table.evaluations.groupby("run", observed=True)["timesteps"].max()
    assert (table.runs.set_index("run")["total_timesteps"] == measured).all()


@pytest.mark.parametrize("first", [True, False])
def test_what_a_sweep_writes_is_a_run(first: bool) -> None:
    """The words are W&B's own agent's, for one choice of each parameter."""
    sweep = yaml.safe_load((ROOT / "configs" / "sweep.yaml").read_text())
    chosen = {}
    for name, parameter in sweep["parameters"].items():
        choices = parameter.get("values") or [parameter.get("value", parameter.get("min"))]
        chosen[name] = {"value": choices[0 if first else -1]}
    words = create_sweep_command_args({"args": chosen})["args_no_boolean_flags"]
    assert "--sn" in words
    *command, algo, track, macro = sweep["command"]
    assert command == ["${env}", "${interpreter}", "-m", "${program}"]
    assert (sweep["program"], macro) == ("snrl.run", "${args_no_boolean_flags}")
    parsed = _parse([algo, track, *words])
    given = {name: parsed[name] for name in options(algo) if name in parsed}
    assert len(given) == len(chosen)
    config = resolve(algo, given)
    assert parsed["track"]
    assert config.sn
    assert config.sn_options["sn_layers"] == ([-2] if first else "hidden")
    assert config.sn_options["sn_coef"] == (0.5 if first else 4.0)
    assert config.algorithm["learning_rate"] == 0.0001
    assert sweep["metric"]["name"] == "eval/mean_reward"
