"""Small real runs of snrl, plain SB3 and RL Zoo, made once."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium as gym
import pytest
import yaml
from gymnasium.envs.classic_control import PendulumEnv
from stable_baselines3 import TD3
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor

from snrl.runs.config import resolve
from snrl.runs.train import train

TASKS = ("Swing-v0", "Upright-v0")
VARIANTS = ("plain", "sn")
SEEDS = (3, 4)
TINY = {
    "total_timesteps": 200,
    "learning_starts": 180,
    "eval_freq": 40,
    "n_eval_episodes": 2,
    "net_arch": [8, 8],
    "batch_size": 8,
    "buffer_size": 300,
    "device": "cpu",
}
ZOO = """
Pendulum-v1:
  n_timesteps: 450
  policy: 'MlpPolicy'
  learning_starts: 440
  policy_kwargs: "dict(net_arch=[8, 8])"
"""


@pytest.fixture(scope="session")
def short_tasks() -> Iterator[None]:
    """Two tasks whose episodes are short."""
    for task, steps in zip(TASKS, (20, 30), strict=True):
        gym.register(task, entry_point=PendulumEnv, max_episode_steps=steps)
    yield
    for task in TASKS:
        del gym.registry[task]


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory, short_tasks: None) -> Path:  # noqa: ARG001
    """A study of 2 tasks, 2 variants and 2 seeds, for tests that only read it."""
    folder = tmp_path_factory.mktemp("study")
    content = {
        "name": "tiny",
        "tasks": list(TASKS),
        "algorithms": ["sac"],
        "variants": {"plain": {}, "sn": {"sn": True}},
        "seeds": list(SEEDS),
        "baseline": "plain",
        "references": {task: {"low": -300, "high": 0} for task in TASKS},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(content))
    for task in TASKS:
        for variant in VARIANTS:
            for seed in SEEDS:
                values = "light" if (task, seed) == (TASKS[0], SEEDS[0]) else "off"
                flags = {"env": task, "seed": seed, "sn": variant == "sn", "values": values}
                out = folder / "runs" / task / "sac" / variant / f"seed{seed}"
                train(resolve("sac", TINY | flags), out=out, progress=False)
    return folder


@pytest.fixture(scope="session")
def sb3_runs(tmp_path_factory: pytest.TempPathFactory, short_tasks: None) -> Path:  # noqa: ARG001
    """Two runs of plain SB3, with its logger, its Monitor and its EvalCallback."""
    root = tmp_path_factory.mktemp("sb3")
    for seed in SEEDS:
        folder = root / "td3_wide" / f"seed_{seed}"
        env = Monitor(gym.make(TASKS[0]), str(folder / "monitor.csv"))
        model = TD3("MlpPolicy", env, learning_starts=150, seed=seed, device="cpu")
        model.set_logger(configure(str(folder), ["csv", "json"]))
        evaluate = EvalCallback(
            Monitor(gym.make(TASKS[0])),
            eval_freq=50,
            n_eval_episodes=2,
            log_path=str(folder),
            verbose=0,
        )
        model.learn(160, evaluate)
        model.logger.close()
        env.close()
    return root


@pytest.fixture(scope="session")
def zoo_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of RL Zoo's own trainer."""
    folder = tmp_path_factory.mktemp("zoo")
    (folder / "zoo.yml").write_text(ZOO)
    for seed in SEEDS:
        command = [sys.executable, "-m", "rl_zoo3.train", "--algo", "sac", "--env", "Pendulum-v1"]
        command += ["-P", "-conf", "zoo.yml", "-f", "logs", "--seed", str(seed)]
        command += ["--eval-freq", "150", "--eval-episodes", "2", "--n-eval-envs", "1"]
        command += ["--device", "cpu", "--num-threads", "1"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder / "logs"


@pytest.fixture
def copy_run(study: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copy a run of the study's first task to a folder where it can be damaged."""

    def copy(name: str = "run", variant: str = "plain", seed: int = SEEDS[0]) -> Path:
        source = study / "runs" / TASKS[0] / "sac" / variant / f"seed{seed}"
        return Path(shutil.copytree(source, tmp_path / name))

    return copy
