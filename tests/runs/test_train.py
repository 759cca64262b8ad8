import json
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
import yaml
from stable_baselines3 import TD3

import snrl
from snrl.critics import sigma_max
from snrl.runs.config import resolve
from snrl.runs.errors import ConfigError
from snrl.runs.result import RunResult


class Breaking(gym.Wrapper[Any, Any, Any, Any]):
    """Pendulum-v1 that breaks at its 50th step."""

    steps = 0

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(gym.make("Pendulum-v1", **kwargs))

    def step(self, action: Any) -> Any:
        self.steps += 1
        if self.steps == 50:
            raise RuntimeError("the task broke")
        return self.env.step(action)


class Poisoned(gym.Wrapper[Any, Any, Any, Any]):
    """Pendulum-v1 whose 60th reward is not a number."""

    steps = 0

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(gym.make("Pendulum-v1", **kwargs))

    def step(self, action: Any) -> Any:
        observation, reward, *rest = self.env.step(action)
        self.steps += 1
        return observation, float("nan") if self.steps == 60 else reward, *rest


gym.register("Breaking-v0", Breaking, disable_env_checker=True)
gym.register("Poisoned-v0", Poisoned, disable_env_checker=True)


def log(result: RunResult) -> list[dict[str, Any]]:
    """Read progress.json, without what depends on the clock."""
    lines = [json.loads(line) for line in result.folder.progress.read_text().splitlines()]
    timed = ("time/fps", "time/time_elapsed", "values/time_share")
    return [{k: v for k, v in line.items() if k not in timed} for line in lines]


def test_a_precision_of_products_holds_for_the_run_alone(
    runs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    train = snrl.SAC.train

    def watched(self: Any, *args: Any, **kwargs: Any) -> None:
        seen.append(torch.get_float32_matmul_precision())
        train(self, *args, **kwargs)

    monkeypatch.setattr(snrl.SAC, "train", watched)
    short = {"total_timesteps": 785, "values": "off", "n_eval_episodes": 1}
    torch.set_float32_matmul_precision("high")
    for given in ("medium", None):
        runs.train(str(given), runs.config(matmul_precision=given, **short))
        assert torch.get_float32_matmul_precision() == "high"
    half = len(seen) // 2
    assert seen == ["medium"] * half + ["high"] * half
    with pytest.raises(ConfigError, match="--matmul-precision: expected one of highest, high"):
        runs.config(matmul_precision="bf16")


def test_the_folder_holds_the_run_and_nothing_half_made(shared_run: RunResult) -> None:
    names = {path.name for path in shared_run.folder.path.iterdir()}
    assert names == {
        ".lock",
        "config.yaml",
        "status.json",
        "progress.json",
        "evaluations.npz",
        "model.zip",
        "best_model.zip",
    }


def test_the_status_tells_the_end(shared_run: RunResult) -> None:
    status = json.loads(shared_run.folder.status.read_text())
    assert status["status"] == "done"
    assert status["reason"] is None
    assert status["command"] == "the command"
    assert status["timesteps"] == 850
    assert shared_run.evaluation is not None
    evaluation = status["evaluation"]
    assert evaluation["return_mean"] == shared_run.evaluation.return_mean
    assert evaluation["sigma_online"] == pytest.approx(1, abs=1e-3)
    assert evaluation["sigma_target"] == pytest.approx(1, abs=1e-3)


def test_the_final_line(shared_run: RunResult) -> None:
    assert shared_run.evaluation is not None
    mean, std = shared_run.evaluation.return_mean, shared_run.evaluation.return_std
    assert str(shared_run) == (
        f"sac --sn on Pendulum-v1: return {mean:.1f} ± {std:.1f} over 2 episodes after 850 steps; "
        f"largest sigma 1.000 online, 1.000 target; run folder {shared_run.folder.path}"
    )


def test_the_log_has_sb3s_keys_and_ours(shared_run: RunResult) -> None:
    keys = set().union(*log(shared_run))
    assert keys >= {"train/critic_loss", "train/ent_coef", "rollout/ep_rew_mean", "time/episodes"}
    assert keys >= {"eval/mean_reward", "eval/mean_ep_length", "sn/sigma_max"}


def test_the_configuration_reproduces_the_run(runs: Any, shared_run: RunResult) -> None:
    config = resolve("sac", {}, shared_run.folder.config)
    assert config == shared_run.config
    again = runs.train("again", config)
    assert log(again) == log(shared_run)
    for key, values in np.load(shared_run.folder.evaluations).items():
        np.testing.assert_array_equal(np.load(again.folder.evaluations)[key], values)
    other = runs.train("other", resolve("sac", {"seed": 1}, shared_run.folder.config))
    assert log(other) != log(shared_run)


def test_a_plain_run_says_its_sigma_too(runs: Any) -> None:
    result = runs.train("run", runs.config("td3"))
    model = TD3.load(result.folder.model, device="cpu")
    assert result.evaluation is not None
    assert result.evaluation.sigma_online == pytest.approx(sigma_max(model.critic))
    assert result.evaluation.sigma_target == pytest.approx(sigma_max(model.critic_target))
    recorded = log(result)[-1]["sn/sigma_max"]
    assert recorded == max(result.evaluation.sigma_online, result.evaluation.sigma_target)
    assert "sn_coef" not in yaml.safe_load(result.folder.config.read_text())


def test_a_run_that_breaks_says_so(runs: Any) -> None:
    with pytest.raises(RuntimeError, match="the task broke"):
        runs.train("run", runs.config(env="Breaking-v0"))
    status = json.loads((runs.path / "run/status.json").read_text())
    assert status["status"] == "failed"
    assert status["reason"] == "RuntimeError: the task broke"
    assert status["timesteps"] == 49


@pytest.mark.parametrize("stop", [True, False])
def test_a_run_that_diverges_says_so(
    stop: bool, runs: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    config = runs.config(
        "td3",
        env="Poisoned-v0",
        total_timesteps=90,
        learning_starts=80,
        eval_freq=90,
        n_eval_episodes=1,
        stop_on_divergence=stop,
    )
    result = runs.train("run", config)
    assert capsys.readouterr().err.splitlines() == [
        "snrl.run: warning: diverged at step 60: a reward is nan"
    ]
    status = json.loads(result.folder.status.read_text())
    assert status["divergence"] == {"timesteps": 60, "reason": "a reward is nan"}
    assert result.folder.model.exists()
    diverged = [line["values/diverged"] for line in log(result) if "values/diverged" in line]
    assert set(diverged) == {1}
    if stop:
        assert (status["status"], status["timesteps"]) == ("failed", 60)
        assert status["reason"] == "diverged: a reward is nan"
        assert str(result) == (
            "td3 on Poisoned-v0: diverged after 60 of 90 steps: a reward is nan; "
            f"model saved in {result.folder.model}"
        )
    else:
        assert (status["status"], status["timesteps"]) == ("done", 90)


def test_bad_input_leaves_nothing(runs: Any) -> None:
    with pytest.raises(ConfigError, match="outside the network"):
        runs.train("run", runs.config(sn=True, sn_layers=[-7]))
    assert list(runs.path.iterdir()) == []


def test_tensorboard(runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = runs.config(total_timesteps=10, n_eval_episodes=1)
    result = runs.train("run", config, tensorboard=True)
    assert list((result.folder.path / "tensorboard").glob("events.*"))
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ConfigError, match=r'pip install "snrl\[tensorboard\]"'):
        runs.train("other", config, tensorboard=True)
    assert not (runs.path / "other").exists()


def test_default_folder(runs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from snrl.runs.train import train

    monkeypatch.chdir(tmp_path)
    result = train(runs.config(total_timesteps=5, n_eval_episodes=1), progress=False)
    assert result.folder.path == Path("runs/sac/Pendulum-v1/seed0")
