"""The command as people use it: real processes where that matters, else its main function."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import yaml
from stable_baselines3 import SAC, TD3

from snrl.algorithms import load_algorithm
from snrl.critics.access import heads, online_critic, target_critic
from snrl.run import main
from snrl.runs.hyperparameters import ALGORITHMS, GROUPS, options
from snrl.runs.modes import MODES
from snrl.spectral.native.build import cache_folder
from snrl.values.saved_run import read_run

TINY = [
    *("--learning-starts", "230", "--batch-size", "16", "--buffer-size", "1000"),
    *("--net-arch", "16", "16", "--n-eval-episodes", "2", "--device", "cpu"),
]
COMMAND = [sys.executable, "-m", "snrl.run"]
CACHE = cache_folder()


@pytest.fixture(autouse=True)
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    # Nobody's credentials, and nothing written to anybody's home.
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SNRL_CACHE_DIR", str(CACHE))
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    return tmp_path


def files(path: Path) -> set[str]:
    return {file.name for file in path.iterdir()}


def tracked(run: Path) -> bytes:
    """What W&B stored of a run, raw; tests of the tracking itself read it properly."""
    (file,) = run.glob("wandb/offline-run-*/run-*.wandb")
    return file.read_bytes()


@pytest.mark.parametrize("sn", [[], ["--sn"]])
@pytest.mark.parametrize(("algo", "algorithm"), [("sac", SAC), ("td3", TD3)])
def test_a_run(
    algo: str, algorithm: type, sn: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [algo, *sn, *TINY, "--total-timesteps", "260", "--eval-freq", "100", "--no-wandb"]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    folder = Path(f"runs/{algo}{'-sn' if sn else ''}/Pendulum-v1/seed0")
    (line,) = out.splitlines()
    assert line.startswith(f"{' '.join([algo, *sn])} on Pendulum-v1: return -")
    assert line.endswith(f"run folder {folder}")
    # Where stderr is no terminal: a line at each evaluation but the last.
    assert [text.split()[0] for text in err.splitlines()] == ["100/260", "200/260"]
    algorithm.load(folder / "model.zip", device="cpu")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["algo"] == algo
    assert config["net_arch"] == [16, 16]


@pytest.mark.parametrize("algo", ["ddpg", "tqc", "crossq", "dqn"])
def test_a_run_of_the_other_algorithms(
    algo: str, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--train-freq", "1", "--gradient-steps", "1"] if algo == "dqn" else []
    arguments = [algo, *TINY, *more, "--total-timesteps", "260", "--eval-freq", "200"]
    assert main([*arguments, "--no-progress", "--out", "run"]) == 0
    out, _ = capsys.readouterr()
    (line,) = out.splitlines()
    task = "CartPole-v1" if algo == "dqn" else "Pendulum-v1"
    assert line.startswith(f"{algo} on {task}: return ")
    assert line.endswith("run folder run")

    # The last evaluation is of the saved model, and its sigmas are the SVDs.
    model: Any = load_algorithm(algo).load("run/model.zip", device="cpu")
    norms = []
    for critic in filter(None, (online_critic(model), target_critic(model))):
        layers = [[m for m in head if hasattr(m, "out_features")] for head in heads(critic)]
        norms.append(max(np.linalg.norm(x[1].weight.detach().numpy(), 2) for x in layers))
    told = f"largest sigma {norms[0]:.3f} online, "
    told += f"{norms[1]:.3f} target" if algo != "crossq" else "no target"
    assert told in line
    assert model.num_timesteps == 260
    last = json.loads((cwd / "run/progress.json").read_text().splitlines()[-1])
    assert last["sn/sigma_max"] == pytest.approx(max(norms))
    assert np.isfinite(last["values/bias_mean"])
    assert ("sn/lipschitz_bound_state" in last) == (algo != "crossq")
    assert ("sn/lipschitz_bound" in last) == (algo not in ("crossq", "dqn"))
    status = json.loads((cwd / "run/status.json").read_text())
    assert (status["evaluation"]["sigma_target"] is None) == (algo == "crossq")
    assert b"values/bias_mean" in tracked(cwd / "run")

    assert read_run(Path("run")).title == f"{algo.upper()} on {task} after 260 steps"

    # There is a best model; the configuration gives the same run again.
    best = load_algorithm(algo).load("run/best_model.zip", device="cpu")
    assert best.num_timesteps in (200, 260)
    again = [algo, "--config", "run/config.yaml", "--no-wandb", "--values", "off", "--out", "again"]
    assert main([*again, "--no-progress"]) == 0
    first, second = (np.load(cwd / name / "evaluations.npz") for name in ("run", "again"))
    np.testing.assert_array_equal(first["results"], second["results"])


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_help_explains_every_option(algo: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([algo, "--help"])
    text = capsys.readouterr().out
    for option in options(algo).values():
        assert option.flag in text
    used = {option.group for option in options(algo).values()}
    for name, (title, _) in GROUPS.items():
        assert (f"{title}:" in text) == (name in used)
    assert f"configs/{algo}.yaml" in " ".join(text.split())


def test_a_process(cwd: Path) -> None:
    command = [*COMMAND, "sac", "--sn", *TINY, "--total-timesteps", "240", "--out", "run"]
    done = subprocess.run(
        [*command, "--wandb-tags", "a", "b", "--no-progress"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    assert files(cwd) == {"run"}
    assert b'"python -m snrl.run sac --sn' in tracked(cwd / "run")
    assert b"train/critic_loss" in tracked(cwd / "run")

    # Its own configuration reproduces it, with a W&B that cannot be imported.
    blocked = "import sys; sys.modules['wandb'] = None; from snrl.run import main; sys.exit(main())"
    again = [sys.executable, "-c", blocked, "sac", "--config", "run/config.yaml", "--out", "again"]
    done = subprocess.run([*again, "--no-progress"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert "W&B" in done.stderr
    first, second = (np.load(cwd / name / "evaluations.npz") for name in ("run", "again"))
    np.testing.assert_array_equal(first["results"], second["results"])


def test_a_terminal_sees_a_bar_and_no_question(cwd: Path) -> None:
    controller, terminal = pty.openpty()
    command = [
        *COMMAND,
        "sac",
        *TINY,
        "--total-timesteps",
        "450",
        "--eval-freq",
        "100",
        "--track",
        "--out",
        "run",
    ]
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        seen = b""
        try:
            while chunk := os.read(controller, 4096):
                seen += chunk
        except OSError:
            # Linux's way to say that the other end is closed.
            pass
    os.close(controller)
    text = seen.decode()
    assert process.returncode == 0, text
    assert "450/450" in text
    assert "step/s" in text
    assert ", eval -" in text
    assert text.count("W&B tracks offline") == 1
    assert "choice" not in text
    assert (cwd / "run" / "wandb").is_dir()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_is_saved(number: signal.Signals, code: int, cwd: Path) -> None:
    command = [*COMMAND, "sac", *TINY, "--total-timesteps", "1000000", "--eval-freq", "240"]
    with subprocess.Popen(
        [*command, "--out", "run"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()
        # As Ctrl-C on a terminal: to the whole group, W&B's service included, and impatiently.
        os.killpg(process.pid, number)
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert out.count("\n") == 1
    assert f"interrupted by {number.name}" in out
    assert "Traceback" not in err
    run = cwd / "run"
    status = json.loads((run / "status.json").read_text())
    assert (status["status"], status["reason"]) == ("interrupted", number.name)
    assert SAC.load(run / "model.zip", device="cpu").num_timesteps == status["timesteps"]
    assert files(run) == {
        *("config.yaml", "status.json", "progress.json", "evaluations.npz"),
        *("model.zip", "best_model.zip", "wandb", "checkpoint", ".lock"),
    }
    assert b"eval/mean_reward" in tracked(run)


@pytest.mark.parametrize("help_", [["--help"], *([algo, "--help"] for algo in ALGORITHMS)])
def test_help_loads_nothing_heavy(help_: list[str]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "snrl.run", *help_]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert "snrl.runs.hyperparameters" in imported
    heavy = {"torch", "stable_baselines3", "sb3_contrib", "gymnasium", "wandb", "numpy"}
    assert not imported & heavy
    assert "usage: python -m snrl.run" in done.stdout
    if help_[0] == "sac":
        for word in ("--sn-coef", "--ent-coef", "--wandb-project", "spectral normalisation:"):
            assert word in done.stdout
        lines = [line.split(maxsplit=1) for line in done.stdout.splitlines() if line.strip()]
        first_words = {words[0]: words[-1] for words in lines}
        for name, summary in MODES.items():
            assert summary.startswith(first_words[name])
            assert len(first_words[name]) > 30
        assert "--policy-delay" not in done.stdout


def test_flags_of_the_issue(cwd: Path) -> None:
    """Every kind of flag at once, and what arrives in config.yaml."""
    flags = {
        "sn_layers": ["-1", "-2"],
        "sn_coef": ["2"],
        "sn_mode": ["penalty_to_coef"],
        "sn_mode_options": ["strength=1e-4", "exponent=3"],
        "n_power_iterations": ["2"],
        "block_size": ["2"],
        "seed": ["3"],
        "n_envs": ["2"],
        "train_freq": ["2", "step"],
        "target_entropy": ["-1"],
        "noise_type": ["normal"],
    }
    words = [w for name, v in flags.items() for w in ("--" + name.replace("_", "-"), *v)]
    arguments = ["sac", "--sn", *words, *TINY, "--use-sde", "--total-timesteps", "20"]
    assert main([*arguments, "--no-progress", "--no-wandb", "--out", "run"]) == 0
    config = yaml.safe_load((cwd / "run/config.yaml").read_text())
    assert config["sn_layers"] == [-1, -2]
    assert (config["sn_coef"], config["n_power_iterations"], config["block_size"]) == (2.0, 2, 2)
    assert config["sn_mode"] == "penalty_to_coef"
    assert config["sn_mode_options"] == {"strength": 1e-4, "exponent": 3.0}
    assert (config["seed"], config["n_envs"], config["train_freq"]) == (3, 2, 2)
    assert (config["target_entropy"], config["noise_type"]) == (-1.0, "normal")
    assert config["use_sde"] is True


@pytest.mark.parametrize("mode", MODES)
def test_a_run_in_every_mode(mode: str, cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schedule = ["--sn-coef", "2", "0.5", "10"] if mode != "penalty" else []
    arguments = ["td3", "--sn", "--sn-mode", mode, *schedule, *TINY, "--n-eval-episodes", "1"]
    length = ["--learning-starts", "5", "--total-timesteps", "30", "--eval-freq", "30"]
    assert main([*arguments, *length, "--no-progress", "--no-wandb", "--out", "run"]) == 0
    out, err = capsys.readouterr()
    assert (out.count("\n"), err) == (1, "")
    policy = TD3.load(cwd / "run/model.zip", device="cpu").policy
    assert policy.spectral.mode.name == mode
    if mode in ("normalize", "bidirectional"):
        assert "largest sigma 0.500 online, 0.500 target" in out
        assert policy.spectral.exact_sigmas() == pytest.approx([0.5] * 4, rel=1e-3)
    if mode in ("cap", "project", "hammer", "soft_cap"):
        assert policy.spectral.exact_sigmas()[:2].max().item() <= 0.5 * (1 + 1.5e-3)


BAD = {
    "the following arguments are required": [],
    "unknown algorithm ppo (choose from sac, td3, ddpg, tqc, crossq, dqn)": ["ppo"],
    "unknown flag --lerning-rate for sac: did you mean --learning-rate?": [
        *("sac", "--lerning-rate", "1")
    ],
    "unknown flag --policy-delay for sac": ["sac", "--policy-delay", "2"],
    # No abbreviations: a new option could change what one means.
    "unknown flag --learning for sac": ["sac", "--learning", "1"],
    "unexpected argument fast": ["sac", "fast"],
    "expected one argument": ["sac", "--seed"],
    "argument --seed: expected an integer in": ["sac", "--seed", "-1"],
    "argument --learning-rate: expected a positive number": ["sac", "--learning-rate", "0"],
    "argument --net-arch: expected positive layer widths": ["sac", "--net-arch", "0"],
    "argument --sn-coef: expected a number greater than 0, or two and a number of steps between": [
        *("sac", "--sn", "--sn-coef", "0")
    ],
    "a number of steps between them, got 4 1": ["sac", "--sn", "--sn-coef", "4", "1"],
    "argument --sn-mode: expected one of normalize, cap, bidirectional, gain, project, hammer,": [
        *("sac", "--sn", "--sn-mode", "caps")
    ],
    "argument --sn-mode needs --sn": ["sac", "--sn-mode", "cap"],
    "argument --sn-mode-options: expected options such as detach=true": [
        *("sac", "--sn", "--sn-mode-options", "detach")
    ],
    "mode 'cap' has no option 'detach'; it has none": [
        *("sac", "--sn", "--sn-mode", "cap", "--sn-mode-options", "detach=true")
    ],
    "strength must be a number greater than 0, got -1.0": [
        *("td3", "--sn", "--sn-mode", "penalty", "--sn-mode-options", "strength=-1")
    ],
    "argument --sn-coef needs --sn": ["sac", "--sn-coef", "2"],
    "layer -9 is outside the network": ["sac", "--sn", "--sn-layers", "-9"],
    "argument --sn-layers: expected hidden, all, or negative": ["sac", "--sn", "--sn-layers", "2"],
    "unknown environment Pendulum-v0: did you mean": ["sac", "--env", "Pendulum-v0"],
    "No module named 'nowhere'": ["sac", "--env", "nowhere:Task-v0"],
    "Empty module name": ["sac", "--env", ":Pendulum-v1"],
    "environment ..:Task-v0": ["sac", "--env", "..:Task-v0"],
    "device meta is not available": ["sac", "--device", "meta"],
    "date.yaml is not valid YAML": ["sac", "--config", "date.yaml"],
    "sac needs continuous actions": ["sac", "--env", "CartPole-v1"],
    "dqn needs discrete actions": ["dqn", "--env", "Pendulum-v1"],
    "unknown flag --tau for crossq": ["crossq", "--tau", "0.1"],
    "unknown flag --noise-type for dqn": ["dqn", "--noise-type", "normal"],
    "unknown flag --no-fast for tqc": ["tqc", "--no-fast"],
    'crossq needs sb3-contrib: pip install "snrl[contrib]"': ["crossq"],
    "device cuda:99 is not available": ["sac", "--device", "cuda:99"],
    "argument --values: expected one of off, light, full, got 'heavy'": [
        "sac",
        "--values",
        "heavy",
    ],
    "stop_on_divergence needs values light or full": [
        *("sac", "--values", "off", "--stop-on-divergence")
    ],
    "cannot read none.yaml": ["sac", "--config", "none.yaml"],
    "bad.yaml: unknown key gama: did you mean gamma? (allowed: env,": [
        *("sac", "--config", "bad.yaml")
    ],
    "--out taken holds another run": ["sac", "--out", "taken"],
    "--out bad.yaml is not a folder": ["sac", "--out", "bad.yaml"],
    "cannot write the run folder bad.yaml/run": ["sac", "--out", "bad.yaml/run"],
    "not allowed with argument": ["sac", "--track", "--no-wandb"],
    'Hopper-v5 needs mujoco: pip install "snrl[mujoco]"': ["sac", "--env", "Hopper-v5"],
    'LunarLanderContinuous-v3 needs Box2D: pip install "snrl[box2d]"': [
        *("sac", "--env", "LunarLanderContinuous-v3")
    ],
    '--tensorboard needs tensorboard: pip install "snrl[tensorboard]"': ["sac", "--tensorboard"],
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_one_line(
    message: str, cwd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (cwd / "bad.yaml").write_text("gama: 0.9\n")
    (cwd / "date.yaml").write_text("seed: 2020-13-45\n")
    (cwd / "taken").mkdir()
    (cwd / "taken/status.json").touch()
    for module in [n for n in sys.modules if n.startswith(("gymnasium.envs.mujoco", "mujoco"))]:
        monkeypatch.delitem(sys.modules, module)
    missing = ["mujoco", "Box2D", "tensorboard"]
    missing += ["sb3_contrib"] if "contrib" in message else []
    for module in missing:
        monkeypatch.setitem(sys.modules, module, None)
    assert main(BAD[message]) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith("snrl.run: error: ")
    assert message in line
    assert out == ""
    assert files(cwd) == {"bad.yaml", "date.yaml", "taken"}
    assert files(cwd / "taken") == {"status.json"}


def test_bad_input_in_a_process(cwd: Path) -> None:
    command = [*COMMAND, "sac", "--sn", "--sn-layers", "-9"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert files(cwd) == set()


def test_a_bug_in_the_task_fails_the_run(cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Failing(gym.Wrapper[Any, Any, Any, Any]):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(gym.make("Pendulum-v1", **kwargs))

        def step(self, action: Any) -> Any:
            raise RuntimeError(f"the task broke at {action}")

    gym.register("Failing-v0", Failing, disable_env_checker=True)
    assert main(["sac", "--env", "Failing-v0", *TINY, "--no-wandb", "--out", "run"]) == 1
    assert "RuntimeError: the task broke" in capsys.readouterr().err
    assert json.loads((cwd / "run/status.json").read_text())["status"] == "failed"
