"""Every option of a run, in one table: name, kind, default, meaning.

The command line, its help, the YAML files and the check of their keys are all read from here.
Names and defaults of the hyperparameters are SB3's (a test compares them with the signatures).
Nothing here may import torch, SB3 or Gymnasium: ``--help`` has to answer at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snrl.runs.modes import MODES
from snrl.runs.values import (
    BOOLEAN,
    ENT_COEF,
    LEARNING_RATE,
    MODE_OPTIONS,
    NET_ARCH,
    SN_COEF,
    SN_LAYERS,
    TARGET_ENTROPY,
    TEXT,
    TRAIN_FREQ,
    VALUES,
    Kind,
    choice,
    integer,
    number,
)

ALGORITHMS = ("sac", "td3")
DEFAULT_ENV = "Pendulum-v1"

# SB3's arguments that are not options here, and why.
LEFT_OUT: Mapping[str, str] = {
    "policy": "follows from the observation space and --sn",
    "env": "given as --env and --n-envs",
    "action_noise": "given as noise_type and noise_std, as RL Zoo does",
    "replay_buffer_class": "a Python class; chosen by SB3 from the observation space and n_steps",
    "replay_buffer_kwargs": "its one plain setting is given as handle_timeout_termination",
    "tensorboard_log": "given as --tensorboard, which writes into the run folder",
    "policy_kwargs": "given one by one",
    "verbose": "a run speaks through its progress bar and its files",
    "_init_setup_model": "internal to SB3",
    "features_extractor_class": "a Python class; follows from the observation space",
    "features_extractor_kwargs": "arguments of a Python class",
    "normalize_images": "images are always scaled to 0..1",
    "optimizer_class": "a Python class; Adam, as published results use",
    "optimizer_kwargs": "arguments of a Python class",
}


@dataclass(frozen=True)
class Option:
    """One option of a run.

    Attributes:
        name: Key in YAML; the flag is ``--name`` with dashes.
        group: Key of :data:`GROUPS`.
        kind: How a value is read.
        default: The value without any source; None also means that null is accepted.
        help: What it does, one line.
        algorithms: The algorithms that have it.
    """

    name: str
    group: str
    kind: Kind
    default: Any
    help: str
    algorithms: tuple[str, ...] = ALGORITHMS

    @property
    def flag(self) -> str:
        """The flag on the command line."""
        return "--" + self.name.replace("_", "-")


# Title and explanation of each group, in the order of the help.
GROUPS: Mapping[str, tuple[str, str]] = {
    "run": ("task and length", "What is trained, for how long, and how it is evaluated."),
    "sn": (
        "spectral normalisation",
        "Holds the largest singular value (sigma) of critic layers, online and target, to a "
        "coefficient (coef), with --sn-mode:\n"
        + "\n".join(f"  {name:<15} {summary}" for name, summary in MODES.items()),
    ),
    "algorithm": (
        "hyperparameters",
        "SB3's names and defaults; configs/{algo}.yaml holds tested values per task.",
    ),
    "noise": ("action noise", "Noise added to the actions while training."),
    "policy": ("networks", "SB3's policy_kwargs."),
}

_SAC = ("sac",)
_TD3 = ("td3",)


def _options(algo: str) -> tuple[Option, ...]:
    return (
        Option("env", "run", TEXT, DEFAULT_ENV, "Gymnasium task, as ID or module:ID"),
        Option("total_timesteps", "run", integer(1), 1_000_000, "environment steps of the run"),
        Option("seed", "run", integer(0, 2**31 - 1), 0, "seed of weights, task and exploration"),
        Option("n_envs", "run", integer(1), 1, "number of training environments"),
        Option(
            "eval_freq",
            "run",
            integer(1),
            None,
            "environment steps between evaluations; a tenth of the run if not given",
        ),
        Option("n_eval_episodes", "run", integer(1), 10, "episodes of each evaluation"),
        Option(
            "values",
            "run",
            VALUES,
            "light",
            "measure the values at each evaluation: off, light (up to 2%% of the time) or full "
            "(up to 10%%)",
        ),
        Option("stop_on_divergence", "run", BOOLEAN, False, "end the run where its values diverge"),
        Option("device", "run", TEXT, "auto", "auto, cpu, cuda or cuda:N"),
        Option("fast", "run", BOOLEAN, True, "the faster update where there is one, else SB3's"),
        Option(
            "utd",
            "run",
            integer(1),
            None,
            "gradient steps per environment step; sets gradient_steps to as many times train_freq "
            "and n_envs",
        ),
        Option("sn", "sn", BOOLEAN, False, "normalise the critics"),
        Option(
            "sn_layers",
            "sn",
            SN_LAYERS,
            [-2],
            "layers of each critic, counted from the output (-1): negative integers, hidden (all "
            "but first and output) or all",
        ),
        Option(
            "sn_coef",
            "sn",
            SN_COEF,
            1.0,
            "norm each of these layers is held to; or three numbers, to go linearly from one to "
            "another over that many gradient steps",
        ),
        Option("sn_mode", "sn", choice(*MODES), "normalize", "how it is held; see above"),
        Option(
            "sn_mode_options",
            "sn",
            MODE_OPTIONS,
            None,
            "options of that mode: detach=BOOL of normalize, bidirectional, gain and div_out; "
            "strength=X of the penalties, exponent=X of penalty_to_coef; leave_smaller=BOOL of "
            "div_grad and layer_lr",
        ),
        Option("n_power_iterations", "sn", integer(1), 1, "iterations per update of the weights"),
        Option("block_size", "sn", integer(1), 4, "vectors iterated together"),
        Option("sn_features", "sn", BOOLEAN, False, "also normalise the features extractor"),
        Option(
            "learning_rate",
            "algorithm",
            LEARNING_RATE,
            {"sac": 3e-4, "td3": 1e-3}[algo],
            "learning rate of all optimisers; lin_X falls linearly from X to 0",
        ),
        Option("buffer_size", "algorithm", integer(1), 1_000_000, "transitions kept"),
        Option("learning_starts", "algorithm", integer(0), 100, "random steps before learning"),
        Option("batch_size", "algorithm", integer(1), 256, "transitions per gradient step"),
        Option("tau", "algorithm", number(above=0, high=1), 0.005, "Polyak step of the target"),
        Option("gamma", "algorithm", number(low=0, high=1), 0.99, "discount factor"),
        Option(
            "train_freq", "algorithm", TRAIN_FREQ, 1, "collect N steps, or N episode, per update"
        ),
        Option(
            "gradient_steps",
            "algorithm",
            integer(-1),
            1,
            "gradient steps per update; -1 for as many as steps were collected",
        ),
        Option(
            "optimize_memory_usage",
            "algorithm",
            BOOLEAN,
            False,
            "store next observations once; needs --no-handle-timeout-termination",
        ),
        Option(
            "handle_timeout_termination",
            "algorithm",
            BOOLEAN,
            True,
            "bootstrap from states cut off by a time limit",
        ),
        Option("n_steps", "algorithm", integer(1), 1, "steps of the n-step return"),
        Option(
            "ent_coef",
            "algorithm",
            ENT_COEF,
            "auto",
            "entropy coefficient; auto learns it, auto_X from X",
            _SAC,
        ),
        Option(
            "target_update_interval",
            "algorithm",
            integer(1),
            1,
            "gradient steps between target updates",
            _SAC,
        ),
        Option(
            "target_entropy",
            "algorithm",
            TARGET_ENTROPY,
            "auto",
            "entropy that ent_coef auto aims at; auto is minus the number of actions",
            _SAC,
        ),
        Option("use_sde", "algorithm", BOOLEAN, False, "state-dependent exploration (gSDE)", _SAC),
        Option(
            "sde_sample_freq",
            "algorithm",
            integer(-1),
            -1,
            "steps between gSDE noise samples; -1 for once per rollout",
            _SAC,
        ),
        Option(
            "use_sde_at_warmup", "algorithm", BOOLEAN, False, "gSDE before learning starts", _SAC
        ),
        Option("policy_delay", "algorithm", integer(1), 2, "critic updates per actor update", _TD3),
        Option(
            "target_policy_noise",
            "algorithm",
            number(low=0),
            0.2,
            "standard deviation of the noise on target actions",
            _TD3,
        ),
        Option("target_noise_clip", "algorithm", number(low=0), 0.5, "bound of that noise", _TD3),
        Option(
            "stats_window_size",
            "algorithm",
            integer(1),
            100,
            "episodes over which rollout/ values are averaged",
        ),
        Option(
            "noise_type",
            "noise",
            choice("normal", "ornstein-uhlenbeck"),
            None,
            "normal or ornstein-uhlenbeck",
        ),
        Option("noise_std", "noise", number(low=0), 0.1, "its standard deviation, per action"),
        Option(
            "net_arch",
            "policy",
            NET_ARCH,
            None,
            "hidden widths such as 400 300, or pi=64,64 qf=400,300; SB3's own if not given "
            "(256 256 for SAC; 400 300 for TD3, 256 256 from images)",
        ),
        Option(
            "activation_fn",
            "policy",
            choice("relu", "tanh", "elu", "leaky_relu", "gelu", "silu"),
            "relu",
            "relu, tanh, elu, leaky_relu, gelu or silu",
        ),
        Option("n_critics", "policy", integer(1), 2, "number of critics"),
        Option(
            "share_features_extractor",
            "policy",
            BOOLEAN,
            False,
            "one features extractor for actor and critic",
        ),
        Option("log_std_init", "policy", number(), -3.0, "initial log deviation of gSDE", _SAC),
        Option("use_expln", "policy", BOOLEAN, False, "expln in place of exp in gSDE", _SAC),
        Option("clip_mean", "policy", number(low=0), 2.0, "bound of the mean with gSDE", _SAC),
    )


_TABLES: Mapping[str, Mapping[str, Option]] = {
    algo: {option.name: option for option in _options(algo) if algo in option.algorithms}
    for algo in ALGORITHMS
}


def options(algo: str) -> Mapping[str, Option]:
    """Return the options of an algorithm by name, in the order of the help."""
    return _TABLES[algo]
