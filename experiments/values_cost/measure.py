"""What share of a run do the measures of values take, at the default evaluation frequency?

SAC with the hyperparameters that are shipped for the task, which say how long a run is; a tenth of
that lies between two evaluations. In turns, in one process: some training steps, with the callback
attached but nothing due; a measurement of the light set; one of the full set. Then, for F steps
between evaluations, a step of time s of which the callback takes h, an evaluation of time E, and a
measurement of time M, the share is ``(F h + M) / (F s + E + M)``. Both in wall time and in the CPU
time of the process, which other processes disturb less.

    python experiments/values_cost/measure.py             # everything, fifteen minutes
    python experiments/values_cost/measure.py --quick --out quick.csv

Each number of threads has a process of its own. For tasks of at most 20,000 steps, whole runs of
``python -m snrl.run`` are made besides, one for each set on one thread: the share that they log
themselves. What is in the output file already is not measured again. ``table.py`` prints what the
README shows.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from tqdm import tqdm

from snrl.runs.build import build_model
from snrl.runs.config import resolve
from snrl.runs.envs import make_envs
from snrl.values import ValueStabilityCallback
from snrl.values.measurer import Measurer

sys.path.insert(0, str(Path(__file__).parents[1]))
from records import Records, per_threads

ENVS = ("Pendulum-v1", "Hopper-v5")
SETS = ("light", "full")
FIELDS = [
    "threads", "env", "rounds", "seed", "values", "eval_freq", "clock", "step_ms",
    "callback_ms", "evaluation_s", "measurement_s", "share", "logged_share",
]  # fmt: skip
WARMUP = 300  # steps of training before anything counts
CHUNK = 50  # training steps of a round
LONGEST_RUN = 20_000  # steps of a run that is made as a whole
NEVER = 10**9

Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}


class Stopwatch:
    """Times what it is asked to, by every clock."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, str], list[float]] = defaultdict(list)

    def __call__(self, name: str, work: Callable[[], object]) -> None:
        before = {clock: now() for clock, now in CLOCKS.items()}
        work()
        for clock, now in CLOCKS.items():
            self.seconds[name, clock].append(now() - before[clock])

    def median(self, name: str, clock: str) -> float:
        return statistics.median(self.seconds[name, clock])


class Chunk(BaseCallback):
    """Interrupts training after some steps, so that nothing takes it for over."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._steps = steps

    def _on_training_start(self) -> None:
        self._end = self.num_timesteps + self._steps

    def _on_step(self) -> bool:
        return self.num_timesteps < self._end


def measure(env: str, rounds: int, seed: int) -> list[dict[str, object]]:
    config = resolve("sac", {"env": env, "seed": seed, "device": "cpu"})
    training, evaluation = make_envs(config)
    model = build_model(config, training)
    model.set_logger(configure(None, []))
    callback = ValueStabilityCallback(env, "light", NEVER)
    measurers = {name: Measurer(model, env, name, say=lambda _: None) for name in SETS}

    def train(steps: int = CHUNK) -> None:
        model.learn(NEVER, [callback, Chunk(steps)], reset_num_timesteps=False)

    train(model.learning_starts + WARMUP)
    watch, hooks = Stopwatch(), []
    for round_ in tqdm(range(rounds + 1), desc=f"{env}, threads: {torch.get_num_threads()}"):
        if round_ == 1:  # the first one loads and allocates
            watch, hooks = Stopwatch(), []
        watch("train", train)
        hooks.append(callback.seconds / CHUNK)
        for name, measurer in measurers.items():
            watch(name, measurer.measure)
        if round_ % 5 <= 1:
            watch("evaluate", lambda: evaluate_policy(model, evaluation, config.n_eval_episodes))
    rows: list[dict[str, object]] = []
    for name in SETS:
        for clock in CLOCKS:
            step, hook = watch.median("train", clock) / CHUNK, statistics.median(hooks)
            pause, taken = watch.median("evaluate", clock), watch.median(name, clock)
            between = config.eval_freq * step + pause + taken
            row = {
                "values": name,
                "eval_freq": config.eval_freq,
                "clock": clock,
                "step_ms": step * 1e3,
                "callback_ms": hook * 1e3,
                "evaluation_s": pause,
                "measurement_s": taken,
                "share": (config.eval_freq * hook + taken) / between,
            }
            short = config.total_timesteps <= LONGEST_RUN
            if short and clock == "wall" and torch.get_num_threads() == 1:
                row["logged_share"] = logged_share(env, name, seed)
            rows.append(row)
    return rows


def logged_share(env: str, name: str, seed: int) -> float:
    """Make a whole run, and read from its log what share it found."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "snrl.run", "sac", "--env", env, "--values", name]
        command += ["--seed", str(seed), "--device", "cpu", "--no-wandb", "--out", str(out)]
        subprocess.run(command, check=True, capture_output=True)
        lines = (out / "progress.json").read_text().splitlines()
        shares = [json.loads(line).get("values/time_share") for line in lines]
    return [share for share in shares if share is not None][-1]


def record(args: argparse.Namespace, threads: int) -> None:
    torch.set_num_threads(threads)
    records = Records(args.out, FIELDS, 4)
    for env in args.envs:
        key = (threads, env, args.rounds, args.seed)
        if records.has(key):
            continue
        rows = measure(env, args.rounds, args.seed)
        records.add(key, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--envs", nargs="+", default=list(ENVS))
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--quick", action="store_true", help="three rounds, to see it work")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.csv"))
    args = parser.parse_args()
    if args.quick:
        args.rounds = 3
    per_threads(__file__, args.threads, partial(record, args))


if __name__ == "__main__":
    main()
