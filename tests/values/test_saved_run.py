"""A finished run, measured after the fact: reading it, the page, the command."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import yaml
from gymnasium.envs.classic_control.pendulum import PendulumEnv
from stable_baselines3 import SAC

from snrl.runs.config import resolve
from snrl.runs.train import train
from snrl.values.__main__ import main
from snrl.values.figure import draw, verdict
from snrl.values.keys import KEYS
from snrl.values.measurer import Measurement, Measurer
from snrl.values.saved_run import SavedRunError, read_run

TINY = {
    "total_timesteps": 300,
    "learning_starts": 230,
    "eval_freq": 120,
    "n_eval_episodes": 1,
    "net_arch": [16, 16],
    "batch_size": 16,
    "buffer_size": 400,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    train(resolve("sac", TINY | {"sn": True}), out=path, progress=False)
    return path


@pytest.fixture(scope="module")
def measured(folder: Path) -> Measurement:
    return Measurer(read_run(folder).model, "Pendulum-v1").measure()


def test_reading(folder: Path) -> None:
    run = read_run(folder)
    assert isinstance(run.model, SAC)
    assert run.title == "SAC with spectral normalisation on Pendulum-v1 after 300 steps"
    steps, bias = run.logged("bias_mean")
    assert steps.tolist() == [120, 240, 300]
    assert np.isfinite(bias).all()
    assert run.logged("no such key")[0].size == 0


def test_the_numbers_are_about_those_of_the_run(folder: Path, measured: Measurement) -> None:
    run = read_run(folder)
    for name in ("q_mean", "bias_mean"):
        logged, error = run.logged(name)[1][-1], run.logged("bias_error")[1][-1]
        interval = 4 * np.hypot(error, measured.values["bias_error"])
        assert measured.values[name] == pytest.approx(logged, abs=interval)
    assert measured.values["weight_norm"] == pytest.approx(run.logged("weight_norm")[1][-1])


@pytest.mark.parametrize("name", ["config.yaml", "model.zip", "progress.json"])
def test_a_folder_that_lacks_something(name: str, folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / name).unlink()
    with pytest.raises(SavedRunError, match="holds no finished run"):
        read_run(copy)


def test_half_a_line_is_left_out(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    with (copy / "progress.json").open("a") as file:
        file.write('{"values/bias_mean": 1.')
    assert len(read_run(copy).history) == len(read_run(folder).history)


def test_the_page(folder: Path, measured: Measurement, tmp_path: Path) -> None:
    draw(read_run(folder), measured, tmp_path / "page.svg")
    text = (tmp_path / "page.svg").read_text()
    assert len(text) > 10_000
    # A run that did not measure has a page all the same.
    lines = (folder / "progress.json").read_text().splitlines()
    plain = [{k: v for k, v in json.loads(x).items() if "values/" not in k} for x in lines]
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "progress.json").write_text("".join(json.dumps(x) + "\n" for x in plain))
    draw(read_run(copy), measured, tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("bias", "error", "rank", "words"),
    [
        (5.0, 1.0, 0.9, ["promises 25.0", "gets 20.0", "5 too much (25%)", "ones well"]),
        (-5.0, 1.0, 0.5, ["promises 15.0", "5 too little (25%)", "roughly"]),
        (1.0, 1.0, 0.1, ["no bias that could be told from chance", "hardly"]),
    ],
)
def test_the_verdict(
    bias: float, error: float, rank: float, words: list[str], measured: Measurement
) -> None:
    values = {
        "q_mean": 20 + bias,
        "return_mean": 20.0,
        "bias_mean": bias,
        "bias_error": error,
        "rank_correlation": rank,
    }
    said = verdict(Measurement(values, {}, measured.q, measured.returns, measured.rollouts))
    assert all(word in said for word in words)


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("SAC with spectral normalisation on Pendulum-v1 after 300 steps")
    assert f"page: {folder / 'values.png'}" in out
    assert (folder / "values.png").exists()
    shown = {line.split()[0] for line in out.splitlines() if line.strip()}
    from_training = {"churn", "churn_k", "churn_updates", "td_error_train"}
    from_training |= {"diverged", "time_share"}
    from_training |= {"return_drawdown", "return_fallen_share", "geometry_mixed", "geometry_action"}
    named = {name for key in KEYS for name in key.names if "/" not in name}
    assert named - shown == from_training
    said = [line.split(":")[2].strip() for line in err.splitlines()]
    assert said == ["td_error_train", "churn", "geometry"]


@pytest.mark.parametrize("blocked", ["nothing", "matplotlib"])
def test_bad_input_is_one_line(blocked: str, folder: Path, tmp_path: Path) -> None:
    code = f"import sys; sys.modules[{blocked!r}] = None\n"
    code += "from snrl.values.__main__ import main; sys.exit(main())"
    target = folder if blocked == "matplotlib" else tmp_path
    done = subprocess.run(
        [sys.executable, "-c", code, str(target)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    needs = 'the page needs matplotlib: pip install "snrl[figures]"'
    assert (needs if blocked == "matplotlib" else "holds no finished run") in line


def changed(folder: Path, path: Path, **values: object) -> Path:
    """A copy of the folder, with other values in its configuration."""
    copy = shutil.copytree(folder, path)
    config = yaml.safe_load((copy / "config.yaml").read_text())
    (copy / "config.yaml").write_text(yaml.safe_dump(config | values))
    return copy


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"env": None}, "names no task"),
        ({"env": "Nope-v1"}, "cannot make Nope-v1"),
        ({"env": "MountainCarContinuous-v0"}, "does not fit MountainCarContinuous-v0"),
        ({"algo": "ppo"}, "must have algo sac, td3, ddpg, tqc, crossq, dqn, got ppo"),
        ({"algo": "td3"}, "model.zip is no td3 model"),
    ],
)
def test_a_configuration_of_something_else(
    config: dict[str, object],
    message: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([str(changed(folder, tmp_path / "copy", **config)), "--values", "light"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize("content", [b"", b"no zip"])
def test_a_model_that_is_none(content: bytes, folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "model.zip").write_bytes(content)
    with pytest.raises(SavedRunError, match=r"model\.zip is no sac model"):
        read_run(copy)


def test_a_line_that_is_no_mapping_is_left_out(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    with (copy / "progress.json").open("a") as file:
        file.write('["values/bias_mean"]\n')
    assert len(read_run(copy).history) == len(read_run(folder).history)


@pytest.mark.parametrize("name", [".", "page", "page.xyz", "missing/page.png"])
def test_a_page_that_cannot_be_written(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(folder), "--out", str(tmp_path / name)]) == 2
    out, err = capsys.readouterr()
    assert out == ""  # refused before anything is measured
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("seed", ["-1", "4294967296", "x"])
def test_a_seed_that_is_none(seed: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(folder), f"--seed={seed}"])
    assert f"expected an integer from 0 to 2147483647, got {seed}" in capsys.readouterr().err


class Unrewarded(PendulumEnv):
    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, object]]:
        observation, _, *rest = super().step(action)
        return observation, float("nan"), *rest


gym.register("Unrewarded-v0", Unrewarded, max_episode_steps=20, disable_env_checker=True)


def test_returns_that_are_not_finite(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = changed(folder, tmp_path / "copy", env="Unrewarded-v0")
    assert main([str(copy), "--values", "light"]) == 2
    assert "no page: the returns are not finite" in capsys.readouterr().err
