"""What does spectral normalisation add to a gradient step of stock Stable-Baselines3?

Times ``model.train()`` of SAC and TD3 with a plain policy, with a second plain policy (whose ratio
to the first is the noise of the measurement), with torch's ``spectral_norm`` put on the last hidden
layer of critic and target by hand, and with ``snrl`` on the same layer. All four take turns in one
process, in an order drawn anew for every round, on one replay buffer that was filled before; each
counts its ratio to the plain policy within the round. Only ``snrl`` trains with the hooks that it
registers for all optimisers of a process, so that the others are as fast as without it.

    python experiments/sn_cost/measure.py               # everything, six minutes on 2 cores; the
                                                        # README has --seconds 8
    python experiments/sn_cost/measure.py --quick --out quick.csv

A round is one gradient step of SAC, and two of TD3, which updates its actor at every other one.
Rounds in the first quarter of the time do not count. In a row: the medians over the rounds of the
time of a gradient step and of the ratio, with an interval that holds the median in 95 of 100
resamples of the rounds (percentile bootstrap). Each number of threads has a process of its own.
What is in the output file already is not measured again.
``table.py`` prints what the README shows.
"""

import argparse
import sys
import time
from collections import defaultdict
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.optim import optimizer as optimizers
from tqdm import tqdm

import snrl.aliases  # noqa: F401

sys.path.insert(0, str(Path(__file__).parents[1]))
from records import Records, per_threads

ALGORITHMS = {"sac": SAC, "td3": TD3}
NETWORKS = {"2×256": [256, 256], "4×512": [512, 512, 512, 512]}
ENVS = ("Pendulum-v1", "Hopper-v5")
METHODS = ("plain", "plain again", "torch", "snrl")
FIELDS = [
    "threads", "algorithm", "env", "network", "seconds", "seed", "method", "rounds",
    "milliseconds", "ratio", "ratio_low", "ratio_high",
]  # fmt: skip
FILL = 2000  # transitions in the replay buffer
WARMUP = 0.25  # of the seconds; until then, too, weights move much and snrl takes more steps
LEAST = 20  # rounds, however long they take
HOOKS = (optimizers._global_optimizer_pre_hooks, optimizers._global_optimizer_post_hooks)
REGISTERED = [dict(hooks) for hooks in HOOKS]


def build(method: str, algorithm: str, env: str, network: str, seed: int) -> OffPolicyAlgorithm:
    model = ALGORITHMS[algorithm](
        "SNMlpPolicy" if method == "snrl" else "MlpPolicy",
        env,
        learning_starts=FILL,
        seed=seed,
        device="cpu",
        policy_kwargs={"net_arch": NETWORKS[network]},
    )
    if method == "torch":
        for critic in (model.critic, model.critic_target):
            for q_network in critic.q_networks:
                spectral_norm([x for x in q_network if isinstance(x, nn.Linear)][-2])
        # The parametrised weights are new entries of the modules: the optimiser must hold them.
        learning_rate = model.critic.optimizer.param_groups[0]["lr"]
        model.critic.optimizer = torch.optim.Adam(model.critic.parameters(), lr=learning_rate)
        model.critic_target.load_state_dict(model.critic.state_dict())
    return model


def use_hooks(method: str) -> None:
    """Let optimisers call what ``snrl`` registered, or not."""
    for hooks, registered in zip(HOOKS, REGISTERED, strict=True):
        hooks.clear()
        hooks.update(registered if method == "snrl" else {})


def interval(values: np.ndarray, resamples: int = 2000) -> tuple[float, float]:
    """The percentile bootstrap's interval for the median."""
    chosen = np.random.default_rng(0).integers(0, len(values), (resamples, len(values)))
    low, high = np.quantile(np.median(values[chosen], axis=1), (0.025, 0.975))
    return float(low), float(high)


def run(algorithm: str, env: str, network: str, seconds: float, seed: int) -> list[dict[str, Any]]:
    models = {method: build(method, algorithm, env, network, seed) for method in METHODS}
    plain = models["plain"]
    plain.learn(FILL)
    for model in models.values():
        model.set_logger(plain.logger)
        model.replay_buffer = plain.replay_buffer
    steps = getattr(plain, "policy_delay", 1)
    times: dict[str, list[float]] = defaultdict(list)
    order = np.random.default_rng(seed)
    begin = time.perf_counter()
    while len(times["plain"]) < LEAST or time.perf_counter() < begin + seconds:
        counts = time.perf_counter() > begin + WARMUP * seconds
        for method in order.permutation(METHODS):
            use_hooks(method)
            start = time.perf_counter()
            models[method].train(steps, plain.batch_size)
            if counts:
                times[method].append((time.perf_counter() - start) / steps)
    rows = []
    for method in METHODS:
        ratios = np.array(times[method]) / np.array(times["plain"])
        low, high = interval(ratios)
        rows.append(
            {
                "method": method,
                "rounds": len(ratios),
                "milliseconds": np.median(times[method]) * 1e3,
                "ratio": np.median(ratios),
                "ratio_low": low,
                "ratio_high": high,
            }
        )
    return rows


def measure(args: argparse.Namespace, threads: int) -> None:
    torch.set_num_threads(threads)
    records = Records(args.out, FIELDS, 6)
    plan = list(product(args.algorithms, args.envs, args.networks))
    for algorithm, env, network in tqdm(plan, desc=f"threads: {threads}", unit="setting"):
        key = (threads, algorithm, env, network, args.seconds, args.seed)
        if records.has(key):
            continue
        rows = run(algorithm, env, network, args.seconds, args.seed)
        records.add(key, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--algorithms", nargs="+", default=list(ALGORITHMS), choices=ALGORITHMS)
    parser.add_argument("--envs", nargs="+", default=list(ENVS))
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--seconds", type=float, default=20.0, help="per setting")
    parser.add_argument("--quick", action="store_true", help="two seconds each, to see it work")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.csv"))
    args = parser.parse_args()
    if args.quick:
        args.seconds = 2.0
    per_threads(__file__, args.threads, partial(measure, args))


if __name__ == "__main__":
    main()
