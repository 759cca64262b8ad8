"""The task, the length and the measures of a run."""

from snrl.algorithms import SOURCES
from snrl.runs.options.option import Option
from snrl.runs.values import BOOLEAN, TEXT, VALUES, choice, integer

OPTIONS = (
    Option(
        "env",
        "run",
        TEXT,
        "Pendulum-v1",
        "Gymnasium task, as ID or module:ID",
        defaults={"dqn": "CartPole-v1"},
    ),
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
    Option(
        "matmul_precision",
        "run",
        choice("highest", "high", "medium"),
        None,
        "of float32 products, as torch.set_float32_matmul_precision takes it: medium rounds what "
        "they read to bfloat16 on processors that gain by it, high is for GPUs (TensorFloat32); "
        "torch's own if not given",
    ),
    Option(
        "fast",
        "run",
        BOOLEAN,
        True,
        "the faster update where it serves, else SB3's",
        algorithms=tuple(algo for algo, source in SOURCES.items() if source.has_fast),
    ),
    Option(
        "utd",
        "run",
        integer(1),
        None,
        "gradient steps per environment step; sets gradient_steps to as many times train_freq "
        "and n_envs",
    ),
)
