"""Every option of a run, in one table: name, kind, default, meaning.

The command line, its help, the YAML files and the check of their keys are all read from here.
Names and defaults of the hyperparameters are SB3's (a test compares them with the signatures).
Nothing here may import torch, SB3 or Gymnasium: ``--help`` has to answer at once.
"""

from collections.abc import Mapping

from snrl.runs.modes import MODES
from snrl.runs.options import algorithm, critic, policy, run, sn
from snrl.runs.options.option import ALGORITHMS, Option
from snrl.runs.stabilizers import STABILIZERS

__all__ = ["ALGORITHMS", "GROUPS", "LEFT_OUT", "Option", "options"]

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
    "optimizer_kwargs": "arguments of a Python class; CrossQ's Adam has its betas of 0.5 and 0.999",
}

# Title and explanation of each group, in the order of the help.
GROUPS: Mapping[str, tuple[str, str]] = {
    "run": ("task and length", "What is trained, for how long, and how it is evaluated."),
    "critic": (
        "critic",
        "What the critic, online and target, is composed of, besides --sn:\n"
        + "\n".join(f"  {name:<16} {summary}" for name, summary in STABILIZERS.items()),
    ),
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

_TABLES: Mapping[str, Mapping[str, Option]] = {
    algo: {
        option.name: option.of(algo)
        for subject in (run, critic, sn, algorithm, policy)
        for option in subject.OPTIONS
        if algo in option.algorithms
    }
    for algo in ALGORITHMS
}


def options(algo: str) -> Mapping[str, Option]:
    """Return the options of an algorithm by name, in the order of the help."""
    return _TABLES[algo]
