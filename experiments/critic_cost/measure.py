"""What does each stabiliser of a critic cost, beside a plain critic?

Times ``model.train()`` of SAC with a critic of every stabiliser that SAC can have, alone and with
``sn``, with Stable-Baselines3's update and with ``snrl``'s (where it serves the critic; else it is
Stable-Baselines3's, and the table says so). All take turns in one process, in an order drawn anew
for every round, on one replay buffer that was filled before; each counts its ratio to the plain
critic with Stable-Baselines3's update within the round. ``plain again`` is the noise.

    python experiments/critic_cost/measure.py           # five minutes, one thread
    python experiments/critic_cost/measure.py --quick --out quick.csv
    python experiments/critic_cost/measure.py --algorithm crossq  # the batch norms

A round is one gradient step of each. The first quarter of the rounds does not count. In a row: the
medians over the rounds of the time of a gradient step and of the ratio, with a 95% bootstrap
interval of the latter. ``redq`` has ten critics; ``plain, ten critics`` stands beside it.
"""

import argparse
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from tqdm import tqdm

import snrl.aliases  # noqa: F401
from snrl.algorithms import SOURCES, load_algorithm
from snrl.critics.stabilizers import STABILIZERS
from snrl.studies.statistics.aggregates import median
from snrl.studies.statistics.bootstrap import interval

sys.path.insert(0, str(Path(__file__).parents[1]))
from records import Records

FIELDS = [
    "algorithm", "env", "threads", "critic", "n_critics", "update", "rounds", "milliseconds",
    "ratio", "ratio_low", "ratio_high",
]  # fmt: skip
FILL = 1000  # transitions in the replay buffer
WARMUP = 0.25
PLAIN = ("plain", 2, "sb3")
ENSEMBLE = 10


def contestants(algorithm: str) -> list[tuple[str, int, str]]:
    """List critics, their number, and updates."""
    critics = [("plain", 2), ("plain again", 2), ("plain", ENSEMBLE)]
    for name in STABILIZERS:
        n_critics = ENSEMBLE if name == "redq" else 2
        critics.append((name, n_critics))
        if name != "sn":
            critics.append((f"sn+{name}", n_critics))
    updates = ["sb3", "snrl"] if SOURCES[algorithm].has_fast else ["sb3"]
    return [(*critic, update) for critic in critics for update in updates]


def build(algorithm: str, env: str, critic: str, n_critics: int, update: str) -> Any:
    """Build a model; None where the algorithm cannot have the critic."""
    policy_kwargs: dict[str, Any] = {"net_arch": [256, 256], "n_critics": n_critics}
    plain = critic.startswith("plain")
    if not plain:
        policy_kwargs["critic"] = critic
    try:
        return load_algorithm(algorithm, update == "snrl")(
            "MlpPolicy" if plain else "SNMlpPolicy",
            env,
            learning_starts=FILL,
            buffer_size=FILL,
            seed=0,
            device="cpu",
            policy_kwargs=policy_kwargs,
        )
    except ValueError as error:
        print(f"{critic}: {error}")
        return None


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    models: dict[tuple[str, int, str], OffPolicyAlgorithm] = {}
    for key in contestants(args.algorithm):
        if (model := build(args.algorithm, args.env, *key)) is not None:
            models[key] = model
    plain = models[PLAIN]
    plain.learn(FILL)
    for model in models.values():
        model.set_logger(plain.logger)
        model.replay_buffer = plain.replay_buffer
        model._current_progress_remaining = 1.0
    times: dict[tuple[str, int, str], list[float]] = defaultdict(list)
    order = np.random.default_rng(0)
    keys = list(models)
    with tqdm(total=args.rounds, unit="round") as bar:
        for i in range(args.rounds):
            for k in order.permutation(len(keys)):
                start = time.perf_counter()
                models[keys[k]].train(1, 256)
                if i >= WARMUP * args.rounds:
                    times[keys[k]].append(time.perf_counter() - start)
            bar.update()
    rows = []
    for key in keys:
        ratios = np.array(times[key]) / np.array(times[PLAIN])
        found = interval(ratios[:, None], median, resamples=2000)
        fast = getattr(models[key], "is_prepared", False)
        rows.append(
            {
                "critic": key[0],
                "n_critics": key[1],
                "update": "sb3's own" if key[2] == "snrl" and not fast else key[2],
                "rounds": len(ratios),
                "milliseconds": np.median(times[key]) * 1e3,
                "ratio": found.estimate,
                "ratio_low": found.low,
                "ratio_high": found.high,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--algorithm", default="sac", choices=SOURCES)
    parser.add_argument("--env", default="Pendulum-v1")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="a few rounds, to see it work")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.csv"))
    args = parser.parse_args()
    if args.quick:
        args.rounds = 8
    torch.set_num_threads(args.threads)
    records = Records(args.out, FIELDS, 3)
    key = (args.algorithm, args.env, args.threads)
    if not records.has(key):
        records.add(key, run(args))


if __name__ == "__main__":
    main()
